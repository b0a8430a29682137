"""Facts of a media file, measured by reading it once; what its header says is not believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfkit.media.audio import to_mono
from dfkit.media.container import MAX_HOLE_S, check_size, find_audio, find_video, media_error, open_media

SILENCE_DB = -50.0
"""A 10 ms stretch of sound below this RMS level is silent, dBFS."""
_QUIET_S = 0.01


@dataclass(frozen=True)
class VideoFacts:
    """Length, size, rate, codecs and loudness of a file, as measured."""

    path: Path
    duration_s: float
    """From the first picture to the end of the last, by timestamps."""
    fps: float
    """Pictures per second of that time."""
    width: int
    """After rotation."""
    height: int
    """After rotation."""
    rotation_deg: int
    """Counter-clockwise turn that the container asks for: 0, 90, 180 or 270."""
    codec: str
    bitrate_kbps: float
    """Of the whole file: bytes * 8 / duration / 1000."""
    size_bytes: int
    num_frames: int
    audio_codec: str | None
    audio_sample_rate: int | None
    """Hz."""
    audio_channels: int | None
    leading_silence_s: float | None
    """From the first picture until the sound first exceeds -50 dBFS over 10 ms; all of it if never."""
    loudness_db: float | None
    """RMS of the whole sound, dBFS; at least -120."""
    first_picture_s: float
    """Container time of the first picture."""
    pixel_format: str


def probe(path: str | Path, *, allow_silent: bool = False) -> VideoFacts:
    """Measures a file in one pass: pictures are counted, only the first is decoded; sound is decoded.

    Args:
        path: Media file.
        allow_silent: Whether a file without sound has facts too; its audio fields are None.
    Returns:
        The facts.
    Raises:
        MediaError: `unreadable`, or `no_audio`.
    """
    path = Path(path)
    with open_media(path) as container:
        video = find_video(container, path, num_threads=1)
        meter = _SoundMeter(container)
        if meter.stream is None and not allow_silent:
            raise media_error(path, "no_audio", "it has no sound track", "use the file with its sound")
        clock = _PictureClock(path, video)
        _read_all(container, clock, meter)
        if clock.first is None:
            raise media_error(path, "unreadable", "not one picture of it can be decoded")
        if not meter.num_samples and not allow_silent:
            raise media_error(path, "no_audio", "its sound track holds nothing that can be decoded")
        return _make_facts(path, video, clock, clock.first, meter)


def _read_all(container: InputContainer, clock: _PictureClock, meter: _SoundMeter) -> None:
    streams = [clock.stream] if meter.stream is None else [clock.stream, meter.stream]
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, FFmpegError, ValueError):
            return
        if packet.stream is clock.stream:
            clock.push(packet)
        else:
            meter.push(packet)


class _PictureClock:
    """Counts pictures and finds the time they span."""

    def __init__(self, path: Path, stream: VideoStream) -> None:
        self.stream = stream
        self.first: VideoFrame | None = None
        self.num_frames = 0
        self.times_s: tuple[float, float] | None = None
        self._path = path

    def push(self, packet: Packet) -> None:
        if self.first is None:
            self._decode_first(packet)
        if packet.pts is None or packet.time_base is None or packet.is_discard:
            return
        self.num_frames += 1
        start_s = float(packet.pts * packet.time_base)
        end_s = start_s + min(float((packet.duration or 0) * packet.time_base), MAX_HOLE_S)
        first_s, last_s = self.times_s or (start_s, end_s)
        if start_s <= last_s + MAX_HOLE_S:
            self.times_s = (min(first_s, start_s), max(last_s, end_s))

    def _decode_first(self, packet: Packet) -> None:
        try:
            frames = packet.decode()
        except (FFmpegError, ValueError):
            return
        for frame in frames:
            check_size(self._path, frame.width, frame.height)
            self.first = frame
            return


class _SoundMeter:
    """Level and leading silence of a sound track."""

    def __init__(self, container: InputContainer) -> None:
        self.stream = find_audio(container)
        self.num_samples = 0
        self.first_s = 0.0
        self.silent_s: float | None = None
        self._energy = 0.0
        self._rest = np.zeros(0, np.float32)
        self._blocks = 0

    def push(self, packet: Packet) -> None:
        try:
            frames = packet.decode()
        except (FFmpegError, ValueError):
            return
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            if not self.num_samples and frame.pts is not None and frame.time_base is not None:
                self.first_s = float(frame.pts * frame.time_base)
            mono = to_mono(frame)
            self.num_samples += len(mono)
            self._energy += float(np.square(mono, dtype=np.float64).sum())
            if self.silent_s is None:
                self._find_onset(mono, max(1, int(frame.sample_rate * _QUIET_S)))

    def _find_onset(self, mono: np.ndarray, block: int) -> None:
        self._rest = np.concatenate([self._rest, mono])
        whole = len(self._rest) // block
        power = np.square(self._rest[: whole * block].reshape(whole, block), dtype=np.float64).mean(axis=1)
        loud = np.flatnonzero(power > 10 ** (SILENCE_DB / 10))
        if len(loud):
            self.silent_s = (self._blocks + int(loud[0])) * _QUIET_S
        self._blocks += whole
        self._rest = self._rest[whole * block :]

    def loudness_db(self) -> float:
        return 10 * math.log10(max(self._energy / max(self.num_samples, 1), 1e-12))


def _make_facts(
    path: Path, video: VideoStream, clock: _PictureClock, first: VideoFrame, meter: _SoundMeter
) -> VideoFacts:
    first_s = float(first.pts * first.time_base) if first.pts is not None and first.time_base else 0.0
    end_s = max(clock.times_s[1] if clock.times_s else 0.0, first_s)
    duration_s = max(end_s - first_s, 1e-3)
    rotation = round(first.rotation / 90) % 4 * 90
    turned = rotation in {90, 270}
    sound = meter.stream if meter.num_samples else None
    length_s = meter.num_samples / sound.sample_rate if sound is not None and sound.sample_rate else 0.0
    silent_s = meter.first_s - first_s + (length_s if meter.silent_s is None else meter.silent_s)
    size = path.stat().st_size
    return VideoFacts(
        path=path,
        duration_s=duration_s,
        fps=clock.num_frames / duration_s,
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        rotation_deg=rotation,
        codec=video.codec_context.name,
        bitrate_kbps=size * 8 / duration_s / 1000,
        size_bytes=size,
        num_frames=clock.num_frames,
        audio_codec=None if sound is None else sound.codec_context.name,
        audio_sample_rate=None if sound is None else sound.sample_rate,
        audio_channels=None if sound is None else sound.codec_context.channels,
        leading_silence_s=None if sound is None else max(silent_s, 0.0),
        loudness_db=None if sound is None else meter.loudness_db(),
        first_picture_s=first_s,
        pixel_format=first.format.name,
    )
