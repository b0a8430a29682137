"""Runs the converters: quietly while they work, with all that they said where they fail."""

from __future__ import annotations

import contextlib
import io
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dfkit.errors import DISK_FULL_ERRNOS, ConversionError, DfkitError, MissingExtraError
from dfkit.native_log import native_log

GraphPart = tuple[str, torch.nn.Module, tuple[torch.Tensor, ...]]
"""Signature key, module, example inputs."""


@contextlib.contextmanager
def quiet_converter() -> Iterator[Callable[[], str]]:
    """Keeps a converter's own progress out of the terminal; the function it gives says what was said so far."""
    said = io.StringIO()
    with (
        warnings.catch_warnings(),
        native_log(everything=True) as native,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        warnings.simplefilter("ignore")
        yield lambda: said.getvalue() + native()


@contextlib.contextmanager
def conversion(what: str) -> Iterator[None]:
    """Runs a converter within.

    Args:
        what: Starts the message, such as `conversion to TFLite`.
    Raises:
        ConversionError: The converter raised anything; its first line is in the message, the rest in `log`.
    """
    with quiet_converter() as said:
        try:
            yield
        except DfkitError:
            raise
        except Exception as error:  # a converter raises whatever its passes raise
            if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
                raise
            first = next(iter(str(error).strip().splitlines()), "")
            raise ConversionError(
                f"{what} failed: {type(error).__name__}: {first}",
                log=f"{said()}\n{traceback.format_exc()}",
            ) from error


def convert_graphs(parts: Sequence[GraphPart]) -> bytes:
    """Converts modules to one float32 .tflite, one signature each.

    Returns:
        Content of the file.
    Raises:
        MissingExtraError: litert-torch is not installed.
        ConversionError: The converter failed.
    """
    try:
        with quiet_converter():
            import litert_torch
    except ModuleNotFoundError as error:
        raise MissingExtraError("litert-torch", "export") from error
    with tempfile.TemporaryDirectory() as folder, conversion("conversion to TFLite"):
        path = Path(folder) / "model.tflite"
        chain: Any = litert_torch
        for key, graph, example in parts:
            chain = chain.signature(key, graph, example)
        chain.convert(strict_export=False).export(str(path))
        return path.read_bytes()
