"""What the model card tells ports to compute is what happens here: its words as plain numpy, beside the code.

Whole numbers (RGB, planes, regions, blocks) have to be equal bit for bit to OpenCV; only the matrix to RGB may round
the other way.
"""

from __future__ import annotations

import numpy as np
import pytest

from dfkit.media.color import BT601, BT709, BT2020, FCC, SMPTE240M, rgb_matrix, to_rgb
from dfkit.media.crop import SquareBox, crop_square
from dfkit.media.geometry import Geometry
from dfkit.media.picture import average_blocks, picture_of_planes, place_in_plane, warp
from dfkit.media.resample import resample
from dfkit.media.warp import Roi, roi_matrix, warp_roi

HEIGHT, WIDTH = 200, 240
SUBSAMPLED = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "411": (4, 1)}
"""Columns and rows of luma for one of chroma."""
MATRIX_LIMIT = 0.88
"""Grey levels: half a one of rounding, and OpenCV's coefficients for 8 bits are whole 1 / 1024: 3 x 255 / 2048."""
ROIS = [Roi(120, 100, 240, 0), Roi(118.3, 101.7, 130.2, 0.13), Roi(20.5, 190.1, 90.9, -0.7), Roi(99, 77, 400.4, 2.9)]
BOXES = [SquareBox(120.3, 99.1, 40.7), SquareBox(111.7, 90.2, 150.3), SquareBox(30.1, 180.4, 401.9)]


