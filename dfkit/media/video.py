"""Pictures of a file, chosen by time on a fixed grid."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfkit.media.color import RgbConverter
from dfkit.media.container import MAX_HOLE_S, check_size, find_video, media_error, open_media
from dfkit.media.facts import VideoFacts, probe

logger = logging.getLogger(__name__)
__all__ = ["PictureReader", "VideoFacts", "pick_nearest", "probe", "read_frames"]
T = TypeVar("T")
END_TOLERANCE = 0.05
"""Share of a grid step by which a video may end early; containers round times to a millisecond."""
TIE_TOLERANCE_S = 1e-6
"""A grid point up to this far behind the middle between two pictures still takes the earlier one."""
DEFAULT_STEP_S = 0.04
"""Time from a picture to the next where neither it nor its stream says one, seconds."""


@dataclass(frozen=True)
class DecodedPicture:
    """A decoded picture with its time; pictures come in the order in which they are shown."""

    start_s: float
    """Time in the container."""
    duration_s: float
    frame: VideoFrame


def decode_pictures(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[DecodedPicture]:
    """Decodes a stream up to its end or its first damage.

    Args:
        container: The open file.
        stream: Its video stream.
        path: For messages.
    Yields:
        Pictures in rising order of time.
    Raises:
        MediaError: `unreadable`: an absurd picture size.
    """
    step_s = float(1 / stream.average_rate) if stream.average_rate else DEFAULT_STEP_S
    last_s: float | None = None
    for frame in _decode_until_damage(container, stream, path):
        check_size(path, frame.width, frame.height)
        if frame.pts is None or frame.time_base is None:
            start_s = 0.0 if last_s is None else last_s + step_s
        else:
            start_s = float(frame.pts * frame.time_base)
        if last_s is not None:
            if start_s <= last_s:
                continue
            if start_s - last_s > MAX_HOLE_S:
                logger.warning("%s: no picture for %.1f s, read up to there", path, start_s - last_s)
                return
        last_s = start_s
        stated_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else step_s
        yield DecodedPicture(start_s, min(stated_s, MAX_HOLE_S), frame)


def _decode_until_damage(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    started = False
    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            return
        except (FFmpegError, ValueError) as error:
            # A recording that starts between two key pictures fails on its first packets: go on to the first
            # picture. The demuxer's own end of damage comes as EOFError.
            if started or isinstance(error, EOFError):
                logger.warning("%s: damaged pictures, read up to there (%s)", path, error)
                return
            continue
        for frame in frames:
            started = True
            yield frame


def pick_nearest(items: Iterable[tuple[float, float, T]], fps: float) -> Iterator[tuple[int, T]]:
    """Chooses the item nearest in time to each point of a grid; of two equally near ones the earlier.

    Args:
        items: (start, duration, item) in rising order of start, seconds; the grid begins at the first start.
        fps: Points of the grid per second.
    Yields:
        (grid index, item). The grid ends where the last item ends.
    """
    index = 0
    origin = 0.0
    previous: tuple[float, float, T] | None = None
    for start_s, duration_s, item in items:
        if previous is None:
            origin = start_s
        else:
            middle = (previous[0] + start_s) / 2 - origin
            while index / fps <= middle + TIE_TOLERANCE_S:
                yield index, previous[2]
                index += 1
        previous = (start_s, duration_s, item)
    if previous is None:
        return
    end = int((previous[0] - origin + previous[1]) * fps + END_TOLERANCE)
    while index < max(end, 1):
        yield index, previous[2]
        index += 1


class PictureReader:
    """Reads one file's pictures on a grid. Iterate once; a picture is decoded to RGB only when it is used."""

    def __init__(self, path: str | Path, fps: float, *, num_threads: int = 0, max_area_px: int | None = None) -> None:
        """Prepares reading.

        Args:
            path: Media file.
            fps: Grid points per second.
            num_threads: Decoder threads; 0 leaves the number to it.
            max_area_px: Larger pictures are divided by a whole number until they fit; None leaves them.
        """
        self.path = Path(path)
        self.first_picture_s: float | None = None
        """Container time of the first picture, known once it was read."""
        self._fps = fps
        self._num_threads = num_threads
        self._converter = RgbConverter(max_area_px=max_area_px)

    def __iter__(self) -> Iterator[tuple[int, float, np.ndarray]]:
        with open_media(self.path) as container:
            stream = find_video(container, self.path, num_threads=self._num_threads)
            shown: DecodedPicture | None = None
            rgb = np.zeros((0, 0, 3), np.uint8)
            timed = self._note_first(decode_pictures(container, stream, self.path))
            for index, picture in pick_nearest(((p.start_s, p.duration_s, p) for p in timed), self._fps):
                if picture is not shown:
                    rgb, shown = self._converter.convert(picture.frame), picture
                yield index, picture.start_s - (self.first_picture_s or 0.0), rgb
        if shown is None:
            raise media_error(self.path, "unreadable", "not one picture of it can be decoded")

    @property
    def shrink(self) -> int:
        """What the sides of large pictures are divided by; known once one was read."""
        return self._converter.shrink

    def _note_first(self, pictures: Iterator[DecodedPicture]) -> Iterator[DecodedPicture]:
        for picture in pictures:
            if self.first_picture_s is None:
                self.first_picture_s = picture.start_s
            yield picture


def read_frames(path: str | Path, fps: float, *, num_threads: int = 0) -> Iterator[tuple[int, float, np.ndarray]]:
    """Reads a file's pictures on a grid that starts with the first one; nearest by time.

    Args:
        path: Media file.
        fps: Grid points per second.
        num_threads: Decoder threads; 0 leaves the number to the decoder.
    Yields:
        Grid index, time of the picture in seconds since the first one, and (H, W, 3) uint8 RGB, C-contiguous,
        upright. Repeated pictures are one array: do not write into it.
    Raises:
        MediaError: `unreadable`.
    """
    yield from PictureReader(path, fps, num_threads=num_threads)
