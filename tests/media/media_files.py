"""Media files made for the tests with PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_media(
    path: Path,
    frames: Iterable[np.ndarray] = (),
    *,
    fps: float | Fraction = 25,
    times_s: Iterable[float] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound: np.ndarray | None = None,
    sample_rate: int = 16000,
    sound_codec: str = "aac",
    sound_start_s: float = 0.0,
    matrix: int | None = None,
    full_range: bool | None = None,
    container_options: dict[str, str] | None = None,
    layout: str | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Writes pictures (H, W, 3) uint8 and sound (channels, N) float32.

    `layout` names the sound's channels; mono or stereo where None. `aspect` is the width of a pixel by its height.
    `times_s` gives each picture's own time (variable frame rate), in milliseconds' precision.
    """
    frames = iter(frames)
    first = next(frames, None)
    layout = layout or ("mono" if sound is None or len(sound) == 1 else "stereo")
    with av.open(str(path), "w", options=container_options or {}) as out:
        video = audio = None
        if first is not None:
            rate = Fraction(fps).limit_denominator(1001)
            video = out.add_stream(codec, rate=rate, options=options or _fast(codec))
            video.height, video.width, video.pix_fmt = *first.shape[:2], pixel_format
            if times_s is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if aspect is not None:
                video.codec_context.sample_aspect_ratio = video.sample_aspect_ratio = aspect
            if matrix is not None:
                video.codec_context.colorspace = matrix
            if full_range is not None:
                video.codec_context.color_range = 2 if full_range else 1
        if sound is not None:
            audio = out.add_stream(sound_codec, rate=sample_rate, layout=layout)
        if video is not None:
            times = None if times_s is None else iter(times_s)
            for index, rgb in enumerate(_chain(first, frames)):
                frame = _to_frame(rgb, pixel_format, matrix, full_range)
                if times is None:
                    frame.pts, frame.time_base = index, 1 / rate
                else:
                    frame.pts, frame.time_base = round(next(times) * 1000), Fraction(1, 1000)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        if audio is not None:
            for start in range(0, sound.shape[1], 1024):
                # Interleaved: of eight planes PyAV 18 takes one too many.
                block = np.ascontiguousarray(sound[:, start : start + 1024].T, np.float32).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, "flt", layout)
                frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
                frame.pts = start + round(sound_start_s * sample_rate)
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


def _chain(first: np.ndarray, rest: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    yield first
    yield from rest


def _fast(codec: str) -> dict[str, str]:
    return {"preset": "ultrafast", "crf": "12"} if codec == "libx264" else {}


def _to_frame(rgb: np.ndarray, pixel_format: str, matrix: int | None, full_range: bool | None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    return frame.reformat(
        format=pixel_format,
        dst_colorspace=matrix or 5,
        dst_color_range=2 if full_range else 1,
        src_color_range=2,
        threads=1,
    )


def tone(seconds: float, *, hz: float = 440.0, sample_rate: int = 16000, level: float = 0.3) -> np.ndarray:
    """(1, N) float32 sine."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * hz * times)).astype(np.float32)[None]


def numbered(count: int, *, size: tuple[int, int] = (64, 96)) -> Iterable[np.ndarray]:
    """Pictures whose number is written as eight black or white bars, so that any codec keeps it."""
    height, width = size
    for index in range(count):
        bits = np.array([index >> bit & 1 for bit in range(8)], np.uint8) * 255
        bars = np.repeat(bits, -(-width // 8))[:width]
        yield np.ascontiguousarray(np.broadcast_to(bars[None, :, None], (height, width, 3)))


def read_number(rgb: np.ndarray) -> int:
    """The number that `numbered` wrote."""
    height, width = rgb.shape[:2]
    step = -(-width // 8)
    columns = np.minimum(np.arange(8) * step + step // 2, width - 1)
    return int(sum(1 << bit for bit in range(8) if rgb[height // 2, columns[bit]].mean() > 127))


def set_display_matrix(path: Path, turn: tuple[int, int, int, int]) -> None:
    """Writes a, b, c, d into an MP4's first `tkhd` box (ISO 14496-12, 8.3.2): a, b, u, c, d, v, x, y, w."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    a, b, c, d = turn
    words = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    content[start : start + 36] = b"".join((word & 0xFFFFFFFF).to_bytes(4, "big") for word in words)
    path.write_bytes(content)


def smooth_picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 without edges, so that halved chroma and rounded positions hardly change it; no two corners are
    alike."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (3, 2))
    y, x = (np.linspace(0, 1, size) for size in (height, width))
    channels = [120 + 60 * np.sin(2.1 * y + p)[:, None] + 50 * np.sin(2.9 * x + q)[None] for p, q in phases]
    return np.rint(np.clip(np.stack(channels, axis=-1), 0, 255)).astype(np.uint8)
