"""A turned square of a picture, as the face networks take it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfkit.media.picture import Picture, as_picture


class Roi(NamedTuple):
    """A rotated square, in pixels of the source."""

    x: float
    """Centre."""
    y: float
    """Centre."""
    side: float
    angle_rad: float
    """Clockwise on the screen (y points down)."""


def roi_matrix(roi: Roi, out_px: int) -> np.ndarray:
    """Matrix from indices of the output to indices of the source.

    MediaPipe maps the square's corner onto index 0, not onto the outer edge of pixel 0; so does this.

    Args:
        roi: The square.
        out_px: Side of the output in pixels.
    Returns:
        (2, 3) float64: source = matrix @ (column, row, 1).
    """
    scale = roi.side / out_px
    cos, sin = np.cos(roi.angle_rad) * scale, np.sin(roi.angle_rad) * scale
    half = out_px / 2
    return np.array([[cos, -sin, roi.x - (cos - sin) * half], [sin, cos, roi.y - (sin + cos) * half]], dtype=np.float64)


def warp_roi(picture: Picture | np.ndarray, roi: Roi, out_px: int, *, replicate: bool) -> np.ndarray:
    """Samples a turned square bilinearly.

    Args:
        picture: Planes, or (H, W, 3) uint8 RGB.
        roi: The square in pixels of the picture as shown.
        out_px: Side of the output.
        replicate: Whether the picture's edge goes on outside of it; else black.
    Returns:
        (out_px, out_px, 3) uint8 RGB.
    """
    return as_picture(picture).sample(roi_matrix(roi, out_px), out_px, replicate=replicate, average=False)