def planes(rng: np.random.Generator, height: int, width: int, *, kind: str = "420", bits: int = 8) -> list[np.ndarray]:
    across, down = SUBSAMPLED[kind]
    sizes = ((height, width), *[(-(-height // down), -(-width // across))] * 2)
    return [rng.integers(0, 1 << bits, size).astype(np.uint8 if bits == 8 else np.uint16) for size in sizes]


def formula(shares: tuple[float, float], yuv: list[np.ndarray], *, full: bool, bits: int = 8) -> np.ndarray:
    """H.273's own words: equations 20 to 40, in float64; not rounded."""
    (kr, kb), (y, u, v) = shares, (part.astype(float) for part in yuv)
    unit = 2 ** (bits - 8)
    if full:
        y, u, v = y / (2**bits - 1), (u - 2 ** (bits - 1)) / (2**bits - 1), (v - 2 ** (bits - 1)) / (2**bits - 1)
    else:
        y, u, v = (y / unit - 16) / 219, (u / unit - 128) / 224, (v / unit - 128) / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip(np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], axis=-1) * 255, 0, 255)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("shares", [BT601, BT709, FCC, SMPTE240M, BT2020])
def test_rgb_of_yuv(shares: tuple[float, float], full: bool) -> None:
    rng = np.random.default_rng(0)
    for bits in (8, 10, 12):
        yuv = rng.integers(0, 1 << bits, (64, 96, 3)).astype(np.uint8 if bits == 8 else np.float32)
        found = to_rgb(yuv, rgb_matrix(shares, full=full, bits=bits)).astype(float)
        expected = formula(shares, [yuv[..., i] for i in range(3)], full=full, bits=bits)
        # More bits come as float32, to be rounded and clipped by the caller.
        limit = MATRIX_LIMIT if bits == 8 else 1e-3
        np.testing.assert_allclose(np.clip(found, 0, 255), expected, atol=limit)


def fixed_places(matrix: np.ndarray, out_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of a plane in whole 1 / 32 pixels, each (out_px, out_px): the rows' and the columns' parts are
    rounded to 1 / 1024 each, half to even, then cut to 1 / 32 with half a step added."""
    place = np.arange(out_px)
    across = np.rint(matrix[:, :1] * place * 1024).astype(np.int64)
    down = np.rint((matrix[:, 1:2] * place + matrix[:, 2:]) * 1024).astype(np.int64)
    x, y = (down[axis][:, None] + 16 + across[axis][None] >> 5 for axis in (0, 1))
    return x, y


def bilinear(plane: np.ndarray, matrix: np.ndarray, out_px: int, *, border: int | None) -> np.ndarray:
    """A plane at those places; 8 bits are rounded half up, more bits half to even."""
    x, y = fixed_places(matrix, out_px)
    left, top = x >> 5, y >> 5
    shape = (out_px, out_px) + (1,) * (plane.ndim - 2)
    right_share, lower_share = (x % 32 / 32).reshape(shape), (y % 32 / 32).reshape(shape)

    def at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        height, width = plane.shape[:2]
        found = plane[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(float)
        if border is not None:
            found[(rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)] = border
        return found

    upper = at(top, left) * (1 - right_share) + at(top, left + 1) * right_share
    lower = at(top + 1, left) * (1 - right_share) + at(top + 1, left + 1) * right_share
    value = upper * (1 - lower_share) + lower * lower_share
    return (np.floor(value + 0.5) if plane.dtype == np.uint8 else np.rint(value)).astype(plane.dtype)


def turned(roi: Roi, out_px: int) -> np.ndarray:
    """The card's words: section "Face detector", point 1."""
    cos, sin = np.cos(roi.angle_rad) * roi.side / out_px, np.sin(roi.angle_rad) * roi.side / out_px
    half = out_px / 2
    return np.array([[cos, -sin, roi.x - (cos - sin) * half], [sin, cos, roi.y - (sin + cos) * half]])


def boxed(box: SquareBox, out_px: int) -> np.ndarray:
    """The card's words on crops: pixel k of the result has its middle at (k + 0.5) side / out_px."""
    step = box.side / out_px
    return np.array(
        [[step, 0, box.x - box.side / 2 + step / 2 - 0.5], [0, step, box.y - box.side / 2 + step / 2 - 0.5]]
    )


def on_plane(matrix: np.ndarray, across: int, down: int) -> np.ndarray:
    """Index i of the picture is index (i + 0.5) / subsampling - 0.5 of a plane."""
    placed = matrix.copy()
    for axis, ratio in enumerate((across, down)):
        placed[axis] /= ratio
        placed[axis, 2] = (matrix[axis, 2] + 0.5) / ratio - 0.5
    return placed


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("roi", ROIS)
def test_regions_in_steps_of_a_32nd_pixel(roi: Roi, replicate: bool) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for out_px in (128, 192):
        found = bilinear(rgb, turned(roi, out_px), out_px, border=None if replicate else 0)
        np.testing.assert_array_equal(found, warp_roi(rgb, roi, out_px, replicate=replicate))


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("kind", list(SUBSAMPLED))
def test_each_plane_is_sampled_where_its_pixels_lie(kind: str, bits: int) -> None:
    parts = planes(np.random.default_rng(3), HEIGHT, WIDTH, kind=kind, bits=bits)
    upright = Geometry((WIDTH, HEIGHT), (WIDTH, HEIGHT))
    black = 16 << bits - 8
    for roi in ROIS:
        for border in (None, black):
            sampled = []
            for plane, ratios in zip(parts, ((1, 1), *[SUBSAMPLED[kind]] * 2), strict=True):
                outside = border if border is None or plane is parts[0] else 128 << bits - 8
                by_words = bilinear(plane, on_plane(turned(roi, 128), *ratios), 128, border=outside)
                placed = place_in_plane(roi_matrix(roi, 128), upright, plane.shape[1::-1])
                np.testing.assert_array_equal(warp(plane, placed, 128, border=outside), by_words)
                sampled.append(by_words)
            picture = picture_of_planes(tuple(parts), shares=BT601, full=False, bits=bits)
            found = warp_roi(picture, roi, 128, replicate=border is None)
            assert np.abs(found - formula(BT601, sampled, full=False, bits=bits)).max() <= MATRIX_LIMIT


def block_means(plane: np.ndarray, x0: int, y0: int, count: tuple[int, int], across: int, down: int) -> np.ndarray:
    """Means of blocks from (x0, y0) on, the edge going on; 8 bits of 2 x 2 are rounded half up, all else half to
    even."""
    rows = np.clip(np.arange(y0, y0 + count[1] * down), 0, plane.shape[0] - 1)
    columns = np.clip(np.arange(x0, x0 + count[0] * across), 0, plane.shape[1] - 1)
    blocks = plane[rows][:, columns].reshape(count[1], down, count[0], across).astype(np.int64)
    total, area = blocks.sum(axis=(1, 3)), across * down
    whole, rest = total // area, total % area * 2
    half_up = (across, down) == (2, 2)
    up = (rest > area) | ((rest == area) & ((whole % 2 == 1) | half_up))
    return (whole + up).astype(plane.dtype)


def averaged(plane: np.ndarray, placed: np.ndarray, out_px: int) -> np.ndarray:
    """The card's words on crops that shrink: whole numbers of pixels per axis are averaged first."""
    across, down = (max(int(placed[axis, axis]), 1) for axis in (0, 1))
    if max(across, down) < 2:
        return bilinear(plane, placed, out_px, border=None)
    x0, y0 = (int(np.floor(placed[axis, 2])) - step for axis, step in ((0, across), (1, down)))
    count = (out_px + plane.shape[1] // across + 4, out_px + plane.shape[0] // down + 4)
    shrunk = placed.copy()
    for axis, (start, step) in enumerate(((x0, across), (y0, down))):
        shrunk[axis] = placed[axis] / step
        shrunk[axis, 2] = (placed[axis, 2] - start + 0.5) / step - 0.5
    return bilinear(block_means(plane, x0, y0, count, across, down), shrunk, out_px, border=None)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("kind", list(SUBSAMPLED))
@pytest.mark.parametrize("box", BOXES)
def test_crops_average_whole_blocks_of_each_plane(box: SquareBox, kind: str, bits: int) -> None:
    parts = planes(np.random.default_rng(4), HEIGHT, WIDTH, kind=kind, bits=bits)
    upright = Geometry((WIDTH, HEIGHT), (WIDTH, HEIGHT))
    for out_px in (96, 40):
        sampled = []
        for plane, ratios in zip(parts, ((1, 1), *[SUBSAMPLED[kind]] * 2), strict=True):
            by_words = averaged(plane, on_plane(boxed(box, out_px), *ratios), out_px)
            placed = place_in_plane(boxed(box, out_px), upright, plane.shape[1::-1])
            np.testing.assert_array_equal(
                warp(*average_blocks(plane, placed, out_px), out_px, border=None), by_words, err_msg=f"{ratios}"
            )
            sampled.append(by_words)
        picture = picture_of_planes(tuple(parts), shares=BT709, full=True, bits=bits)
        found = crop_square(picture, box, out_px)
        assert np.abs(found - formula(BT709, sampled, full=True, bits=bits)).max() <= MATRIX_LIMIT


def test_a_crop_of_rgb_averages_its_channels() -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for box in BOXES:
        expected = np.stack([averaged(rgb[..., c], boxed(box, 40), 40) for c in range(3)], axis=-1)
        np.testing.assert_array_equal(crop_square(rgb, box, 40), expected)


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
