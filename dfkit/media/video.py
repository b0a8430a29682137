"""Pictures of a file, chosen by time on a fixed grid."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfkit.errors import MediaError
from dfkit.media.container import MAX_AREA_PX, check_size, media_error, open_media, readable
from dfkit.media.coverage import Coverage, PictureMeter, cut_off_text, pictures_between
from dfkit.media.picture import Picture, PictureMaker
from dfkit.media.survey import CLOCK_BACK_S, MAX_HOLE_S, Survey, frame_time, survey_file

T = TypeVar("T")
END_TOLERANCE = 0.05
"""Share of a grid step by which a video may end early; containers round times to a millisecond."""
TIE_TOLERANCE_S = 1e-6
"""A grid point up to this far behind the middle between two pictures still takes the earlier one."""


MAX_THREADS = 2
"""Of a decoder. Where more each decode a picture, one gives a picture that another has not finished, and whose damage
is then not always flagged (H.264: 11 of 40 times with 4 threads, never of 384 with 2)."""
SILENT_CODECS = ("vp8", "vp9")
"""Decoders that lose errors where their threads decode a picture each; where they share each picture, none is lost."""


@dataclass(frozen=True)
class DecodedPicture:
    """A decoded picture with its time; pictures come in the order in which they are shown."""

    start_s: float
    """Container time; of a later recording of the file, as if it followed the one before."""
    duration_s: float
    frame: VideoFrame
    segment: int = 0
    """Which of the file's recordings it is of; see `survey.Segment`."""


class PictureDecoder:
    """Decodes a file's pictures once, from front to back; what is damaged is left out and counted."""

    def __init__(self, survey: Survey, *, num_threads: int = 0) -> None:
        """Prepares decoding.

        Args:
            survey: Of the file.
            num_threads: Threads of the decoder; 0 is as many as are used at most, `MAX_THREADS`.
        """
        self.survey = survey
        self._num_threads = min(num_threads or MAX_THREADS, MAX_THREADS)
        self._meter = PictureMeter(survey)
        self._damaged: set[int] = set()
        """Container times, in ticks, of pictures that a decoder complained about and may give all the same (VP9)."""

    def __iter__(self) -> Iterator[DecodedPicture]:
        survey = self.survey
        epoch, last_raw_s, last_s = 0, None, None
        for frame in self._frames():
            check_size(survey.path, frame.width, frame.height)
            raw_s = frame_time(frame.pts, frame.time_base)
            if raw_s is None:
                raw_s = survey.begin_s if last_raw_s is None else last_raw_s + survey.step_s
            back = last_raw_s is not None and raw_s < last_raw_s - CLOCK_BACK_S
            if not survey.holds(epoch + back, raw_s):
                continue  # a time that no packet's neighbours share is a lie
            epoch, last_raw_s = epoch + back, raw_s
            segment, start_s = survey.place(epoch, raw_s)
            if last_s is not None and start_s <= last_s:
                continue
            last_s = start_s
            stated_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else survey.step_s
            duration_s = min(stated_s, MAX_HOLE_S)
            is_damaged = frame.is_corrupt or frame.pts in self._damaged
            self._meter.take(epoch, raw_s, duration_s, is_corrupt=is_damaged)
            yield DecodedPicture(start_s, duration_s, frame, segment)

    @property
    def coverage(self) -> Coverage:
        """How much was read, once all was."""
        return self._meter.finish()

    def _frames(self) -> Iterator[VideoFrame]:
        """Frames in the order of showing.

        Several threads of a decoder make another picture of a damaged one, or lose some beside it; how many is chance.
        So at the first damage the file is opened again with one thread, which goes on behind the last picture given.
        """
        num_given, last = 0, None
        for num_threads in dict.fromkeys((self._num_threads, 1)):
            order = _Order(self.survey)
            try:
                for number, frame in enumerate(decode_frames(self.survey, self._damaged, num_threads=num_threads)):
                    if num_threads != 1 and (frame.is_corrupt or not order.follows(frame)):
                        raise _DamageError
                    if number >= num_given:
                        num_given, last = num_given + 1, frame
                        yield frame
            except _DamageError:
                continue
            # At the end of a file several threads lose pictures without a word.
            if last is not None and self._is_last(last):
                return

    def _is_last(self, frame: VideoFrame) -> bool:
        """Whether no picture should follow."""
        time_s, times_s = frame_time(frame.pts, frame.time_base), self.survey.picture_times_s
        return time_s is None or not times_s or time_s >= times_s[-1][1] - self.survey.step_s / 2


