"""Makes the short video that every bundle's golden vectors start at: `python tools/golden_head.py`.

A synthetic head over colour bars, which a wrong YUV matrix changes most. It is made once and shipped, because builds of
FFmpeg encode differently; on one machine this makes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from dfkit.media.encode import EncodeSettings, write_video
from dfkit.synthetic import heads
from dfkit.synthetic.speakers import make_speakers

OUT = Path(__file__).resolve().parents[1] / "dfkit" / "export" / "golden_head.mp4"
SECONDS, SEED, SPEAKER = 2.4, 3, 1
WIDTH_PX, HEIGHT_PX, BARS_PX = 240, 200, 32
ENCODING = EncodeSettings(fps=25.0, audio_kbps=64, crf=24)


def colour_bars(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: yellow, cyan, green, magenta, red, blue at three quarters of full scale."""
    colours = np.array([(1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)]) * 191
    bars = np.repeat(colours, width // len(colours), axis=0).astype(np.uint8)
    return np.repeat(bars[None], height, axis=0)


def write_with_bars(path: Path, frames: Iterable[np.ndarray], waveform: np.ndarray, **options: Any) -> int:
    """`write_video` with colour bars over the lowest rows."""
    bars = colour_bars(WIDTH_PX, BARS_PX)
    return write_video(path, (np.concatenate([f[:-BARS_PX], bars]) for f in frames), waveform, **options)


def make(path: Path) -> Path:
    """Writes the video."""
    speaker = make_speakers(4, seed=SEED)[SPEAKER]
    with mock.patch.multiple(heads, ENCODING=ENCODING, write_video=write_with_bars):
        heads.make_head_video(path, speaker, seconds=SECONDS, seed=SEED, width=WIDTH_PX, height=HEIGHT_PX)
    return path


if __name__ == "__main__":
    print(make(OUT), OUT.stat().st_size, "bytes")
