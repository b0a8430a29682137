"""The 468 landmarks of a face inside a region, and the region for the next picture from them.

Source: Kartynnik et al. 2019, arXiv:1907.06724; constants from MediaPipe's face landmark graph.
"""

from __future__ import annotations

import numpy as np

from dfkit.media.detect import ROI_SCALE
from dfkit.media.faces import LANDMARK_PX, LANDMARK_RANGE, FaceModels, scale_levels
from dfkit.media.picture import Picture
from dfkit.media.warp import Roi, warp_roi

MIN_PRESENCE = 0.5
"""A region holds a face from this probability on."""
EYE_CORNERS = (33, 263)
"""Outer corners of the eyes, left on the picture first; the line between them is made level."""
OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""Landmarks on the outer edge of the lips."""


def project_landmarks(points: np.ndarray, roi: Roi) -> np.ndarray:
    """Takes landmarks from the network's picture back to the source.

    Args:
        points: (468, 2), pixels of the 192 px picture.
        roi: The region that the picture was taken from.
    Returns:
        (468, 2) float32, pixels of the source.
    """
    x = points[:, 0].astype(np.float64) / LANDMARK_PX - 0.5
    y = points[:, 1].astype(np.float64) / LANDMARK_PX - 0.5
    cos, sin = np.cos(roi.angle_rad), np.sin(roi.angle_rad)
    turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)
    return (turned * roi.side + (roi.x, roi.y)).astype(np.float32)


def landmark_box(landmarks: np.ndarray) -> np.ndarray:
    """Upright box around landmarks.

    Args:
        landmarks: (N, 2) pixels.
    Returns:
        (4,) left, top, right, bottom.
    """
    # Along contiguous rows numpy's reductions are four times as fast as down two columns.
    axes = np.ascontiguousarray(landmarks.T)
    return np.concatenate([axes.min(axis=1), axes.max(axis=1)])


def landmark_roi(landmarks: np.ndarray) -> Roi:
    """Region in which the face is looked for in the next picture.

    Args:
        landmarks: (468, 2) pixels of the source.
    Returns:
        The box around them, turned level with the eyes, made square and enlarged.
    """
    left, top, right, bottom = (float(v) for v in landmark_box(landmarks))
    dx, dy = (float(v) for v in landmarks[EYE_CORNERS[1]] - landmarks[EYE_CORNERS[0]])
    side = max(right - left, bottom - top) * ROI_SCALE
    return Roi((left + right) / 2, (top + bottom) / 2, side, float(np.arctan2(dy, dx)))


def find_landmarks(picture: Picture | np.ndarray, roi: Roi, models: FaceModels) -> tuple[np.ndarray, float]:
    """Finds the landmarks of the face in a region.

    Args:
        picture: Planes, or (H, W, 3) uint8 RGB.
        roi: Where the face is expected.
        models: The networks.
    Returns:
        Landmarks (468, 2) float32 in pixels of the source, and the probability that there is a face.
    """
    seen = warp_roi(picture, roi, LANDMARK_PX, replicate=True)
    points, logit = models.landmark(scale_levels(seen, LANDMARK_RANGE))
    return project_landmarks(points, roi), 1.0 / (1.0 + float(np.exp(-logit)))