class _Order:
    """Whether decoded pictures come one after the other, none of those between lost."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._epoch = 0
        self._last_s: float | None = None

    def follows(self, frame: VideoFrame) -> bool:
        time_s = frame_time(frame.pts, frame.time_base)
        last_s, self._last_s = self._last_s, time_s
        if time_s is None or last_s is None:
            return True
        if time_s < last_s - CLOCK_BACK_S:
            self._epoch += 1
            return True
        return not pictures_between(self._survey, self._epoch, last_s, time_s)


class _DamageError(Exception):
    """A decoder of several threads met damage."""


def open_video(container: InputContainer, survey: Survey, *, num_threads: int) -> VideoStream:
    """The stream that the survey chose, its decoder set up and not yet started.

    Args:
        container: The open file.
        survey: Of it.
        num_threads: Threads of the decoder; 0 leaves the number to it.
    Raises:
        MediaError: `unreadable`: there is none.
    """
    if survey.video_index is None:
        raise media_error(survey.path, "unreadable", "it has no moving picture", "use a file with a video track")
    stream = container.streams[survey.video_index]
    assert isinstance(stream, VideoStream)
    stream.codec_context.thread_type = "SLICE" if stream.codec_context.name in SILENT_CODECS else "AUTO"
    stream.codec_context.thread_count = num_threads
    stream.codec_context.options = {"max_pixels": str(MAX_AREA_PX)}
    return stream


def decode_frames(survey: Survey, damaged: set[int], *, num_threads: int) -> Iterator[VideoFrame]:
    """Frames of a file in the order of showing; with one thread damaged ones are passed over.

    Args:
        survey: Of the file.
        damaged: Where the times of packets that cannot be decoded without an error are added, in ticks.
        num_threads: Threads of the decoder; 0 leaves the number to it.
    Raises:
        _DamageError: A decoder of several threads met damage.
    """
    with open_media(survey.path) as container:
        stream = open_video(container, survey, num_threads=num_threads)
        for packet in readable(container.demux(stream)):
            try:
                yield from packet.decode()
            except EOFError:
                return
            except (FFmpegError, ValueError) as error:
                if num_threads != 1:
                    raise _DamageError from error
                if packet.pts is not None:
                    damaged.add(packet.pts)


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
    """Reads one file's pictures on a grid. Iterate once."""

    def __init__(
        self,
        path: str | Path,
        fps: float,
        *,
        num_threads: int = 0,
        max_area_px: int | None = None,
        survey: Survey | None = None,
    ) -> None:
        """Prepares reading.

        Args:
            path: Media file.
            fps: Grid points per second.
            num_threads: Decoder threads, at most `MAX_THREADS` of them are used; 0 is as many.
            max_area_px: Larger pictures are divided by a whole number until they fit; None leaves them.
            survey: Of the file; made where left out, when reading begins.
        """
        self.path = Path(path)
        self.first_picture_s: float | None = None
        """Container time of the first picture, known once it was read."""
        self._fps = fps
        self._num_threads, self._max_area_px = num_threads, max_area_px
        self._survey = survey
        self._decoder: PictureDecoder | None = None
        self._maker: PictureMaker | None = None

    def __iter__(self) -> Generator[tuple[int, float, Picture], None, None]:
        self._decoder = PictureDecoder(self.survey, num_threads=self._num_threads)
        self._maker = PictureMaker(aspect=self.survey.aspect, max_area_px=self._max_area_px)
        decoded: DecodedPicture | None = None
        shown: Picture | None = None
        timed = self._note_first(self._decoder)
        for index, item in pick_nearest(((p.start_s, p.duration_s, p) for p in timed), self._fps):
            if item is not decoded or shown is None:
                shown, decoded = self._maker.make(item.frame, segment=item.segment), item
            yield index, item.start_s - (self.first_picture_s or 0.0), shown
        if decoded is None:
            raise no_picture_error(self.survey)

    @property
    def survey(self) -> Survey:
        """Of the file.

        Raises:
            MediaError: `unreadable`.
        """
        if self._survey is None:
            self._survey = survey_file(self.path)
        return self._survey

    @property
    def coverage(self) -> Coverage:
        """How much was read, once all was."""
        assert self._decoder is not None, "asked after reading"
        return self._decoder.coverage

    @property
    def shrink(self) -> int:
        """What the sides of large pictures are divided by; known once one was read."""
        return 1 if self._maker is None else self._maker.shrink

    def _note_first(self, pictures: Iterable[DecodedPicture]) -> Iterator[DecodedPicture]:
        for picture in pictures:
            if self.first_picture_s is None:
                self.first_picture_s = picture.start_s
            yield picture


def no_picture_error(survey: Survey) -> MediaError:
    """The error for a file of which no picture can be decoded."""
    if survey.is_cut_off:
        reason = f"not one picture of it can be decoded: {cut_off_text(survey, 0.0)}"
        return media_error(survey.path, "unreadable", reason, "copy or upload the whole file again")
    return media_error(survey.path, "unreadable", "not one picture of it can be decoded")


def read_frames(path: str | Path, fps: float, *, num_threads: int = 0) -> Iterator[tuple[int, float, np.ndarray]]:
    """Reads a file's pictures on a grid that starts with the first one; nearest by time.

    Args:
        path: Media file.
        fps: Grid points per second.
        num_threads: Decoder threads; 0 leaves the number to the decoder.
    Yields:
        Grid index, time of the picture in seconds since the first one, and (H, W, 3) uint8 RGB, C-contiguous,
        as a player shows it. Repeated pictures are one array: do not write into it.
    Raises:
        MediaError: `unreadable`.
    """
    shown: Picture | None = None
    rgb = np.zeros((0, 0, 3), np.uint8)
    for index, t_s, picture in PictureReader(path, fps, num_threads=num_threads):
        if picture is not shown:
            rgb, shown = picture.rgb(), picture
        yield index, t_s, rgb
