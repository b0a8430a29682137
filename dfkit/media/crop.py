"""Square crops around a face and its mouth.

Pixel i covers [i, i + 1). Where the box shrinks by k >= 2, blocks of k x k pixels are averaged first, so that
nothing aliases; then bilinear with pixel centres at half-integers. Outside of the picture its edge goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dfkit.clip import PictureSpec
from dfkit.media.landmark import OUTER_LIP, landmark_box

_OUTER_LIP = np.array(OUTER_LIP)
MIN_BOX_PX = 1.0
"""Shortest longer side of the landmarks' box that a box is made from."""
MAX_BOX_PX = 32768.0
"""Longest side of a box; landmarks that give more are nonsense."""
AVERAGE_FROM = 2
"""Whole pixels of the source per pixel of the crop from which on blocks are averaged first."""


class SquareBox(NamedTuple):
    """An upright square in pixels of the source."""

    x: float
    """Centre."""
    y: float
    """Centre."""
    side: float


def make_boxes(landmarks: np.ndarray, spec: PictureSpec) -> tuple[SquareBox, SquareBox]:
    """Boxes of the face and of the mouth.

    Args:
        landmarks: (468, 2) pixels, smoothed over time.
        spec: Scales of both boxes.
    Returns:
        The face box, centred on the box of the landmarks, and the lip box, centred on the mean of the outer
        lip; the sides are multiples of the longer side of the landmarks' box.
    """
    left, top, right, bottom = (float(v) for v in landmark_box(landmarks))
    longer = min(max(right - left, bottom - top, MIN_BOX_PX), MAX_BOX_PX)
    lip_x, lip_y = (float(v) for v in landmarks[_OUTER_LIP].astype(np.float64).mean(axis=0))
    face = SquareBox((left + right) / 2, (top + bottom) / 2, spec.face_scale * longer)
    return face, SquareBox(lip_x, lip_y, spec.lip_scale * longer)


def crop_square(rgb: np.ndarray, box: SquareBox, out_px: int) -> np.ndarray:
    """Cuts a square out of a picture and scales it.

    Args:
        rgb: (H, W, 3) uint8.
        box: What to cut, pixels of the source; may reach beyond the picture.
        out_px: Side of the result.
    Returns:
        (out_px, out_px, 3) uint8.
    """
    left, top = box.x - box.side / 2, box.y - box.side / 2
    shrink = int(box.side / out_px)
    if shrink >= AVERAGE_FROM:
        rgb, left, top = _average_blocks(rgb, left, top, box.side, shrink)
        return _sample_bilinear(rgb, left, top, box.side / shrink, out_px)
    return _sample_bilinear(rgb, left, top, box.side, out_px)


def _average_blocks(
    rgb: np.ndarray, left: float, top: float, side: float, shrink: int
) -> tuple[np.ndarray, float, float]:
    # Blocks start one block before the whole pixel in which the box starts: bilinear needs a neighbour.
    x0, y0 = int(np.floor(left)) - shrink, int(np.floor(top)) - shrink
    blocks = int(np.ceil(side / shrink)) + 3
    region = _cut_replicated(rgb, x0, y0, blocks * shrink)
    # INTER_AREA at a whole ratio is the mean of each block, rounded.
    small = cv2.resize(region, (blocks, blocks), interpolation=cv2.INTER_AREA)
    return small, (left - x0) / shrink, (top - y0) / shrink


def _cut_replicated(rgb: np.ndarray, x0: int, y0: int, side: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    before_x, left, right, after_x = _split_span(x0, side, width)
    before_y, top, bottom, after_y = _split_span(y0, side, height)
    inside = rgb[top:bottom, left:right]
    if inside.shape[:2] == (side, side):
        return inside
    return cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)


def _split_span(start: int, length: int, size: int) -> tuple[int, int, int, int]:
    """Pixels missing before, the span inside of the picture (at least one pixel), pixels missing after."""
    first = min(max(start, 0), size - 1)
    last = max(min(start + length, size), first + 1)
    before = min(max(first - start, 0), length - 1)
    return before, first, last, length - before - (last - first)


def _sample_bilinear(rgb: np.ndarray, left: float, top: float, side: float, out_px: int) -> np.ndarray:
    # cv2.warpAffine and remap round positions to 1/32 pixel, up to 6 grey levels off; cv2.resize takes whole
    # pixels only. So this is done here, as whole rows: the picture is transposed in between, because gathering
    # columns costs three times as much.
    above, below, weights_y = _neighbours(top, side, out_px, rgb.shape[0])
    before, after, weights_x = _neighbours(left, side, out_px, rgb.shape[1])
    y0, y1, x0, x1 = above.min(), below.max() + 1, before.min(), after.max() + 1
    region = rgb[y0:y1, x0:x1].astype(np.float32)
    rows = _blend_rows(region, above - y0, below - y0, weights_y)
    columns = _blend_rows(cv2.transpose(rows), before - x0, after - x0, weights_x)
    return cv2.transpose(cv2.convertScaleAbs(columns))


def _blend_rows(values: np.ndarray, lower: np.ndarray, upper: np.ndarray, weights: np.ndarray) -> np.ndarray:
    flat = values.reshape(values.shape[0], -1)
    blended, other = flat.take(lower, axis=0), flat.take(upper, axis=0)
    other -= blended
    other *= weights[:, None]
    blended += other
    return blended.reshape(len(lower), *values.shape[1:])


def _neighbours(start: float, side: float, out_px: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions = start + (np.arange(out_px) + 0.5) * (side / out_px) - 0.5
    lower = np.floor(positions)
    weights = (positions - lower).astype(np.float32)
    index = lower.astype(np.int64)
    # Not np.clip: on arrays this small most of its time is its own preparation.
    before, after = (np.minimum(np.maximum(i, 0), size - 1) for i in (index, index + 1))
    return before, after, weights
