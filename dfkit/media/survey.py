"""What a file holds, found by reading its packets once without decoding them: streams, clocks, what is missing.

Pictures and sound are read by two readers that know nothing of each other. What both have to agree on is decided here:
which streams are taken, and where a clock that starts again or jumps goes on.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from dfkit.media.container import END_OF_PACKETS, check_size, media_error, open_media

MAX_HOLE_S = 10.0
"""Longest time between two pictures of one recording; behind a longer one another recording begins."""
CLOCK_BACK_S = 0.5
"""A clock that goes back by more than this starts again; by less, pictures or sound overlap."""
DEFAULT_STEP_S = 0.04
"""Time from a picture to the next where neither it nor its stream says one, seconds."""
MIN_PICTURES = 2
"""A stream of fewer pictures is a cover, and taken only where there is nothing else."""
MAX_REPEATED, REPEATED_BYTES = 10, 1_000_000
"""Packets of more bytes than so many times those of the file and as many besides come of a damaged index or edit list:
a few kilobytes would last for hours."""
STATING_FORMATS = ("asf", "avi", "flv", "matroska", "mov", "mp4", "webm")
"""Containers whose header states a length that was not estimated from what the file holds."""
MIN_MISSING_S = 0.25
"""A file that ends sooner than this before what its header states is whole: headers round."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a video whose clock runs on: one recording of a file that may be several, joined."""

    epoch: int
    """How often the clock had started again before."""
    start_s: float
    """Container time of its first picture."""
    end_s: float
    """Container time of the end of its last picture."""
    offset_s: float
    """What is added to its container times, so that it follows the one before without a hole."""


@dataclass
class _Clock:
    """Times of one stream's packets, as they come."""

    step_s: float = 0.0
    """Length of a packet that does not say it."""
    num_packets: int = 0
    num_untimed: int = 0
    epoch: int = 0
    last_s: float | None = None
    before_s: float | None = None
    """Its last time before the newest stretch began."""
    hidden_s: float = 0.0
    """Of packets that are decoded but not shown (edit lists)."""
    spans: list[list[float]] = field(default_factory=list)
    """Epoch, start, end and number of packets of each stretch without a jump."""
    times_s: list[tuple[int, float]] = field(default_factory=list)
    """Epoch and time of each shown packet; of a video only."""

    def push(self, packet: Packet, *, keep_times: bool) -> None:
        self.num_packets += 1
        if packet.time_base is None or (packet.pts is None and packet.dts is None):
            self.num_untimed += 1
            return
        length_s = float((packet.duration or 0) * packet.time_base) or self.step_s
        if packet.is_discard:
            self.hidden_s += length_s
            return
        # In the order of decoding the decoding times rise, those of showing do not.
        shown_s, decoded_s = (frame_time(ticks, packet.time_base) for ticks in (packet.pts, packet.dts))
        clock_s = shown_s if decoded_s is None else decoded_s
        shown_s = decoded_s if shown_s is None else shown_s
        assert clock_s is not None and shown_s is not None
        if abs(shown_s - clock_s) > MAX_HOLE_S:
            return  # a lie: no coder keeps a picture so long
        self._drop_stray(clock_s)
        back = self.last_s is not None and clock_s < self.last_s - CLOCK_BACK_S
        if back:
            self.epoch += 1
        if back or self.last_s is None or clock_s > self.last_s + MAX_HOLE_S:
            self.before_s = self.last_s
            self.spans.append([self.epoch, shown_s, shown_s, 0])
        self.last_s = clock_s
        span = self.spans[-1]
        span[1], span[2] = min(span[1], shown_s), max(span[2], shown_s + min(length_s, MAX_HOLE_S))
        span[3] += 1
        if keep_times:
            self.times_s.append((self.epoch, shown_s))

    def _drop_stray(self, clock_s: float) -> None:
        """Forgets a single packet far away, when the next goes on where the clock had been: its time was a lie."""
        if self.before_s is None or self.spans[-1][3] != 1 or not 0 <= clock_s - self.before_s <= CLOCK_BACK_S:
            return
        lie = self.spans.pop()
        self.epoch, self.last_s, self.before_s = int(self.spans[-1][0]), self.before_s, None
        if self.times_s and self.times_s[-1] == (lie[0], lie[1]):
            self.times_s.pop()

    @property
    def span_s(self) -> float:
        return sum(end - start for _, start, end, _ in self.spans)


@dataclass(frozen=True)
class SoundTrack:
    """A sound track that holds something."""

    index: int
    """Of its stream in the file."""
    is_default: bool
    language: str | None
    title: str | None

    @property
    def text(self) -> str:
        """For people, such as `track 2 (eng, default)`."""
        said = [part for part in (self.language, self.title, "default" if self.is_default else None) if part]
        return f"track {self.index}" + (f" ({', '.join(said)})" if said else "")


