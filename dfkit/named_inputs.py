"""What a user named as a video, a bundle or a checkpoint, and is none: told before anything is opened.

A pipe or a device is never opened: reading it waits for ever. What only a file's content tells is not decided here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dfkit.errors import BundleError, CheckpointError, DataError

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
"""Two letters at least before the colon: one is a drive of Windows. `Path` makes one slash of two."""
STREAM_SCHEMES = frozenset({"rtsp", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp", "mms"})
GLOB_CHARACTERS = frozenset("*?[")
GRAPH_SUFFIXES = (".tflite", ".onnx")
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")
MANIFEST_FILE = "manifest.json"
SPECIAL_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_RECORD = "record a part of it into a file first: ffmpeg -i {source} -t 60 recording.mp4"
_TO_FILE = "write it into a file first, and name that"


@dataclass(frozen=True)
class InputFault:
    """What a path is, where it is not what was asked for, and what to do about it."""

    found: str
    fix: str

    @property
    def sentence(self) -> str:
        """Both in one line."""
        return f"{self.found}. Fix: {self.fix}"


def address_of(path: str | Path) -> str | None:
    """The address on the network that was named in place of a file; None for a path."""
    text = str(path)
    match = ADDRESS.match(text)
    if match is None or _exists(Path(path)):
        return None
    return f"{match[1]}://{text[match.end() :]}"


def video_fault(path: str | Path) -> InputFault | None:
    """Why a named video is none, as far as that is known without opening it; None where it may be one.

    A file that is simply not there is none of these, unless its name says why.
    """
    path = Path(path)
    fault = _general_fault(path, "videos")
    if fault is not None:
        return fault
    suffix = path.suffix.lower()
    if path.is_file() and suffix in GRAPH_SUFFIXES:
        return InputFault(f"{path} is a model, not a video", _graph_fix(path, option=True))
    if path.is_file() and suffix in CHECKPOINT_SUFFIXES:
        return InputFault(f"{path} is a checkpoint, not a video", f"dfkit predict VIDEO --checkpoint {path}")
    if path.is_file() and suffix in ARCHIVE_SUFFIXES:
        return InputFault(f"{path} is an archive, not a video", "unpack it, and name the folder")
    if path.is_dir() and (path / MANIFEST_FILE).is_file():
        return InputFault(f"{path} is a bundle, not a folder of videos", f"dfkit predict VIDEO --bundle {path}")
    return None


def require_videos(paths: Iterable[str | Path]) -> None:
    """Refuses named videos that are none.

    Raises:
        DataError: Names all that are no videos; the fix is that of the first.
    """
    faults = [fault for fault in map(video_fault, paths) if fault is not None]
    if faults:
        raise DataError("\n".join(fault.found for fault in faults), fix=faults[0].fix)


def require_bundle(path: str | Path) -> None:
    """Refuses what was named as a bundle and is something else that can be recognised.

    Raises:
        BundleError: Says what it is.
    """
    path = Path(path)
    fault = _general_fault(path, "bundles")
    suffix = path.suffix.lower()
    if fault is None and path.is_file() and suffix in GRAPH_SUFFIXES:
        fault = InputFault(f"{path} is a lone model file, not a bundle: a folder or .zip", _graph_fix(path))
    elif fault is None and path.is_file() and suffix in CHECKPOINT_SUFFIXES:
        fault = InputFault(
            f"{path} is a checkpoint, not a bundle",
            f"--checkpoint {path}, or make a bundle of it: dfkit export --checkpoint {path}",
        )
    elif fault is None and path.is_file() and path.name == MANIFEST_FILE:
        fault = InputFault(f"{path} is a bundle's list of files", f"name its folder: {path.parent}")
    elif fault is None and path.is_dir() and not (path / MANIFEST_FILE).exists() and (path / "best.pth").is_file():
        fault = InputFault(f"{path} is the folder of a training run, not a bundle", f"--checkpoint {path / 'best.pth'}")
    if fault is not None:
        raise BundleError(fault.found, fix=fault.fix)


def require_checkpoint(path: str | Path) -> None:
    """Refuses what was named as a checkpoint and is something else that can be recognised.

    Raises:
        CheckpointError: Says what it is.
    """
    path = Path(path)
    fault = _general_fault(path, "checkpoints")
    if fault is None and path.is_dir():
        fault = _folder_for_checkpoint(path)
    elif fault is None and path.is_file() and path.suffix.lower() in GRAPH_SUFFIXES:
        fault = InputFault(f"{path} is an exported model, not a checkpoint", _graph_fix(path, option=True))
    elif fault is None and path.is_file() and path.suffix.lower() == ".zip":
        fault = InputFault(f"{path} is an archive, not a checkpoint", f"if it is a bundle: --bundle {path}")
    if fault is not None:
        raise CheckpointError(fault.found, fix=fault.fix)


def _folder_for_checkpoint(path: Path) -> InputFault:
    if (path / MANIFEST_FILE).is_file():
        return InputFault(f"{path} is a bundle, not a checkpoint", f"--bundle {path}")
    inside = next((path / name for name in ("best.pth", "last.pth") if (path / name).is_file()), path / "NAME.pth")
    return InputFault(f"{path} is a folder, not a checkpoint", f"name the file in it: {inside}")


def _graph_fix(path: Path, *, option: bool = False) -> str:
    """How a lone graph is used: the bundle that it lies in, where there is one."""
    if (path.parent / MANIFEST_FILE).is_file():
        return f"name the bundle that it belongs to: {'--bundle ' if option else ''}{path.parent}"
    return f"name the folder that dfkit export wrote, with its manifest.json; dfkit inspect {path} shows what this is"


def _general_fault(path: Path, what: str) -> InputFault | None:
    """What fits neither a video nor a model: addresses, standard input, pipes, patterns, places inside of files."""
    address = address_of(path)
    if address is not None:
        return InputFault(f"{address} is an address, not a file; {what} are read from disk", _address_fix(address))
    if str(path) == "-":
        return InputFault(f"- is standard input, not a file; {what} are read from disk", _TO_FILE)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - follows links and opens nothing
    except FileNotFoundError:
        return _missing_fault(path)
    except NotADirectoryError:
        return _inside_fault(path)
    except (OSError, ValueError):
        return None
    kind = next((name for is_kind, name in SPECIAL_KINDS if is_kind(mode)), None)
    return None if kind is None else InputFault(f"{path} is {kind}, not a file", _TO_FILE)


def _address_fix(address: str) -> str:
    scheme = address.split(":", 1)[0].lower()
    if scheme == "file":
        return "name the path alone, without file://"
    if scheme in ("http", "https", "ftp"):
        name = re.split(r"[?#]", address)[0].rstrip("/").rsplit("/", 1)[-1]
        return f"download it first: curl -L -o '{name if '.' in name else 'video.mp4'}' '{address}'"
    if scheme in STREAM_SCHEMES:
        return _RECORD.format(source=f"'{address}'")
    return "copy it to this machine first, and name the copy"


def _missing_fault(path: Path) -> InputFault | None:
    if GLOB_CHARACTERS.intersection(str(path)):
        return InputFault(
            f"{path} is a pattern, and no file has that name: in quotes the shell does not replace it by names",
            "leave the quotes away, or name the folder",
        )
    # Windows says so instead of "not a folder".
    return _inside_fault(path)


def _inside_fault(path: Path) -> InputFault | None:
    """A place inside of a file: of an archive, mostly."""
    file = next((parent for parent in path.parents if _exists(parent) and parent.is_file()), None)
    if file is None:
        return None
    archive = file.suffix.lower() in ARCHIVE_SUFFIXES
    kind, fix = ("an archive", f"unpack {file} first") if archive else ("a file", "correct the path")
    return InputFault(f"{path} cannot be there: {file} is {kind}, not a folder", fix)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
