"""Facts of a media file, measured by reading it once; what its header says is not believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from dfkit.media.audio import choose_sound, decode_sound, no_sound_error, open_track
from dfkit.media.channels import to_mono
from dfkit.media.container import media_error, open_media
from dfkit.media.geometry import make_geometry, read_turn, rotation_deg
from dfkit.media.survey import Survey, frame_time, survey_file
from dfkit.media.video import DecodedPicture, PictureDecoder, no_picture_error, open_video

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
    """Counter-clockwise turn that the container asks for, before any mirroring: 0, 90, 180 or 270."""
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


def probe(path: str | Path, *, allow_silent: bool = False, survey: Survey | None = None) -> VideoFacts:
    """Measures a file: pictures are counted, only the first is decoded; sound is decoded.

    Args:
        path: Media file.
        allow_silent: Whether a file without sound has facts too; its audio fields are None.
        survey: Of the file; made where left out.
    Returns:
        The facts.
    Raises:
        MediaError: `unreadable`, or `no_audio`.
    """
    path = Path(path)
    survey = survey or survey_file(path)
    track = choose_sound(survey)
    if track is None and not allow_silent:
        raise no_sound_error(survey)
    first = next(iter(PictureDecoder(survey, num_threads=1)), None)
    if first is None:
        raise no_picture_error(survey)
    with open_media(path) as container:
        meter = _SoundMeter()
        sound = None
        if track is not None:
            sound = open_track(container, track)
            for frame in decode_sound(container, sound):
                meter.push(frame)
        if not meter.num_samples and not allow_silent:
            raise media_error(path, "no_audio", "its sound track holds nothing that can be decoded")
        codec = open_video(container, survey, num_threads=1).codec_context.name
        return _make_facts(survey, codec, first, sound if meter.num_samples else None, meter)


class _SoundMeter:
    """Level and leading silence of a sound track."""

    def __init__(self) -> None:
        self.num_samples = 0
        self.length_s = 0.0
        self.first_s = 0.0
        self.silent_s: float | None = None
        self._energy = 0.0
        self._rest = np.zeros(0, np.float32)
        self._blocks = 0

    def push(self, frame: AudioFrame) -> None:
        if not self.num_samples:
            self.first_s = frame_time(frame.pts, frame.time_base) or 0.0
        mono = to_mono(frame)
        self.num_samples += len(mono)
        self.length_s += len(mono) / frame.sample_rate if frame.sample_rate else 0.0
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
    survey: Survey, codec: str, first: DecodedPicture, sound: AudioStream | None, meter: _SoundMeter
) -> VideoFacts:
    frame = first.frame
    duration_s = max(survey.end_s - first.start_s, 1e-3)
    turn = read_turn(frame)
    geometry = make_geometry(frame.width, frame.height, aspect=None, turn=turn)
    silent_s = meter.first_s - first.start_s + (meter.length_s if meter.silent_s is None else meter.silent_s)
    size = survey.path.stat().st_size
    return VideoFacts(
        path=survey.path,
        duration_s=duration_s,
        fps=survey.num_pictures / duration_s,
        width=geometry.shown[0],
        height=geometry.shown[1],
        rotation_deg=rotation_deg(turn),
        codec=codec,
        bitrate_kbps=size * 8 / duration_s / 1000,
        size_bytes=size,
        num_frames=survey.num_pictures,
        audio_codec=None if sound is None else sound.codec_context.name,
        audio_sample_rate=None if sound is None else sound.sample_rate,
        audio_channels=None if sound is None else sound.codec_context.channels,
        leading_silence_s=None if sound is None else max(silent_s, 0.0),
        loudness_db=None if sound is None else meter.loudness_db(),
        first_picture_s=first.start_s,
        pixel_format=frame.format.name,
    )
