"""Sound of a file as mono float32, placed by its timestamps against the first picture."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from dfkit.errors import MediaError
from dfkit.media.channels import separate_power, to_mono
from dfkit.media.container import media_error, open_media, readable
from dfkit.media.coverage import WHOLE_SOUND_S, Coverage, cut_off_text
from dfkit.media.resample import MAX_RATE, Resampler
from dfkit.media.survey import CLOCK_BACK_S, SoundTrack, Survey, survey_file

MAX_DRIFT_S = 0.01
"""A sound frame that lies further than this from where the samples before it end is moved to its own time."""
MAX_AHEAD_S = 30.0
"""Sound whose time jumps further than this, where the pictures' does not, is damage; nothing after it is read."""
DIGITAL_SILENCE = 1e-4
"""Sound that never exceeds this, of full scale, is none: zeros, or what dither and coders make of them (-80 dBFS)."""
CANCELLED_SHARE = 3e-4
"""Of the power that channels would have if they were mixed without anything in common: at most this is left where they
cancel each other out, by what a coder changed (AAC, MP2 and Opus leave -40 dB or less of speech)."""
BLOCK_S = 1.0
"""About how much sound is resampled at once."""


def choose_sound(survey: Survey) -> SoundTrack | None:
    """The sound track that is heard: the first that is not silent, those marked default before others.

    Args:
        survey: Of the file. Of several tracks each is decoded up to its first sample that is not zero.
    Returns:
        The track; the first one where all are silent, None where there is none.
    """
    tracks = survey.sound_tracks
    if len(tracks) < 2:
        return tracks[0] if tracks else None
    return next((track for track in tracks if is_audible(survey.path, track)), tracks[0])


def is_audible(path: Path, track: SoundTrack) -> bool:
    """Whether about a second of a track, mixed to one channel, is more than digital silence, and more than what is left
    of channels that cancel each other out."""
    with open_media(path) as container:
        waiting: list[AudioFrame] = []
        for frame in decode_sound(container, open_track(container, track)):
            waiting.append(frame)
            if sum(each.samples for each in waiting) >= frame.sample_rate * BLOCK_S:
                if _are_audible(waiting):
                    return True
                waiting = []
        return _are_audible(waiting)


def _are_audible(frames: list[AudioFrame]) -> bool:
    mixed = np.concatenate([to_mono(frame) for frame in frames]) if frames else np.zeros(0, np.float32)
    if np.abs(mixed).max(initial=0.0) <= DIGITAL_SILENCE:
        return False
    separate = sum(separate_power(frame) * frame.samples for frame in frames)
    return bool(np.square(mixed, dtype=np.float64).sum() > CANCELLED_SHARE * separate)


def open_track(container: InputContainer, track: SoundTrack) -> AudioStream:
    """The stream of a track in an open file."""
    stream = container.streams[track.index]
    assert isinstance(stream, AudioStream)
    return stream


