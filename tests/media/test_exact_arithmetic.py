"""What the model card tells ports to compute is what happens here: its words as plain numpy, beside the code.

Whole numbers (RGB, regions) have to be equal bit for bit to FFmpeg and OpenCV.
"""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from dfkit.media.color import COEFFICIENTS, MATRICES, yuv420_to_rgb
from dfkit.media.resample import resample
from dfkit.media.warp import Roi, warp_roi


def planes(rng: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def by_swscale(parts: list[np.ndarray], matrix: Colorspace, *, full: bool) -> np.ndarray:
    height, width = parts[0].shape
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, part in zip(frame.planes, parts, strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : part.shape[1]] = part
        plane.update(padded.tobytes())
    rgb = VideoReformatter().reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BILINEAR,
        threads=1,
    )
    rows = np.frombuffer(memoryview(rgb.planes[0]), np.uint8).reshape(height, rgb.planes[0].line_size)
    return rows[:, : 3 * width].reshape(height, width, 3)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", list(COEFFICIENTS), ids=lambda matrix: matrix.name)
def test_rgb_of_420_in_whole_numbers(matrix: Colorspace, full: bool) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((64, 96), (200, 240), (62, 46), (54, 130)):
        parts = planes(rng, height, width)
        expected = by_swscale(parts, matrix, full=full)
        np.testing.assert_array_equal(yuv420_to_rgb(*parts, matrix=matrix, full=full), expected)
        # Another matrix is another picture.
        other = next(each for each in COEFFICIENTS if each != matrix)
        assert np.abs(yuv420_to_rgb(*parts, matrix=other, full=full).astype(int) - expected).mean() > 0.5


def test_every_tag_has_its_coefficients() -> None:
    assert set(MATRICES.values()) == set(COEFFICIENTS)


def sample_region(rgb: np.ndarray, roi: Roi, out_px: int, *, replicate: bool) -> np.ndarray:
    """The card's words as numpy: section "Face detector", point 1."""
    cos, sin = np.cos(roi.angle_rad) * roi.side / out_px, np.sin(roi.angle_rad) * roi.side / out_px
    place, half = np.arange(out_px), out_px / 2

    def fixed(values: np.ndarray) -> np.ndarray:
        return np.rint(values * 1024).astype(np.int64)

    x = fixed(roi.x - (cos - sin) * half - sin * place)[:, None] + 16 + fixed(cos * place)[None]
    y = fixed(roi.y - (sin + cos) * half + cos * place)[:, None] + 16 + fixed(sin * place)[None]
    column, row = (x >> 5) / 32, (y >> 5) / 32
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    right_share, lower_share = (column - left)[..., None], (row - top)[..., None]

    def at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        found = rgb[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(float)
        if not replicate:
            found[(rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)] = 0
        return found

    upper = at(top, left) * (1 - right_share) + at(top, left + 1) * right_share
    lower = at(top + 1, left) * (1 - right_share) + at(top + 1, left + 1) * right_share
    return np.floor(upper * (1 - lower_share) + lower * lower_share + 0.5).astype(np.uint8)


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize(
    "roi",
    [Roi(120, 100, 240, 0), Roi(118.3, 101.7, 130.2, 0.13), Roi(20.5, 190.1, 90.9, -0.7), Roi(99, 77, 400.4, 2.9)],
)
def test_regions_in_steps_of_a_32nd_pixel(roi: Roi, replicate: bool) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (200, 240, 3), dtype=np.uint8)
    for out_px in (128, 192):
        found = sample_region(rgb, roi, out_px, replicate=replicate)
        np.testing.assert_array_equal(found, warp_roi(rgb, roi, out_px, replicate=replicate))


def resample_by_the_card(x: np.ndarray, old: int, new: int) -> np.ndarray:
    """Section "Sound", point 3, sample by sample; its numbers are typed here as the card shows them."""
    divisor = np.gcd(old, new)
    up, down = new // divisor, old // divisor
    r, attenuation, transition = min(1.0, new / old), 80.0, 0.1
    beta = 0.1102 * (attenuation - 8.7)
    half = int(np.ceil((attenuation - 8.0) / (2.285 * np.pi * transition * r) / 2))
    cutoff = r * (1 - transition / 2)
    taps = np.arange(-half + 1, half + 1)
    padded = np.concatenate([np.zeros(half), x.astype(np.float64), np.zeros(half + 1)])
    result = np.zeros(-(-len(x) * up // down))
    for n in range(len(result)):
        d = taps - (n * down % up) / up
        h = np.sinc(cutoff * d) * np.i0(beta * np.sqrt(np.maximum(0, 1 - (d / half) ** 2)))
        result[n] = (h / h.sum()) @ padded[n * down // up + taps + half]
    return result


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000])
def test_resampling_by_formula(rate: int) -> None:
    x = np.random.default_rng(2).uniform(-1, 1, rate // 20).astype(np.float32)
    found = resample(x, rate, 16000)
    expected = x if rate == 16000 else resample_by_the_card(x, rate, 16000)
    # Coefficients and sums are float32 there: 1e-6 of full scale, 30 dB below what the golden video asks for.
    np.testing.assert_allclose(found, expected, atol=1e-6)
