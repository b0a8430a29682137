"""Sound of a file as mono float32, placed by its timestamps against the first picture."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from dfkit.media.container import find_audio, media_error, open_media
from dfkit.media.resample import MAX_RATE, Resampler

logger = logging.getLogger(__name__)
MAX_DRIFT_S = 0.01
"""A sound frame that lies further than this from where the samples before it end is moved to its own time."""
MAX_AHEAD_S = 30.0
"""Sound whose time jumps further than this is damage; nothing after it is read."""
NAN_AS, INFINITE_AS = 0.0, 1.0
"""What a sample that is no number, and one that is infinite (with its sign), is read as."""
_FULL_SCALE = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}


def to_mono(frame: AudioFrame) -> np.ndarray:
    """Mean of a frame's channels.

    Args:
        frame: Decoded sound in any sample format.
    Returns:
        (N,) float32; whole-number formats span [-1, 1).
    """
    values = frame.to_ndarray()
    sample_format = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    mono = values.astype(np.float32).mean(axis=0) if len(values) > 1 else values[0].astype(np.float32)
    if sample_format == "u8":
        mono -= np.float32(128.0)
    scale = _FULL_SCALE.get(sample_format)
    if scale is not None:
        mono = mono / np.float32(scale)
    # A decoder of floats can be made to give NaN by damage; one would spoil every sum after it.
    return np.nan_to_num(mono, nan=NAN_AS, posinf=INFINITE_AS, neginf=-INFINITE_AS)


def decode_sound(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decodes a sound track; packets that cannot be decoded are left out, their time stays silent."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (FFmpegError, ValueError) as error:
            logger.warning("damaged sound, read up to there (%s)", error)
            return
        try:
            yield from packet.decode()
        except EOFError:
            return
        except (FFmpegError, ValueError) as error:
            logger.debug("a packet of sound cannot be decoded (%s)", error)


class SoundReader:
    """Reads a file's sound from front to back; keeps only what is still asked for.

    Use as a context manager. Sample 0 is the time of the first picture; what lies outside of the file is 0.
    """

    def __init__(self, path: str | Path, *, sample_rate: int, first_picture_s: float) -> None:
        """Prepares reading.

        Args:
            path: Media file.
            sample_rate: Hz of what is returned.
            first_picture_s: Container time of sample 0, seconds.
        """
        self.path = Path(path)
        self._sample_rate = sample_rate
        self._first_picture_s = first_picture_s
        self._kept = np.zeros(0, np.float32)
        self._kept_start: int | None = None
        self._ended = False

    def __enter__(self) -> SoundReader:
        """Opens the file.

        Raises:
            MediaError: `unreadable`, or `no_audio` without a sound track that can be decoded.
        """
        self._open = open_media(self.path)
        container = self._open.__enter__()
        try:
            stream = find_audio(container)
            if stream is None:
                raise media_error(self.path, "no_audio", "it has no sound track", "use the file with its sound")
            self._blocks = self._resampled(container, stream)
            self._load_one()
            if self._kept_start is None:
                raise media_error(self.path, "no_audio", "its sound track holds nothing that can be decoded")
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
        self, container: InputContainer, stream: AudioStream
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        """Blocks of about a second as (first sample, samples), one after the other without holes."""
        timeline = _SoundTimeline()
        resampler: Resampler | None = None
        start = 0
        for mono, rate in timeline.collect(decode_sound(container, stream)):
            if resampler is None:
                resampler = Resampler(rate, self._sample_rate)
                start = round((timeline.origin_s - self._first_picture_s) * self._sample_rate)
            resampled = resampler.push(mono)
            yield start, resampled
            start += len(resampled)
        if resampler is not None:
            yield start, resampler.flush(timeline.num_samples)


class _SoundTimeline:
    """Lays sound frames end to end, with silence or a cut where their timestamps say so."""

    def __init__(self) -> None:
        self.origin_s = 0.0
        self.num_samples = 0

    def collect(self, frames: Iterator[AudioFrame]) -> Iterator[tuple[np.ndarray, int]]:
        """Blocks of about a second, (N,) float32, each with the file's sample rate in Hz."""
        waiting: list[np.ndarray] = []
        rate = 0
        for frame in frames:
            if not rate:
                if not 0 < frame.sample_rate <= MAX_RATE:
                    return
                rate = frame.sample_rate
                self.origin_s = self._time_of(frame, 0.0)
            elif frame.sample_rate != rate:
                break  # another rate in the middle is damage or another programme
            mono = self._place(frame, to_mono(frame), rate)
            if mono is None:
                break
            self.num_samples += len(mono)
            waiting.append(mono)
            if sum(len(part) for part in waiting) >= rate:
                yield np.concatenate(waiting), rate
                waiting = []
        if waiting:
            yield np.concatenate(waiting), rate

    def _place(self, frame: AudioFrame, mono: np.ndarray, rate: int) -> np.ndarray | None:
        """The frame's samples with silence before them, or less their beginning; None where its time is damage."""
        end_s = self.origin_s + self.num_samples / rate
        late_s = self._time_of(frame, end_s) - end_s
        if abs(late_s) <= MAX_DRIFT_S:
            return mono
        if abs(late_s) > MAX_AHEAD_S:
            logger.warning("sound jumps by %.1f s, read up to there", late_s)
            return None
        num_late = round(late_s * rate)
        if num_late > 0:
            return np.concatenate([np.zeros(num_late, np.float32), mono])
        return mono[-num_late:]

    @staticmethod
    def _time_of(frame: AudioFrame, default_s: float) -> float:
        if frame.pts is None or frame.time_base is None:
            return default_s
        return float(frame.pts * frame.time_base)


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
