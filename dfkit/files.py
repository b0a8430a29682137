"""Writes files and folders whole or not at all: what is found under a name is complete. Reads what may be anything."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfkit.errors import DISK_FULL_ERRNOS, DfkitError

CACHE_VARIABLE = "DFKIT_CACHE"
"""Environment variable that names another folder for what dfkit keeps for a user."""
TEMPORARY_PREFIX = ".tmp-"
"""How names of unfinished files and folders begin; what a killed process left is known by it."""


def temporary_beside(path: Path) -> Path:
    """A hidden name beside a file or folder that no other writer uses, in this process or another."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")


def cache_folder(name: str) -> Path:
    """Folder for one kind of what may be lost: in `DFKIT_CACHE`, else in the user's cache folder of this system.

    Raises:
        RuntimeError: No variable names it, and the user has no home.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named) / name
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        given = os.environ.get("XDG_CACHE_HOME")
        base = Path(given) if given else Path.home() / ".cache"
    return base / "dfkit" / name


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write under; the file gets its own name when it is whole, and only then.

    Args:
        path: Where the file goes; one that is there is replaced. Missing folders are made.
    Raises:
        OSError: It cannot be written; what stood under the name before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder to fill; it gets its own name when it is whole, and only then.

    Args:
        path: Where the folder goes.
    Raises:
        FileExistsError: Something that is no empty folder has that name by then; it is left as it is.
        OSError: The folder cannot be written.
    """
    with scratch_folder(path) as temporary:
        yield temporary
        move_folder(temporary, path)


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """An empty folder on the same disk as a path; removed in the end, unless it was moved away."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(beside)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def move_folder(folder: Path, path: Path) -> None:
    """Gives a folder its name in one step.

    Raises:
        FileExistsError: Something that is no empty folder has that name; it is left as it is.
    """
    try:
        folder.rename(path)
    except OSError as error:
        if path.exists():
            raise FileExistsError(error.errno, "there is one already", str(path)) from error
        raise


def flush_to_disk(path: Path) -> None:
    """Waits until a file's content is on the disk: a rename that outlives a power cut must not name an empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Writes a file such that a reader sees the old content or the new, never a part.

    Args:
        path: Where to; missing folders are made.
        content: Text is written as UTF-8, line ends as they are.
    Returns:
        The path.
    Raises:
        OSError: The disk is full.
        DfkitError: The folder cannot be written, or a folder has that name.
    """
    path = Path(path)
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise
        raise DfkitError(
            f"{path} cannot be written: {error.strerror or error}",
            fix="free space there, or choose another place",
        ) from error
    return path


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copies a file, whole or not at all; one that has the name already is replaced.

    Raises:
        OSError: The source cannot be read or the copy not be written.
    """
    with whole_file(Path(target)) as temporary:
        shutil.copyfile(source, temporary)
