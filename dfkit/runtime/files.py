"""Writes result files whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from dfkit.errors import DfkitError


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Writes a file beside its place and moves it there: a full disk or Ctrl-C leaves the old one.

    Args:
        path: Where to; missing folders are made.
        content: Text is written as UTF-8.
    Returns:
        The path.
    Raises:
        DfkitError: The disk is full, the folder cannot be written, or a folder has that name.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DfkitError(
            f"{path} cannot be written: {error.strerror or error}",
            fix="free space there, or choose another place",
        ) from error
    return path
