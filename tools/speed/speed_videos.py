"""Videos to measure preparation with: one synthetic head at two sizes, and the same for longer.

They are made where they are needed, so that everybody measures the same pictures and none of a real person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

FPS = 25.0
SMALL_PX = (640, 360)
LARGE_PX = (1920, 1080)
SMALL_KBPS, LARGE_KBPS = 900, 5000
"""As video platforms stream these sizes; what decoding costs hangs on it."""
AUDIO_KBPS = 96
SAMPLE_RATE = 32000
GRAIN_LEVELS = 4
"""Largest noise that is put on the enlarged pictures, grey levels: without it they would be easy to decode."""
GRAIN_ROOM_PX = 64


@dataclass(frozen=True)
class SpeedVideos:
    """The files, H.264 with AAC in MP4."""

    small: Path
    """640 x 360."""
    large: Path
    """1920 x 1080."""
    longer: dict[float, Path]
    """640 x 360, by length in seconds."""


def make_speed_videos(folder: Path, *, seconds: float, longer_s: tuple[float, ...]) -> SpeedVideos:
    """Writes all files.

    Args:
        folder: Exists.
        seconds: Length of the two files that speed is measured with.
        longer_s: Lengths of further small files.
    Raises:
        MissingExtraError: scikit-image, which holds the head's portrait, is not installed.
    """
    from dfkit.media.encode import EncodeSettings, write_video
    from dfkit.synthetic.heads import HeadRenderer
    from dfkit.synthetic.portrait import make_head
    from dfkit.synthetic.scenery import make_scenery
    from dfkit.synthetic.speakers import make_speakers
    from dfkit.synthetic.voice import VoiceSettings, speak

    speaker = make_speakers(1, seed=0)[0]
    voice = VoiceSettings(speaker.pitch_hz, speaker.formant_scale, speaker.syllables_per_s, speaker.breathiness)
    speech = speak(voice, seconds=seconds, sample_rate=SAMPLE_RATE, seed=0)
    head = make_head(speaker, seed=0)
    width, height = SMALL_PX
    renderer = HeadRenderer(speaker, head, make_scenery(speaker, head, seed=0), width=width, height=height)
    pictures = list(renderer.render(speech, round(seconds * FPS), np.random.default_rng(0)))
    videos = SpeedVideos(
        folder / "head-360p.mp4", folder / "head-1080p.mp4", {s: folder / f"head-360p-{s:g}s.mp4" for s in longer_s}
    )
    small = EncodeSettings(fps=FPS, video_kbps=SMALL_KBPS, audio_kbps=AUDIO_KBPS)
    large = EncodeSettings(fps=FPS, video_kbps=LARGE_KBPS, audio_kbps=AUDIO_KBPS)
    write_video(videos.small, pictures, speech.waveform, sample_rate=SAMPLE_RATE, settings=small)
    write_video(videos.large, _enlarge(pictures), speech.waveform, sample_rate=SAMPLE_RATE, settings=large)
    for length_s, path in videos.longer.items():
        sound = np.resize(speech.waveform, round(length_s * SAMPLE_RATE))
        write_video(path, _swing(pictures, round(length_s * FPS)), sound, sample_rate=SAMPLE_RATE, settings=small)
    return videos


def _enlarge(pictures: list[np.ndarray]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    width, height = LARGE_PX
    size = (height + GRAIN_ROOM_PX, width + GRAIN_ROOM_PX, 3)
    grain = rng.integers(-GRAIN_LEVELS, GRAIN_LEVELS + 1, size).astype(np.int16)
    for picture in pictures:
        dx, dy = rng.integers(0, GRAIN_ROOM_PX, size=2)
        enlarged = cv2.resize(picture, LARGE_PX, interpolation=cv2.INTER_CUBIC)
        yield np.clip(enlarged + grain[dy : dy + height, dx : dx + width], 0, 255).astype(np.uint8)


def _swing(pictures: list[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Forwards and backwards in turn: one scene without a cut."""
    both = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    for index in range(count):
        yield pictures[both[index % len(both)]]
