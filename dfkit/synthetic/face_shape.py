"""Other faces from one portrait: a smooth map from a speaker's face back to the portrait.

Everything is in pixels of the portrait (512 x 512; `portrait.png` is a part of it). The map is a chain of small
local scalings and shifts, each weighted by a smooth bump, so that it folds nowhere and can be inverted by
fixed-point iteration.
"""

from __future__ import annotations

import numpy as np

from dfkit.synthetic.speakers import Speaker

FACE_X, FACE_Y = 226.0, 122.0
HALF_WIDTH_PX, HALF_HEIGHT_PX = 46.0, 55.0
NOSE = (225.0, 121.0)
EYES = ((203.0, 101.0), (246.5, 103.0))
BROWS = ((199.0, 89.5), (251.0, 93.0))
MOUTH = (224.0, 145.0)
MOUTH_CORNERS = ((203.2, 139.8), (244.6, 141.0))
# The portrait smiles: unstretched corners and a narrower mouth make a neutral one.
UNSMILE_DROP_PX = 2.2
UNSMILE_NARROWER = 0.08
INVERSE_STEPS = 20


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rises from 0 to 1 between two limits with zero slope at both; same shape as `value`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """Gaussian of two widths, 1 at its centre."""
    return np.exp(-(((x - centre[0]) / size[0]) ** 2) - ((y - centre[1]) / size[1]) ** 2)


def portrait_position(x: np.ndarray, y: np.ndarray, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    """Where in the portrait a point of the speaker's (unmirrored) face comes from.

    Args:
        x: Pixels of the speaker's face, any shape.
        y: Same shape.
        speaker: The shape parameters.
    Returns:
        x and y in pixels of the portrait.
    """
    x, y = _outline(x, y, speaker)
    x, y = _eyes(x, y, speaker)
    x, y = _nose(x, y, speaker)
    return _mouth(x, y, speaker)


def face_position(points: np.ndarray, speaker: Speaker) -> np.ndarray:
    """Inverse of `portrait_position`.

    Args:
        points: (N, 2) pixels of the portrait.
        speaker: The shape parameters.
    Returns:
        (N, 2) pixels of the speaker's face, right to about 0.01 px.
    """
    guess = points.astype(np.float64).copy()
    for _ in range(INVERSE_STEPS):
        x, y = portrait_position(guess[:, 0], guess[:, 1], speaker)
        guess += points - np.stack([x, y], axis=1)
    return guess


def _outline(x: np.ndarray, y: np.ndarray, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    v = (y - FACE_Y) / HALF_HEIGHT_PX
    neck = smoothstep(v, 0.95, 1.2)
    # The long chin moves all that lies below it, so that the neck is not squeezed.
    y = y - speaker.chin_length * HALF_HEIGHT_PX * smoothstep(v, 0.3, 1.05)
    jaw = smoothstep(v, 0.05, 0.8) * (1 - neck)
    x = FACE_X + (x - FACE_X) / (1 + speaker.face_width + speaker.jaw_width * jaw + speaker.neck_width * neck)
    radius = np.hypot((x - 227) / 73, (y - 98) / 82)
    hair = smoothstep(radius, 0.62, 1.0) * (1 - smoothstep(y, 105.0, 135.0))
    grow = 1 + speaker.hair_volume * hair
    return 227 + (x - 227) / grow, 98 + (y - 98) / grow


def _eyes(x: np.ndarray, y: np.ndarray, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    for side, eye, brow in zip((-1, 1), EYES, BROWS, strict=True):
        y = y + speaker.brow_height * HALF_HEIGHT_PX * bump(x, y, brow, (20, 9))
        x = x - side * speaker.eye_spacing * HALF_WIDTH_PX * bump(x, y, eye, (19, 15))
        grow = 1 + speaker.eye_size * bump(x, y, eye, (15, 9))
        x, y = eye[0] + (x - eye[0]) / grow, eye[1] + (y - eye[1]) / grow
    return x, y


def _nose(x: np.ndarray, y: np.ndarray, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    x = NOSE[0] + (x - NOSE[0]) / (1 + speaker.nose_width * bump(x, y, (NOSE[0], NOSE[1] + 3), (15, 11)))
    return x, y - speaker.nose_length * 40 * bump(x, y, (NOSE[0], NOSE[1] + 5), (17, 13))


def _mouth(x: np.ndarray, y: np.ndarray, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    around = bump(x, y, MOUTH, (30, 17))
    x = MOUTH[0] + (x - MOUTH[0]) / (1 + (speaker.mouth_width - UNSMILE_NARROWER) * around)
    y = MOUTH[1] + (y - MOUTH[1]) / (1 + speaker.lip_fullness * bump(x, y, MOUTH, (24, 11)))
    for corner in MOUTH_CORNERS:
        y = y - UNSMILE_DROP_PX * bump(x, y, (corner[0], corner[1] + UNSMILE_DROP_PX), (11, 9))
    return x, y
