"""Writes files and folders whole or not at all: what is found under a name is complete. Reads what may be anything.

Names of files need not be UTF-8: Python holds each byte of such a name that is none as a lone surrogate (PEP 383). All
text that is written here spells it `\\udcb0` (for the byte 0xB0). In JSON that is an escape, so `json.loads` gives the
name back and the file is found again; elsewhere `name_from_text` does.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dfkit.errors import DISK_FULL_ERRNOS, DfkitError

CACHE_VARIABLE = "DFKIT_CACHE"
"""Environment variable that names another folder for what dfkit keeps for a user."""
TEMPORARY_PREFIX = ".tmp-"
"""How names of unfinished files and folders begin; what a killed process left is known by it."""
NAME_ERRORS = "backslashreplace"
"""Error handler of all text that may hold names of files."""
_SURROGATE = re.compile(r"\\u(d[89a-f][0-9a-f]{2})")


def encode_text(text: str) -> bytes:
    """UTF-8 of any text, names of files included."""
    return text.encode("utf-8", NAME_ERRORS)


def name_to_text(name: str | Path) -> str:
    """A file's name as it stands in text that is written: what is not Unicode is spelled `\\udcb0`."""
    return encode_text(str(name)).decode("utf-8")


def name_from_text(text: str) -> str:
    """The name that `name_to_text` spelled."""
    return _SURROGATE.sub(lambda match: chr(int(match[1], 16)), text)


def open_text(path: Path, mode: str = "w") -> IO[str]:
    """Opens a file for text that may hold names of files; line ends stay as they are written."""
    return path.open(mode, encoding="utf-8", errors=NAME_ERRORS, newline="")


KEPT_CHARACTERS = 60
"""Of a name in its temporary one: a name of 255 bytes has to have one, too. The end, where the suffix is."""
PACKAGE = Path(__file__).resolve().parent


def temporary_beside(path: Path) -> Path:
    """A hidden name beside a file or folder that no other writer uses, in this process or another."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name[-KEPT_CHARACTERS:]}")


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
        content: Text is written as UTF-8, names of files in it by `encode_text`, line ends as they are.
    Returns:
        The path.
    Raises:
        OSError: The disk is full.
        DfkitError: The folder cannot be written, or a folder has that name.
    """
    path = Path(path)
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(encode_text(content) if isinstance(content, str) else content)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise
        raise output_error(path, error) from error
    return path


def output_error(path: Path, error: OSError) -> DfkitError:
    """What a user can do about a file or folder that cannot be written; the one rule for all outputs.

    Args:
        path: What was to be written.
        error: What the system said.
    """
    blocker = next((place for place in (path, *path.parents) if _is_other_than_folder(place)), None)
    code = error.errno
    if code in DISK_FULL_ERRNOS:
        found, fix = "no space left", "free space, or choose a place on another disk"
    elif code == errno.EROFS:
        found, fix = "that disk is read-only", "choose a place on another disk"
    elif code == errno.ENOENT:
        found, fix = f"{_existing_folder(path)} takes no new folders", "choose another place"
    elif code in (errno.ENOTDIR, errno.EEXIST) and blocker is not None:
        found, fix = f"{blocker} is a file, and a folder is needed there", f"choose another place, or move {blocker}"
    elif code == errno.EISDIR or (code == errno.EEXIST and path.is_dir()):
        found, fix = "it is a folder, and a file is needed there", "choose another name, or a name in that folder"
    elif code == errno.ENAMETOOLONG:
        found, fix = "its name is too long for this disk", "choose a shorter name"
    elif code in (errno.EACCES, errno.EPERM):
        found = f"you may not write in {_existing_folder(path)}"
        fix = "name a place that you may write to (--workspace, --out and the like), or change its permissions"
        if sys.platform == "win32" and path.is_file():
            found, fix = "it may not be changed", "close the program that has it open, or choose another name"
    else:
        found, fix = error.strerror or str(error), "choose another place"
    return DfkitError(f"{path} cannot be written: {found}", fix=fix)


def explain_os_error(error: OSError) -> DfkitError | None:
    """The message for a system's error that nobody nearer to the cause has explained.

    Args:
        error: As it was raised.
    Returns:
        None where it names no file of the user's, so that it is a fault of ours and keeps its traceback.
    """
    name = error.filename2 or error.filename
    last = traceback.extract_tb(error.__traceback__)[-1:]
    if not isinstance(name, (str, bytes, os.PathLike)) or any(Path(f.filename).stem == "subprocess" for f in last):
        return None
    path = Path(os.fsdecode(name))
    if path.absolute().is_relative_to(PACKAGE):
        return None
    if error.errno == errno.ENOENT and not any(frame.name in ("mkdir", "makedirs") for frame in last):
        return DfkitError(f"there is no such file or folder: {path}", fix="check the path")
    if error.errno in (errno.EACCES, errno.EPERM) and path.exists() and not os.access(path, os.R_OK):
        return DfkitError(f"you may not read {path}", fix="change its permissions, or name a copy")
    if error.errno == errno.EISDIR:
        return DfkitError(f"{path} is a folder, and a file is needed there", fix="name a file, or another place")
    return output_error(path, error)


def check_output_file(path: str | Path) -> None:
    """Says before any work whether a file can be written; nothing of it is made.

    Raises:
        DfkitError: It cannot, and why.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "", str(path))
        if path.exists() and not path.is_file():
            raise DfkitError(f"{path} is a pipe or a device; results are written to files", fix="name a file")
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "", str(path))
        _try_name(path)
        check_output_folder(path.parent)
    except OSError as error:
        raise output_error(path, error) from error


def check_output_folder(folder: str | Path) -> None:
    """Says before any work whether files can be written in a folder, which may have to be made; it is not made.

    Raises:
        DfkitError: They cannot, and why.
    """
    folder = Path(folder)
    try:
        _try_name(folder)
        blocker = next((place for place in (folder, *folder.parents) if _is_other_than_folder(place)), None)
        if blocker is not None:
            raise NotADirectoryError(errno.ENOTDIR, "", str(blocker))
        # A folder, as will be made: /proc takes neither, and its error for a file is that of a missing path.
        with tempfile.TemporaryDirectory(dir=_existing_folder(folder), prefix=TEMPORARY_PREFIX):
            pass
    except OSError as error:
        raise output_error(folder, error) from error


def _try_name(path: Path) -> None:
    """Asks the system for a path, so that it refuses one that is too long."""
    with suppress(FileNotFoundError):
        path.lstat()


def _existing_folder(path: Path) -> Path:
    """The innermost of a path and its folders that is there."""
    return next((place for place in (path, *path.parents) if _is_folder(place)), Path())


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def _is_other_than_folder(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


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