@dataclass(frozen=True)
class Survey:
    """A file's streams and clocks."""

    path: Path
    video_index: int | None
    """Of the stream whose pictures are taken; None of a file of sound alone."""
    step_s: float
    """Time from a picture to the next where nothing else says it."""
    segments: tuple[Segment, ...]
    """At least one; of a video without a single time one that begins at 0."""
    num_pictures: int
    """Packets of the video stream."""
    picture_times_s: tuple[tuple[int, float], ...]
    """Epoch and container time of every picture's packet, sorted."""
    begin_s: float
    """Container time of a first picture that has none: so long before the first that has one."""
    aspect: float
    """Width of a pixel by its height; 1 where the file does not say."""
    pictures_s: float
    """How long the pictures last, by packets and by what the header states: the longer."""
    sound_tracks: tuple[SoundTrack, ...]
    """Those that hold packets and have a decoder, the one to be taken first."""
    sound_s: dict[int, float]
    """How long each of them lasts, likewise."""
    is_cut_off: bool
    """Whether the file ends before what its header states, or in the middle of a packet."""
    stated_s: float | None
    """Length of the pictures that the header states, where it states more than there is."""

    def place(self, epoch: int, time_s: float) -> tuple[int, float]:
        """Where a container time lies.

        Args:
            epoch: How often the stream's clock had started again.
            time_s: Container time.
        Returns:
            Number of the segment, and the time on one clock through all of them. A time before the first segment of
            its epoch, or of an epoch that the pictures have not, belongs to the nearest.
        """
        first, starts_s = self._starts_by_epoch.get(epoch, (len(self.segments) - 1, []))
        found = first + max(bisect_right(starts_s, time_s + CLOCK_BACK_S) - 1, 0)
        return found, time_s + self.segments[found].offset_s

    @cached_property
    def _starts_by_epoch(self) -> dict[int, tuple[int, list[float]]]:
        """Number of an epoch's first segment, and by segment the earliest start from it on: a damaged file may have
        thousands of segments, and every picture and block of sound is placed."""
        numbers: dict[int, list[int]] = {}
        for number, segment in enumerate(self.segments):
            numbers.setdefault(segment.epoch, []).append(number)
        found = {}
        for epoch, own in numbers.items():
            starts_s = [self.segments[number].start_s for number in reversed(own)]
            found[epoch] = own[0], list(accumulate(starts_s, min))[::-1]
        return found

    @property
    def end_s(self) -> float:
        """Where the last picture ends, on one clock through all segments."""
        last = self.segments[-1]
        return last.end_s + last.offset_s if math.isfinite(last.end_s) else self.num_pictures * self.step_s

    def holds(self, epoch: int, time_s: float) -> bool:
        """Whether a container time lies in a segment of an epoch, or near one."""
        found, _ = self.place(epoch, time_s)
        near = self.segments[max(found - 1, 0) : found + 2]
        return any(
            segment.start_s - MAX_HOLE_S <= time_s <= segment.end_s + MAX_HOLE_S
            for segment in near
            if segment.epoch == epoch
        )

    def after_end(self, number: int, time_s: float) -> bool:
        """Whether a container time lies behind a segment's last picture, where another segment follows."""
        return number + 1 < len(self.segments) and time_s >= self.segments[number].end_s


def frame_time(pts: int | None, time_base: Fraction | None) -> float | None:
    """Time of a frame in its container, seconds; None where it has none."""
    return None if pts is None or time_base is None else float(pts * time_base)


def survey_file(path: str | Path) -> Survey:
    """Reads a file's packets once.

    Args:
        path: Media file.
    Raises:
        MediaError: `unreadable`: not a media file, no decoder for its pictures, or an absurd size.
    """
    path = Path(path)
    with open_media(path) as container:
        videos, sounds = _video_candidates(container), _sound_candidates(container)
        clocks = {stream.index: _Clock(_step_s(stream)) for stream in videos}
        clocks |= {stream.index: _Clock() for stream in sounds}
        cut_packet = _read_packets(path, container, {stream.index: stream for stream in (*videos, *sounds)}, clocks)
        video = _choose_video(videos, clocks) if videos else None
        if video is not None:
            _check_video(path, video)
        missing_s = _missing_after_end(container, clocks)
        return _make_survey(path, video, sounds, clocks, missing_s=missing_s, cut_packet=cut_packet)


