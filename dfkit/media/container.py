"""Opens media files, and refuses what cannot be one before memory is spent on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from dfkit.errors import MediaError

logger = logging.getLogger(__name__)

MAX_SIDE_PX = 8192
"""Longest side of a picture that is decoded."""
MAX_AREA_PX = 36_000_000
"""Largest picture that is decoded; 8K is 33.2 million pixels."""
MAX_HOLE_S = 10.0
"""Longest time between two pictures; a longer one is damage or a lying clock."""
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
_CONVERT = "convert it: ffmpeg -i INPUT -c:v libx264 -c:a aac OUTPUT.mp4"


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
    limits = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS), "max_pixels": str(MAX_AREA_PX)}
    try:
        # The prefix keeps a name such as "concat:a|b" from being taken for a protocol.
        container = av.open(f"file:{path.resolve()}", options=limits, metadata_errors="replace")
    except (FFmpegError, ValueError, OSError) as error:
        raise media_error(path, "unreadable", f"not a media file that can be opened ({_describe(error)})") from error
    with container:
        yield container


def find_video(container: InputContainer, path: Path, *, num_threads: int) -> VideoStream:
    """Takes the first moving picture of a file and sets its decoder up.

    Args:
        container: The open file.
        path: Its path, for messages.
        num_threads: Threads of the decoder; 0 leaves the number to it.
    Returns:
        The stream, decoder not yet started.
    Raises:
        MediaError: `unreadable`: no moving picture, no decoder for it, or an absurd size.
    """
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue  # a cover picture, not a film
        context = stream.codec_context
        if context is None:
            raise media_error(path, "unreadable", "there is no decoder for its pictures")
        check_size(path, context.width, context.height)
        context.thread_type = "AUTO"
        context.thread_count = num_threads
        context.options = {"max_pixels": str(MAX_AREA_PX)}
        return stream
    raise media_error(path, "unreadable", "it has no moving picture", "use a file with a video track")


def find_audio(container: InputContainer) -> AudioStream | None:
    """The first sound track of a file that can be decoded, or None."""
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            return stream
    return None


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
    return str(getattr(error, "strerror", None) or error)


VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".avi", ".m4v")


def list_videos(folder: Path) -> list[Path]:
    """Video files at any depth, sorted; hidden files and folders are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )
