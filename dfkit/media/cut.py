"""Finds cuts between two pictures from 64 x 64 samples of their luma."""

from __future__ import annotations

import numpy as np

from dfkit.media.picture import Picture, as_picture

GRID = 64
"""Samples a side."""
BINS = 16
"""Bins of the luma histogram, 16 grey levels each."""
LUMA_WEIGHTS = (77, 150, 29)
"""Of R, G and B, in 1 / 256, where a picture has no luma of its own."""
MIN_DIFFERENCE = 20.0
"""Mean absolute luma difference from which on a cut is possible, grey levels."""
MIN_HISTOGRAM_DISTANCE = 0.2
"""Share of the samples that changed their bin from which on a cut is possible."""
SURE_DIFFERENCE = 45.0
"""Mean absolute luma difference that is a cut whatever the histogram says, grey levels."""
# Over 58 clips without a cut the largest values were 31.6 and 0.139 (never both); of 406 pairs of first pictures of
# 29 clips, 98.8 % are told apart. The rest are alike in light and framing, and a track may run on across them.


def sample_luma(picture: Picture | np.ndarray) -> np.ndarray:
    """Luma on a fixed grid of single pixels.

    Args:
        picture: Planes, or (H, W, 3) uint8 RGB.
    Returns:
        (64, 64) uint8, full range, at row (2 i + 1) H / 128, column likewise: Y, or of RGB (77 R + 150 G + 29 B) / 256,
        rounded down.
    """
    shown = as_picture(picture)
    steps = 2 * np.arange(GRID) + 1
    columns, rows = steps * shown.width // (2 * GRID), steps * shown.height // (2 * GRID)
    return shown.luma(columns, rows, LUMA_WEIGHTS)


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a scene ends between two pictures.

    Args:
        before: (64, 64) uint8 luma, from `sample_luma`.
        after: The same of the next picture.
    Returns:
        True where both the mean difference and the histogram distance reach their limits (a moving face
        changes pixels but hardly the histogram), or the difference alone is beyond any motion.
    """
    difference = np.abs(before.astype(np.int32) - after.astype(np.int32)).mean()
    if difference >= SURE_DIFFERENCE:
        return True
    if difference < MIN_DIFFERENCE:
        return False
    bins = [np.bincount(luma.ravel() // (256 // BINS), minlength=BINS) for luma in (before, after)]
    distance = np.abs(bins[0] - bins[1]).sum() / (2 * before.size)
    return bool(distance >= MIN_HISTOGRAM_DISTANCE)
