"""Putting one face into another picture: colours, light, the seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dfkit.forge.geometry import Box

MIN_MASK_WEIGHT = 1.0
COLOUR_SAMPLES = 8
SMALL_SIGMA_PX = 4.0


@dataclass(frozen=True)
class ColourMap:
    """Shift and stretch of each channel of CIE L*a*b* (Reinhard et al. 2001)."""

    source_mean: np.ndarray
    """(3,)."""
    target_mean: np.ndarray
    """(3,)."""
    gain: np.ndarray
    """(3,)."""

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """Recolours (H, W, 3) float32 in [0, 255]."""
        lab = (to_lab(rgb) - self.source_mean) * self.gain + self.target_mean
        return np.clip(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255, 0, 255)


@dataclass(frozen=True)
class Overlay:
    """Pixels and mask that are laid over a picture; colours are still those of their source."""

    box: Box
    rgb: np.ndarray
    """(box height, box width, 3) float32 in [0, 255]."""
    mask: np.ndarray
    """(box height, box width) float32 in [0, 1]."""


def sample_frames(start: int, end: int) -> list[int]:
    """A few frames of the stretch from `start` up to, not including, `end`, by which its colours are measured."""
    return [int(index) for index in np.unique(np.linspace(start, end - 1, COLOUR_SAMPLES).round())]


def measure_colour(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of L*, a*, b* under a mask, (2, 3)."""
    lab = to_lab(rgb.astype(np.float32)).reshape(-1, 3)
    weight = mask.reshape(-1, 1) / max(float(mask.sum()), MIN_MASK_WEIGHT)
    mean = (lab * weight).sum(axis=0)
    return np.stack([mean, np.sqrt((np.square(lab - mean) * weight).sum(axis=0) + 1e-6)])


def match_colours(samples: Sequence[tuple[np.ndarray, Overlay]], *, max_gain: float) -> ColourMap:
    """One colour map for a whole stretch: one per frame would flicker.

    Args:
        samples: Pictures and what is laid over them.
        max_gain: Contrast is changed by this factor at most.
    Returns:
        The map from the overlays' colours to the pictures'.
    """
    source = np.mean([measure_colour(over.rgb, over.mask) for _, over in samples], axis=0)
    target = np.mean([measure_colour(frame[over.box.slices], over.mask) for frame, over in samples], axis=0)
    return ColourMap(source[0], target[0], np.clip(target[1] / source[1], 1 / max_gain, max_gain))


def relight(
    source: np.ndarray, target: np.ndarray, mask: np.ndarray, *, sigma_px: float, strength: float, limit: float
) -> np.ndarray:
    """Gives a face the slow changes of brightness of the face that it replaces.

    Args:
        source: (H, W, 3) float32 in [0, 255].
        target: The same.
        mask: (H, W); light is measured under it.
        sigma_px: Changes slower than this are light, faster ones are features.
        strength: 0 none, 1 all of it.
        limit: Largest factor on the brightness.
    Returns:
        (H, W, 3) float32 in [0, 255].
    """
    height, width = mask.shape
    # Slow changes need few pixels: a wide blur at full size would take most of a forgery's time.
    shrink = max(1.0, sigma_px / SMALL_SIGMA_PX)
    size = max(2, round(width / shrink)), max(2, round(height / shrink))
    small_mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    weight = cv2.GaussianBlur(small_mask, (0, 0), sigma_px / shrink)[..., None] + 1e-4

    def slow(rgb: np.ndarray) -> np.ndarray:
        small = cv2.resize((rgb + 4) * mask[..., None], size, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(small, (0, 0), sigma_px / shrink) / weight

    ratio = np.clip((slow(target) + 1) / (slow(source) + 1), 1 / limit, limit) ** strength
    return np.clip(source * cv2.resize(ratio, (width, height), interpolation=cv2.INTER_LINEAR), 0, 255)


def paste(frame: np.ndarray, box: Box, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of the picture with a face laid over it.

    Args:
        frame: (H, W, 3) uint8.
        box: Where.
        rgb: (box height, box width, 3) float32 in [0, 255].
        mask: (box height, box width) in [0, 1].
    Returns:
        (H, W, 3) uint8; equal to `frame` where the mask is 0.
    """
    out = frame.copy()
    region = out[box.slices].astype(np.float32)
    out[box.slices] = np.clip(region + mask[..., None] * (rgb - region) + 0.5, 0, 255).astype(np.uint8)
    return out


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of (H, W, 3) RGB in [0, 255], float32."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
