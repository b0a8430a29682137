"""Writes TensorBoard event files without importing TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from lightning.pytorch.loggers import TensorBoardLogger

NO_TENSORFLOW = "tensorboard.compat.notf"
"""Module whose presence tells tensorboard to use its own stand-in for TensorFlow's file functions."""


def tensorboard_logger(run_dir: Path) -> TensorBoardLogger:
    """A logger that writes into `run_dir/tensorboard`.

    Where TensorFlow is installed, tensorboard would import it only to open files: 3.5 s, 300 MB, and lines on stderr.
    """
    sys.modules.setdefault(NO_TENSORFLOW, ModuleType(NO_TENSORFLOW))
    return TensorBoardLogger(str(run_dir), name="tensorboard", version="")
