"""Square crops around a face and its mouth.

Pixel i covers [i, i + 1). Where a plane shrinks by 2 or more, blocks of its pixels are averaged first, so that nothing
aliases; then bilinear. Outside of the picture its edge goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfkit.clip import PictureSpec
from dfkit.media.landmark import OUTER_LIP, landmark_box
from dfkit.media.picture import Picture, as_picture

_OUTER_LIP = np.array(OUTER_LIP)
MIN_BOX_PX = 1.0
"""Shortest longer side of the landmarks' box that a box is made from."""
MAX_BOX_PX = 32768.0
"""Longest side of a box; landmarks that give more are nonsense."""


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


def crop_square(picture: Picture | np.ndarray, box: SquareBox, out_px: int) -> np.ndarray:
    """Cuts a square out of a picture and scales it.

    Args:
        picture: Planes, or (H, W, 3) uint8 RGB.
        box: What to cut, pixels of the picture as shown; may reach beyond it.
        out_px: Side of the result.
    Returns:
        (out_px, out_px, 3) uint8 RGB.
    """
    step = box.side / out_px
    left, top = (centre - box.side / 2 + step / 2 - 0.5 for centre in (box.x, box.y))
    matrix = np.array([[step, 0.0, left], [0.0, step, top]])
    return as_picture(picture).sample(matrix, out_px, replicate=True, average=True)