def _video_candidates(container: InputContainer) -> list[VideoStream]:
    """Streams that are not covers: those marked default first, then in order."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return sorted(films, key=_not_default)


def _sound_candidates(container: InputContainer) -> list[AudioStream]:
    """Streams that have a decoder: those marked default first, then in order."""
    return sorted((s for s in container.streams.audio if s.codec_context is not None), key=_not_default)


def _not_default(stream: Stream) -> bool:
    return not stream.disposition & Disposition.default


def _step_s(stream: VideoStream) -> float:
    return min(float(1 / stream.average_rate), MAX_HOLE_S) if stream.average_rate else DEFAULT_STEP_S


def _read_packets(path: Path, container: InputContainer, streams: dict[int, Stream], clocks: dict[int, _Clock]) -> bool:
    """Fills the clocks in; returns whether a packet was cut off.

    Raises:
        MediaError: `unreadable`: the file's index gives its bytes again and again.
    """
    if not streams:
        return False  # PyAV would read all that there are
    packets = container.demux(list(streams.values()))
    corrupt = False
    num_bytes, max_bytes = 0, MAX_REPEATED * path.stat().st_size + REPEATED_BYTES
    while True:
        try:
            packet = next(packets)
        except END_OF_PACKETS:
            return corrupt
        except (FFmpegError, ValueError):
            return True
        num_bytes += packet.size or 1
        if num_bytes > max_bytes:
            reason = f"its index is damaged: it gives the file's bytes more than {MAX_REPEATED} times"
            raise media_error(path, "unreadable", reason)
        if packet.size:
            corrupt = bool(packet.is_corrupt)
            is_video = streams[packet.stream.index].type == "video"
            clocks[packet.stream.index].push(packet, keep_times=is_video)


def _choose_video(videos: Sequence[VideoStream], clocks: dict[int, _Clock]) -> VideoStream:
    """The first film, else the first that holds a picture, else the first."""
    for least in (MIN_PICTURES, 1, 0):
        for stream in videos:
            if clocks[stream.index].num_packets >= least and (least == 0 or stream.codec_context is not None):
                return stream
    raise AssertionError("a video without candidates was refused")


def _check_video(path: Path, stream: VideoStream) -> None:
    context = stream.codec_context
    if context is None:
        raise media_error(path, "unreadable", "there is no decoder for its pictures")
    check_size(path, context.width, context.height)


def _missing_after_end(container: InputContainer, clocks: dict[int, _Clock]) -> float:
    """How much more than the last packet of any stream the header states, seconds; 0 where it states nothing."""
    if not set(STATING_FORMATS) & set(container.format.name.split(",")) or container.duration is None:
        return 0.0
    ends = [clock.span_s + clock.hidden_s for clock in clocks.values() if clock.spans]
    return max(container.duration / 1_000_000 - max(ends), 0.0) if ends else 0.0


def _stated_s(stream: Stream, clock: _Clock, *, missing_s: float) -> float:
    """How long a stream is by its header: its own entry, else what its file lacks as a whole."""
    read_s = clock.span_s + clock.hidden_s
    if stream.frames and clock.num_packets >= stream.frames:
        return clock.span_s  # every picture of the file's index is there, whatever length is stated
    if stream.duration and stream.time_base and missing_s > 0:
        return float(stream.duration * stream.time_base) - clock.hidden_s
    return read_s + missing_s - clock.hidden_s


def _make_survey(
    path: Path,
    video: VideoStream | None,
    sounds: Sequence[AudioStream],
    clocks: dict[int, _Clock],
    *,
    missing_s: float,
    cut_packet: bool,
) -> Survey:
    clock = _Clock() if video is None else clocks[video.index]
    step_s = DEFAULT_STEP_S if video is None else _step_s(video)
    segments = _join(clock, step_s)
    # Pictures without a time come before those that have one, and each lasts a step.
    untimed_s = clock.num_untimed * step_s
    span_s = clock.span_s + untimed_s
    stated_s = span_s if video is None else _stated_s(video, clock, missing_s=missing_s) + untimed_s
    lacks = stated_s > span_s + MIN_MISSING_S
    held = [stream for stream in sounds if clocks[stream.index].num_packets]
    return Survey(
        path=path,
        video_index=None if video is None else video.index,
        step_s=step_s,
        segments=segments,
        num_pictures=clock.num_packets,
        picture_times_s=tuple(sorted(clock.times_s)),
        begin_s=segments[0].start_s - untimed_s if clock.spans else 0.0,
        aspect=float((video is not None and video.sample_aspect_ratio) or 1),
        pictures_s=stated_s if lacks else span_s,
        sound_tracks=tuple(_describe(stream) for stream in held),
        sound_s={s.index: _sound_s(s, clocks[s.index], missing_s=missing_s) for s in held},
        is_cut_off=lacks or cut_packet,
        stated_s=stated_s if lacks else None,
    )


def _sound_s(stream: AudioStream, clock: _Clock, *, missing_s: float) -> float:
    stated_s = _stated_s(stream, clock, missing_s=missing_s)
    return stated_s if stated_s > clock.span_s + MIN_MISSING_S else clock.span_s


def _describe(stream: AudioStream) -> SoundTrack:
    return SoundTrack(
        stream.index,
        is_default=not _not_default(stream),
        language=stream.metadata.get("language", "und").replace("und", "") or None,
        title=stream.metadata.get("title") or None,
    )


def _join(clock: _Clock, step_s: float) -> tuple[Segment, ...]:
    """Segments, each shifted to follow the one before. A single picture far away is no recording but a lying clock."""
    segments: list[Segment] = []
    spans = [span for span in clock.spans if span[3] >= MIN_PICTURES] or clock.spans
    for epoch, start_s, end_s, _ in spans:
        offset_s = segments[-1].end_s + segments[-1].offset_s - start_s if segments else 0.0
        segments.append(Segment(int(epoch), start_s, max(end_s, start_s + step_s), offset_s))
    return tuple(segments) or (Segment(0, 0.0, math.inf, 0.0),)