def decode_sound(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decodes a sound track; packets that cannot be decoded are left out, their time stays silent."""
    for packet in readable(container.demux(stream)):
        try:
            yield from packet.decode()
        except EOFError:
            return
        except (FFmpegError, ValueError):
            continue


def no_sound_error(survey: Survey, *, is_silent: bool = False) -> MediaError:
    """The error for a file without sound: it has no track, one that cannot be decoded, or one of digital silence."""
    reason = "it has no sound track"
    if survey.sound_tracks:
        reason = (
            "its sound is digital silence: muted, or the channels cancel each other out"
            if is_silent
            else "its sound track holds nothing that can be decoded"
        )
    return media_error(survey.path, "no_audio", reason, "use the file with its sound")


class SoundReader:
    """Reads a file's sound from front to back; keeps only what is still asked for.

    Use as a context manager. Sample 0 is the time of the first picture; what lies outside of the file is 0.
    """

    def __init__(
        self, path: str | Path, *, sample_rate: int, first_picture_s: float, survey: Survey | None = None
    ) -> None:
        """Prepares reading.

        Args:
            path: Media file.
            sample_rate: Hz of what is returned.
            first_picture_s: Container time of sample 0, seconds.
            survey: Of the file; made where left out, when it is opened.
        """
        self.path = Path(path)
        self.track: SoundTrack | None = None
        """The one that is read, known once the file is open."""
        self._sample_rate = sample_rate
        self._first_picture_s = first_picture_s
        self._survey = survey
        self._kept = np.zeros(0, np.float32)
        self._kept_start: int | None = None
        self._ended = False
        self._timeline: _SoundTimeline | None = None

    def __enter__(self) -> SoundReader:
        """Opens the file.

        Raises:
            MediaError: `unreadable`, or `no_audio` without a sound track that can be decoded.
        """
        survey = self._survey = self._survey or survey_file(self.path)
        self.track = choose_sound(survey)
        if self.track is None:
            raise no_sound_error(survey)
        self._open = open_media(self.path)
        container = self._open.__enter__()
        try:
            self._timeline = _SoundTimeline(survey)
            self._blocks = self._resampled(decode_sound(container, open_track(container, self.track)), self._timeline)
            self._load_one()
            if self._kept_start is None or not is_audible(self.path, self.track):
                raise no_sound_error(survey, is_silent=self._kept_start is not None)
        except BaseException:
            self._open.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the decoding and closes the file."""
        self._blocks.close()
        self._open.__exit__(kind, error, trace)

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """Reads a stretch of sound. What lies before `start` is forgotten.

        Args:
            start: First sample, counted from the first picture; not before that of an earlier call.
            num_samples: How many.
        Returns:
            (num_samples,) float32.
        """
        while not self._ended and self._end() < start + num_samples:
            self._load_one()
            self._forget(start)
        self._forget(start)
        result = np.zeros(num_samples, np.float32)
        first = self._kept_start or 0
        left, right = max(start, first), min(start + num_samples, self._end())
        if right > left:
            result[left - start : right - start] = self._kept[left - first : right - first]
        return result

    def finish(self) -> Coverage:
        """Reads what is left, keeping none of it.

        Returns:
            How much of the sound was read.
        """
        while not self._ended:
            self._load_one()
            self._forget(self._end())
        assert self._survey is not None and self._timeline is not None and self.track is not None
        duration_s, read_s = self._survey.sound_s[self.track.index], self._timeline.read_s
        if read_s >= duration_s - WHOLE_SOUND_S:
            return Coverage(read_s, max(duration_s, read_s))
        why = "part of the sound cannot be decoded"
        if self._survey.is_cut_off:
            why = cut_off_text(self._survey, read_s)
        elif self._timeline.stopped is not None:
            why = self._timeline.stopped
        return Coverage(read_s, duration_s, why)

    def _end(self) -> int:
        return (self._kept_start or 0) + len(self._kept)

    def _forget(self, start: int) -> None:
        drop = min(max(start - (self._kept_start or 0), 0), len(self._kept))
        if drop:
            self._kept = self._kept[drop:]
            self._kept_start = (self._kept_start or 0) + drop

    def _load_one(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            self._ended = True
        elif self._kept_start is None:
            self._kept_start, self._kept = block
        else:
            self._kept = np.concatenate([self._kept, block[1]])

    def _resampled(
        self, frames: Iterator[AudioFrame], timeline: _SoundTimeline
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        """Blocks of about a second as (first sample, samples), one after the other without holes."""
        next_start: int | None = None
        for run in timeline.runs(frames):
            resampler = Resampler(run.rate, self._sample_rate)
            start = round((run.origin_s - self._first_picture_s) * self._sample_rate)
            # A run of another rate begins where the one before ends, give or take the rounding of its samples.
            gap = 0 if next_start is None else start - next_start
            if gap > 0 and next_start is not None:
                yield next_start, np.zeros(gap, np.float32)
            start, drop = (start if next_start is None else max(start, next_start)), max(-gap, 0)
            for block in _resample_run(run, resampler):
                dropped = min(drop, len(block))
                drop -= dropped
                yield start, block[dropped:]
                start += len(block) - dropped
            next_start = start


def _resample_run(run: _Run, resampler: Resampler) -> Iterator[np.ndarray]:
    for mono in run.blocks:
        yield resampler.push(mono)
    yield resampler.flush(run.num_samples)


class _Run:
    """Sound of one rate, laid end to end."""

    def __init__(self, rate: int, origin_s: float) -> None:
        self.rate, self.origin_s = rate, origin_s
        self.num_samples = 0
        self.blocks: Iterator[np.ndarray] = iter(())


class _SoundTimeline:
    """Lays sound frames end to end, with silence or a cut where their timestamps say so."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._epoch = 0
        self._last_raw_s: float | None = None
        self.read_s = 0.0
        """Time that decoded samples fill."""
        self.stopped: str | None = None
        """Why reading ended early."""

    def runs(self, frames: Iterator[AudioFrame]) -> Iterator[_Run]:
        """One run for each stretch of one sample rate; a run is read to its end before the next is asked for."""
        waiting = next(frames, None)
        end_s = 0.0
        while waiting is not None and self.stopped is None:
            if not 0 < waiting.sample_rate <= MAX_RATE:
                self.stopped = f"sound at {waiting.sample_rate} Hz is not read, at most {MAX_RATE}"
                return
            origin_s = self._time_of(waiting, end_s)
            run = _Run(waiting.sample_rate, end_s if origin_s is None else origin_s)
            following: list[AudioFrame] = []
            run.blocks = self._blocks(run, waiting, frames, following)
            yield run
            end_s = run.origin_s + run.num_samples / run.rate
            waiting = following[0] if following else None

    def _blocks(
        self, run: _Run, first: AudioFrame, frames: Iterator[AudioFrame], following: list[AudioFrame]
    ) -> Iterator[np.ndarray]:
        """Blocks of about a second, (N,) float32; the first frame of another rate goes into `following`."""
        waiting: list[np.ndarray] = [self._heard(first)]
        run.num_samples = len(waiting[0])
        for frame in frames:
            if frame.sample_rate != run.rate:
                following.append(frame)
                break
            placed = self._place(frame, run)
            if self.stopped is not None:
                break
            run.num_samples += len(placed)
            waiting.append(placed)
            if sum(map(len, waiting)) >= run.rate * BLOCK_S:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def _place(self, frame: AudioFrame, run: _Run) -> np.ndarray:
        """The frame's samples with silence before them, or less their beginning."""
        end_s = run.origin_s + run.num_samples / run.rate
        time_s = self._time_of(frame, end_s)
        if time_s is None:
            return np.zeros(0, np.float32)
        late_s = time_s - end_s
        if abs(late_s) > MAX_AHEAD_S:
            self.stopped = f"its sound jumps by {late_s:.0f} s and is not read behind"
            return np.zeros(0, np.float32)
        if abs(late_s) <= MAX_DRIFT_S:
            return self._heard(frame)
        num_late = round(late_s * run.rate)
        mono = self._heard(frame, num_dropped=max(-num_late, 0))
        return np.concatenate([np.zeros(max(num_late, 0), np.float32), mono])

    def _heard(self, frame: AudioFrame, *, num_dropped: int = 0) -> np.ndarray:
        mono = to_mono(frame)[num_dropped:]
        self.read_s += len(mono) / frame.sample_rate
        return mono

    def _time_of(self, frame: AudioFrame, default_s: float) -> float | None:
        """Time on the clock of all segments; None for sound behind the last picture of a recording that another
        follows."""
        if frame.pts is None or frame.time_base is None:
            return default_s
        raw_s = float(frame.pts * frame.time_base)
        if self._last_raw_s is not None and raw_s < self._last_raw_s - CLOCK_BACK_S:
            self._epoch += 1
        self._last_raw_s = raw_s
        number, time_s = self._survey.place(self._epoch, raw_s)
        return None if self._survey.after_end(number, raw_s) else time_s


def read_waveform(
    path: str | Path, *, sample_rate: int, first_picture_s: float, num_samples: int, lead_samples: int = 0
) -> np.ndarray:
    """Reads the sound around a file's pictures.

    Args:
        path: Media file.
        sample_rate: Hz of the result.
        first_picture_s: Container time of the first picture, seconds.
        num_samples: Length of the result.
        lead_samples: Samples before the first picture with which the result begins.
    Returns:
        (num_samples,) float32 mono; zeros where the file has no sound.
    Raises:
        MediaError: `unreadable` or `no_audio`.
    """
    with SoundReader(path, sample_rate=sample_rate, first_picture_s=first_picture_s) as reader:
        return reader.read(-lead_samples, num_samples)
