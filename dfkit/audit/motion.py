"""Motion features of a clip's 468 landmarks.

Each picture's points, as complex numbers, are aligned to the clip's mean shape by the similarity transform that fits
best (shift, turn, size): the transform is the head's motion, the remainder the face's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfkit.media.landmark import OUTER_LIP

MOUTH = (*OUTER_LIP, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
NOSE = (1, 2, 4, 5, 6, 19, 94, 98, 168, 195, 197, 327)
CONTOUR = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
REGIONS = {"mouth": MOUTH, "eyes": (*RIGHT_EYE, *LEFT_EYE), "nose": NOSE, "contour": CONTOUR}
# Corners, then the two pairs of lids between them (Soukupova and Cech's p1, p4, p2, p6, p3, p5).
EYE_RATIO_POINTS = ((33, 133, 160, 144, 158, 153), (362, 263, 385, 380, 387, 373))
NOSE_TIP, BETWEEN_BROWS, CHIN = 1, 168, 152
BLINK_SHARE = 0.7
"""An eye is closing where its ratio is below this share of the clip's median."""


@dataclass(frozen=True)
class Alignment:
    """A clip's landmarks without the head's motion, and that motion. T pictures, P points."""

    shape: NDArray[np.complex128]
    """(T, P) aligned points, x + iy; the mean shape is centred and has RMS radius 1."""
    centre: NDArray[np.complex128]
    """(T,) mean of each picture's points, in mean radii of the face."""
    turn_rad: NDArray[np.float64]
    """(T,) rotation against the mean shape, radians."""
    log_size: NDArray[np.float64]
    """(T,) logarithm of the size over the clip's mean size."""


def align(landmarks: NDArray[np.float32]) -> Alignment:
    """Separates a clip's landmarks from the head's motion.

    Args:
        landmarks: (T, P, 2) pixels.
    Returns:
        In face radii, so that nothing depends on the size of the picture.
    Source: Umeyama 1991; in two dimensions a turn with a scale is one complex number.
    """
    points = landmarks[..., 0].astype(np.float64) + 1j * landmarks[..., 1]
    centre = points.mean(axis=1)
    centred = points - centre[:, None]
    radius = np.sqrt((np.abs(centred) ** 2).mean(axis=1))
    unit = centred / radius[:, None]
    mean = _to_unit_radius(unit.mean(axis=0))
    # One step of refinement: the first mean is blurred by the turns that it is to take out.
    for _ in range(2):
        fit = (unit.conj() * mean).mean(axis=1)
        shape = unit * fit[:, None]
        mean = _to_unit_radius(shape.mean(axis=0))
    return Alignment(shape, centre / radius.mean(), -np.angle(fit), np.log(radius / radius.mean()))


def _to_unit_radius(points: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """(P,) points scaled to RMS radius 1."""
    return points / np.sqrt((np.abs(points) ** 2).mean())


def motion_features(landmarks: NDArray[np.float32], *, fps: float) -> dict[str, float]:
    """Speed, jitter and spread of four regions, the head's motion, and blinks.

    Args:
        landmarks: (T, 468, 2) pixels, T at least 4.
        fps: Pictures per second.
    Returns:
        22 numbers by name; lengths in face radii, times in seconds.
    """
    aligned = align(landmarks)
    features: dict[str, float] = {}
    for name, points in REGIONS.items():
        features |= _region_features(name, aligned.shape[:, list(points)], fps)
    return features | _head_features(aligned, fps) | _blink_features(landmarks, fps)


def _region_features(name: str, points: NDArray[np.complex128], fps: float) -> dict[str, float]:
    speed = np.abs(np.diff(points, axis=0))
    return {
        f"{name}_speed": float(speed.mean() * fps),
        # Changes of speed: what the shaking of a tracker or of a generator is made of.
        f"{name}_jitter": float(np.abs(np.diff(points, n=2, axis=0)).mean() * fps**2),
        f"{name}_spread": float(np.sqrt((np.abs(points - points.mean(axis=0)) ** 2).mean())),
    }


def _head_features(aligned: Alignment, fps: float) -> dict[str, float]:
    shape = aligned.shape
    forward = shape[:, NOSE_TIP] - (shape[:, BETWEEN_BROWS] + shape[:, CHIN]) / 2
    shift = np.abs(np.diff(aligned.centre))
    return {
        "head_shift_speed": float(shift.mean() * fps),
        "head_shift_jitter": float(np.abs(np.diff(aligned.centre, n=2)).mean() * fps**2),
        "head_roll_speed": float(np.abs(np.diff(np.unwrap(aligned.turn_rad))).mean() * fps),
        "head_size_speed": float(np.abs(np.diff(aligned.log_size)).mean() * fps),
        "head_yaw_spread": float(forward.real.std()),
        "head_pitch_spread": float(forward.imag.std()),
    }


def eye_ratio(landmarks: NDArray[np.float32], points: tuple[int, ...]) -> NDArray[np.float64]:
    """Opening of an eye over its width.

    Args:
        landmarks: (T, 468, 2) pixels.
        points: Both corners, then two pairs of points on the lids.
    Returns:
        (T,) unitless.
    Source: Soukupova and Cech 2016, Real-Time Eye Blink Detection using Facial Landmarks, equation 1.
    """
    corner, other_corner, *lids = [landmarks[:, index].astype(np.float64) for index in points]

    def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.linalg.norm(a - b, axis=1)

    return (distance(lids[0], lids[1]) + distance(lids[2], lids[3])) / (2 * distance(corner, other_corner) + 1e-9)


def _blink_features(landmarks: NDArray[np.float32], fps: float) -> dict[str, float]:
    right_points, left_points = EYE_RATIO_POINTS
    right, left = eye_ratio(landmarks, right_points), eye_ratio(landmarks, left_points)
    both = (right + left) / 2
    closing = both < BLINK_SHARE * np.median(both)
    starts = int(closing[0]) + int((~closing[:-1] & closing[1:]).sum())
    return {
        "blinks_per_s": starts * fps / len(both),
        "eye_ratio_mean": float(both.mean()),
        "eye_ratio_std": float(both.std()),
        "eyes_apart": float(np.abs(right - left).mean()),
    }
