"""Jaw, lips and eyelids of a head at rest, moved by pulling its pixels.

The portrait smiles with open lips. Its inner lip lines are pulled onto one contact line, and from there
apart again: the lower lip and the chin go down with the jaw, the upper lip a little up. What lies between
is the portrait's own upper teeth, hanging from the upper lip, and a dark mouth with a tongue behind them.
All maps go from a point of the picture back to the point of the head that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfkit.synthetic.face_shape import smoothstep

# Lengths are shares of the mouth's width. 0.36: widest opening of a speaking mouth, as in a loud "ah".
WIDEST_OPENING = 0.36
UPPER_LIP_SHARE = 0.16
CHIN_SHARE = 0.62
SPREAD = 0.22
CONTACT = 0.45
# Share of the teeth that the upper lip hides in speech; the portrait's smile bares all of them.
HIDDEN_TEETH = 0.3
# The portrait is small and its teeth are flat: drawn longer by this factor.
TOOTH_STRETCH = 1.5
CAVITY = np.array([46, 18, 18], np.float32)
TONGUE = np.array([138, 66, 64], np.float32)


@dataclass(frozen=True)
class Pose:
    """Mouth and eyelids at one moment."""

    opening: float
    """0 lips closed, 1 wide open."""
    spread: float
    """-1 rounded lips, 0 neutral, 1 spread."""
    blink: float
    """0 eyes open, 1 closed."""


@dataclass(frozen=True)
class Mouth:
    """Positions of a mouth at rest, pixels of the head's canvas."""

    upper: np.ndarray
    """(N, 2) lower edge of the upper lip, left to right."""
    lower: np.ndarray
    """(N, 2) upper edge of the lower lip, left to right."""
    nose_y: float
    chin_y: float

    @property
    def centre_x(self) -> float:
        """x of the middle between the corners of the mouth, canvas pixels."""
        return float(self.upper[0, 0] + self.upper[-1, 0]) / 2

    @property
    def width(self) -> float:
        """Distance between the corners of the mouth, canvas pixels."""
        return float(self.upper[-1, 0] - self.upper[0, 0])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of all that a moving jaw can change."""
        half = 1.35 * self.width
        return self.centre_x - half, self.nose_y - 2, self.centre_x + half, self.chin_y + 1.1 * self.width


@dataclass(frozen=True)
class MouthPixels:
    """What a moved mouth shows at each pixel of a region, all (H, W)."""

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray
    """1 between the lips."""
    teeth: np.ndarray
    """1 where x, y point at the upper teeth."""
    depth: np.ndarray
    """0 at the upper lip, 1 at the lower lip."""
    crease: np.ndarray
    """1 on the line where closed lips meet."""


def move_mouth(x: np.ndarray, y: np.ndarray, mouth: Mouth, pose: Pose) -> MouthPixels:
    """Opens and rounds the mouth.

    Args:
        x: Canvas pixels of the moved face, (H, W).
        y: The same.
        mouth: The mouth at rest.
        pose: The opening and the spread.
    Returns:
        Where each pixel comes from on the head at rest, and what lies between the lips.
    """
    width, middle = mouth.width, mouth.centre_x
    level = float(mouth.upper[:, 1].mean())
    near = np.exp(-(((x - middle) / (0.75 * width)) ** 2) - ((y - level) / (0.5 * width)) ** 2)
    near *= smoothstep(y, mouth.nose_y - 2, mouth.nose_y + 0.3 * width)
    x = middle + (x - middle) / (1 + SPREAD * pose.spread * near)
    upper = np.interp(x, mouth.upper[:, 0], mouth.upper[:, 1])
    lower = np.interp(x, mouth.lower[:, 0], mouth.lower[:, 1])
    # Nearer to the corners less: 0.75 is rounder than a parabola and sharper than an ellipse.
    profile = np.clip(1 - (2 * (x - middle) / width) ** 2, 0, 1) ** 0.75
    height = pose.opening * WIDEST_OPENING * width
    contact = upper + CONTACT * (lower - upper)
    top, bottom = contact - UPPER_LIP_SHARE * height * profile, contact + (1 - UPPER_LIP_SHARE) * height * profile
    inside = np.clip(y - top + 0.5, 0, 1) * np.clip(bottom - y + 0.5, 0, 1) * np.clip(bottom - top, 0, 1)
    above = y - (top - upper) * smoothstep((y - mouth.nose_y) / (top - mouth.nose_y), 0, 1)
    below = y - _jaw_shift(x, y, bottom, bottom - lower, mouth, height)
    tooth_y = upper + HIDDEN_TEETH * (lower - upper) + (y - top) / TOOTH_STRETCH
    teeth = 1 - smoothstep(tooth_y - lower, -2.5, -0.5)
    between = (y > top) & (y < bottom)
    source_y = np.where(between, np.minimum(tooth_y, lower), np.where(y <= top, above, below))
    crease = np.exp(-(((y - contact) / 1.3) ** 2)) * (profile > 0) * max(0.0, 1 - 6 * pose.opening)
    return MouthPixels(x, source_y, inside, teeth, (y - top) / np.maximum(bottom - top, 1), crease)


def _jaw_shift(
    x: np.ndarray, y: np.ndarray, lip_y: np.ndarray, lip_shift: np.ndarray, mouth: Mouth, height: float
) -> np.ndarray:
    """How far down the lower lip, the chin and the skin between and below have moved."""
    chin = CHIN_SHARE * height
    jaw = chin * np.exp(-(((x - mouth.centre_x) / (0.95 * mouth.width)) ** 4))
    towards_chin = smoothstep((y - lip_y) / (0.85 * (mouth.chin_y - lip_y)), 0, 1)
    below_chin = smoothstep(y, mouth.chin_y + chin, mouth.chin_y + chin + 0.6 * mouth.width)
    return (lip_shift * (1 - towards_chin) + jaw * towards_chin) * (1 - below_chin)


def paint_mouth(rgb: np.ndarray, pixels: MouthPixels, light: float) -> np.ndarray:
    """Colours what lies between the lips.

    Args:
        rgb: (H, W, 3) float32 in [0, 255], sampled at `pixels.x`, `pixels.y`.
        pixels: From `move_mouth`.
        light: Brightness of the tongue and the teeth, 1 = as in the portrait.
    Returns:
        The painted region, (H, W, 3) float32.
    """
    tongue = (smoothstep(pixels.depth, 0.45, 0.95) * 0.8)[..., None].astype(np.float32)
    cavity = CAVITY * (1 - tongue) + TONGUE * light * tongue
    # The lip throws a shadow on the teeth, and so do the cheeks.
    shadow = (0.5 + 0.35 * smoothstep(pixels.depth, 0.0, 0.4)).astype(np.float32)[..., None] * light
    teeth = pixels.teeth[..., None].astype(np.float32)
    filling = rgb * shadow * teeth + cavity * (1 - teeth)
    inside = pixels.inside[..., None].astype(np.float32)
    dark = (1 - 0.45 * pixels.crease)[..., None].astype(np.float32)
    return (rgb * (1 - inside) + filling * inside) * dark


def close_eye(x: np.ndarray, y: np.ndarray, upper: np.ndarray, lower: np.ndarray, blink: float) -> np.ndarray:
    """Draws an upper eyelid down.

    Args:
        x: Canvas pixels of the moved face, (H, W).
        y: The same.
        upper: (N, 2) edge of the upper lid at rest, left to right.
        lower: (N, 2) edge of the lower lid at rest.
        blink: 0 open, 1 closed.
    Returns:
        y on the head at rest, (H, W).
    """
    edge = np.interp(x, upper[:, 0], upper[:, 1])
    low = np.interp(x, lower[:, 0], lower[:, 1])
    inside = (x > upper[0, 0]) & (x < upper[-1, 0])
    shift = blink * (low - edge) * inside
    lid = edge + shift
    # The skin between the brow and the lash is stretched over the eye.
    top = edge - 0.32 * (upper[-1, 0] - upper[0, 0])
    return np.where(y < lid, y - shift * smoothstep((y - top) / (lid - top), 0, 1), y)
