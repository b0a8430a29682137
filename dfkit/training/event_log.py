"""Writes TensorBoard event files without importing TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from dfkit.console import uninterrupted

NO_TENSORFLOW = "tensorboard.compat.notf"
"""Module whose presence tells tensorboard to use its own stand-in for TensorFlow's file functions."""


class UninterruptedLogger(TensorBoardLogger):
    """Lets a Ctrl-C wait until what is logged stands in the writer's queue.

    The writer hands rows to a thread through locks. Interrupted between the two, it waits for ever when the program
    ends.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics of a step."""
        with uninterrupted():
            super().log_metrics(metrics, step)

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Logs the configuration."""
        with uninterrupted():
            super().log_hyperparams(*arguments, **named)

    def save(self) -> None:
        """Writes what is queued."""
        with uninterrupted():
            super().save()

    def finalize(self, status: str) -> None:
        """Writes what is queued and closes the file."""
        with uninterrupted():
            super().finalize(status)


def tensorboard_logger(run_dir: Path) -> TensorBoardLogger:
    """A logger that writes into `run_dir/tensorboard`.

    Where TensorFlow is installed, tensorboard would import it only to open files: 3.5 s, 300 MB, and lines on stderr.
    """
    sys.modules.setdefault(NO_TENSORFLOW, ModuleType(NO_TENSORFLOW))
    return UninterruptedLogger(str(run_dir), name="tensorboard", version="")
