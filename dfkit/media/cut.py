"""Finds cuts between two pictures from 64 x 64 samples of their luma."""

from __future__ import annotations

import numpy as np

GRID = 64
"""Samples a side."""
BINS = 16
"""Bins of the luma histogram, 16 grey levels each."""
LUMA_WEIGHTS = (77, 150, 29)
"""Of R, G and B, in 1 / 256."""
MIN_DIFFERENCE = 20.0
"""Mean absolute luma difference from which on a cut is possible, grey levels."""
MIN_HISTOGRAM_DISTANCE = 0.2
"""Share of the samples that changed their bin from which on a cut is possible."""
SURE_DIFFERENCE = 45.0
"""Mean absolute luma difference that is a cut whatever the histogram says, grey levels."""
# Over 58 clips without a cut the largest values were 31.6 and 0.139 (never both); of 406 pairs of first pictures of
# 29 clips, 98.8 % are told apart. The rest are alike in light and framing, and a track may run on across them.


def sample_luma(rgb: np.ndarray) -> np.ndarray:
    """Luma on a fixed grid of single pixels.

    Args:
        rgb: (H, W, 3) uint8.
    Returns:
        (64, 64) uint8: (77 R + 150 G + 29 B) / 256, rounded down, at row (2 i + 1) H / 128, column likewise.
    """
    height, width = rgb.shape[:2]
    steps = 2 * np.arange(GRID) + 1
    rows, columns = steps * height // (2 * GRID), steps * width // (2 * GRID)
    samples = rgb.take(rows, axis=0).take(columns, axis=1).astype(np.uint32)
    return ((samples @ np.array(LUMA_WEIGHTS, np.uint32)) >> 8).astype(np.uint8)


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
