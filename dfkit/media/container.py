"""Opens media files, and refuses what cannot be one before memory is spent on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError

from dfkit.errors import MediaError
from dfkit.file_kinds import foreign_kind

logger = logging.getLogger(__name__)
T = TypeVar("T")

# What decoders say about damage is counted and said once, in words (`Coverage`); raw, it would flood a terminal.
av.logging.set_level(None)

MAX_SIDE_PX = 8192
"""Longest side of a picture that is decoded."""
MAX_AREA_PX = 36_000_000
"""Largest picture that is decoded; 8K is 33.2 million pixels."""
MAX_STREAMS = 64
"""Tracks of a file; each of a thousand may ask for a table of megabytes."""
FORMATS = (
    "mov",
    "mp4",
    "m4a",
    "3gp",
    "3g2",
    "mj2",
    "matroska",
    "webm",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "avi",
    "flv",
    "asf",
    "ogg",
    "h264",
    "hevc",
    "m4v",
    "mxf",
    "nut",
)
"""Names of FFmpeg's demuxers that open a file. A playlist renamed to .mp4 would open other files or the network."""
END_OF_PACKETS = (StopIteration, IndexError)
"""What reading packets ends with. IndexError: PyAV counts the streams at the beginning; in a transport stream others
may begin later, and at the end it looks for them in vain."""
_CONVERT = "convert it: ffmpeg -i INPUT -c:v libx264 -c:a aac OUTPUT.mp4"


def readable(packets: Iterator[T]) -> Iterator[T]:
    """Packets as `demux` gives them, up to the end of the file or to where it cannot be read on."""
    while True:
        try:
            packet = next(packets)
        except (*END_OF_PACKETS, FFmpegError, ValueError):
            return
        yield packet


def media_error(path: Path, status: str, reason: str, fix: str = _CONVERT) -> MediaError:
    """The error for a file that cannot be used, to be raised by the caller.

    Args:
        path: The file.
        status: `unreadable`, `no_face`, `no_audio` or `too_short`.
        reason: What was found and what was expected.
        fix: What the user can do.
    Returns:
        An error whose message names the file.
    """
    return MediaError(f"{path}: {reason}", status=status, fix=fix)


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """Opens a media file for reading.

    Args:
        path: A file on disk; never an address.
    Yields:
        The open container, closed at the end.
    Raises:
        MediaError: `unreadable`: missing, empty or not a media file.
    """
    path = Path(path)
    if not path.is_file():
        raise media_error(path, "unreadable", "there is no such file", "check the path")
    if path.stat().st_size == 0:
        raise media_error(path, "unreadable", "the file is empty", "copy it again from its source")
    limits = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(FORMATS),
        "max_pixels": str(MAX_AREA_PX),
        "max_streams": str(MAX_STREAMS),
    }
    try:
        # The prefix keeps a name such as "concat:a|b" from being taken for a protocol.
        container = av.open(f"file:{path.resolve()}", options=limits, metadata_errors="replace")
    except (FFmpegError, ValueError, OSError) as error:
        raise _foreign_error(path) or media_error(
            path, "unreadable", f"not a media file that can be opened ({_describe(error)})"
        ) from error
    with container:
        yield container


def _foreign_error(path: Path) -> MediaError | None:
    """The error for a file whose content says that it is no video; None where it does not say."""
    kind = foreign_kind(path, "video")
    return None if kind is None else media_error(path, "unreadable", kind.found, kind.fix)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuses pictures larger than any camera's.

    Args:
        path: The file, for the message.
        width: Pixels.
        height: Pixels.
    Raises:
        MediaError: `unreadable`.
    """
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_AREA_PX:
        reason = f"pictures of {width} x {height}, at most {MAX_SIDE_PX} a side and {MAX_AREA_PX} in all are read"
        raise media_error(path, "unreadable", reason, "scale it: ffmpeg -i INPUT -vf scale=1920:-2 OUTPUT.mp4")


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"it has more than {MAX_STREAMS} tracks, or its header asks for more memory than there is"
    return str(getattr(error, "strerror", None) or error)
