"""A face as generators draw it: of more contrast than the camera's, crisp, without grain; a mouth in fewer pixels.

The ranges were chosen on public fakes: those of whole portraits have more contrast at every scale than real videos,
those of lips are softer around the mouth (docs/experiments.md, "What texture sees").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

SMOOTHED_WIDTH_PX = 112
"""Grain is smoothed at no more pixels across the face than this."""
DETAIL_SCALE = (0.012, 0.06)
"""Finest and coarsest `scale` of a face."""
ACROSS_PX = (32.0, 72.0)
"""Fewest and most pixels across a face whose lower half is drawn; a crop for a network holds some 80."""


@dataclass(frozen=True)
class Rendering:
    """How a face is drawn anew; one for a whole video."""

    contrast: float
    """Factor on the distance from the mean colour."""
    detail: float
    """Share of the detail that is added to it once more."""
    scale: float
    """Detail is finer than this share of the face's width."""
    smooth: float
    """Share of the picture that is smoothed between its edges."""
    across_px: float
    """Pixels across the face; 0: as many as there are."""

    def parameters(self) -> dict[str, float | int | str]:
        """JSON values, rounded to 4 decimals, for the forgery's record."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def draw_face_rendering(rng: np.random.Generator) -> Rendering:
    """A whole face: portrait generators answer with the contrast and the edges of a photograph."""
    return Rendering(
        contrast=float(rng.uniform(1.0, 1.3)),
        detail=float(rng.uniform(0.3, 1.2)),
        scale=float(np.exp(rng.uniform(*np.log(DETAIL_SCALE)))),
        smooth=float(rng.uniform(0.3, 1.0) * (rng.random() < 0.3)),
        across_px=0.0,
    )


def draw_lip_rendering(rng: np.random.Generator) -> Rendering:
    """The lower half of a face: lip generators draw it in 96 pixels or thereabouts and enlarge it."""
    return Rendering(
        contrast=1.0,
        detail=0.0,
        scale=0.0,
        smooth=float(rng.uniform(0.3, 1.0) * (rng.random() < 0.5)),
        across_px=float(np.exp(rng.uniform(*np.log(ACROSS_PX)))),
    )


def render(rgb: np.ndarray, mask: np.ndarray, width: float, how: Rendering) -> np.ndarray:
    """Draws a face anew.

    Args:
        rgb: (H, W, 3) float32 in [0, 255].
        mask: (H, W) in [0, 1]; the mean colour is measured under it.
        width: Of the face, pixels.
        how: The same for all frames of a video.
    Returns:
        (H, W, 3) float32 in [0, 255].
    """
    out = rgb
    if how.smooth:
        out = out + how.smooth * (_smooth_skin(out, width) - out)
    if how.across_px:
        out = _resample(out, how.across_px / width)
    if how.detail:
        out = out + how.detail * (out - cv2.GaussianBlur(out, (0, 0), max(0.8, how.scale * width)))
    if how.contrast != 1:
        mean = (out * mask[..., None]).sum(axis=(0, 1)) / max(float(mask.sum()), 1.0)
        out = mean + how.contrast * (out - mean)
    return np.clip(out, 0, 255).astype(np.float32)


def _smooth_skin(rgb: np.ndarray, width: float) -> np.ndarray:
    shrink = min(1.0, SMOOTHED_WIDTH_PX / width)
    height, columns = rgb.shape[:2]
    size = max(2, round(columns * shrink)), max(2, round(height * shrink))
    small = rgb if shrink == 1 else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    smooth = cv2.bilateralFilter(small, 7, 15.0, 2.0)
    return smooth if shrink == 1 else cv2.resize(smooth, (columns, height), interpolation=cv2.INTER_CUBIC)


def _resample(rgb: np.ndarray, share: float) -> np.ndarray:
    """In this share of its pixels and back; as it is where that is not fewer."""
    if share >= 1:
        return rgb
    height, columns = rgb.shape[:2]
    small = cv2.resize(
        rgb, (max(2, round(columns * share)), max(2, round(height * share))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (columns, height), interpolation=cv2.INTER_CUBIC)
