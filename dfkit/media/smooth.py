"""Landmarks over time: gaps filled, boxes steadied, all within a fixed look-ahead.

A window holds one track's landmarks on consecutive pictures, of which some are missing. What is known about a
picture depends only on the window, so that a stream and a whole file give the same.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

ABSENT, SEEN, INTERPOLATED, HELD = 0, 1, 2, 3
SMOOTH_HALF = 6
"""Pictures to either side that steady a box; 0.24 s at 25 fps."""


def smoothing_weights(half: int = SMOOTH_HALF) -> np.ndarray:
    """Weights of a Hann window over 2 half + 1 pictures, from its centre outwards, (half + 1,) float64."""
    return 0.5 + 0.5 * np.cos(np.pi * np.arange(half + 1) / (half + 1))


def fill_gaps(values: np.ndarray, seen: np.ndarray, *, now: int, max_gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Fills short gaps in a window.

    A gap between two sightings is interpolated linearly. Before the first and after the last sighting the
    nearest one is held, but not beyond `now`: what comes later may still be interpolated.

    Args:
        values: (N, K) float32, one row a picture; rows that were not seen are ignored.
        seen: (N,) bool.
        now: Row whose picture is about to be used.
        max_gap: Most rows that are filled in one go.
    Returns:
        A filled copy of the values, and (N,) uint8 of ABSENT, SEEN, INTERPOLATED or HELD.
    """
    filled = values.copy()
    state = np.where(seen, SEEN, ABSENT).astype(np.uint8)
    rows = np.flatnonzero(seen)
    if len(rows) == 0:
        return filled, state
    for before, after in pairwise(rows):
        if 1 < after - before <= max_gap + 1:
            _interpolate(filled, int(before), int(after))
            state[before + 1 : after] = INTERPOLATED
    for row in range(now + 1):
        if state[row] != ABSENT:
            continue
        earlier, later = rows[rows < row], rows[rows > row]
        if len(earlier) and row - earlier[-1] <= max_gap:
            filled[row], state[row] = values[earlier[-1]], HELD
        elif not len(earlier) and later[0] - row <= max_gap:
            filled[row], state[row] = values[later[0]], HELD
    return filled, state


def _interpolate(values: np.ndarray, before: int, after: int) -> None:
    steps = np.arange(1, after - before, dtype=np.float32)[:, None] / np.float32(after - before)
    values[before + 1 : after] = values[before] + (values[after] - values[before]) * steps


def smooth_at(values: np.ndarray, known: np.ndarray, now: int, weights: np.ndarray) -> np.ndarray:
    """Weighted mean around one picture. Pairs before and after count together, so nothing lags.

    Args:
        values: (N, K) float32.
        known: (N,) bool; row `now` must be known.
        now: The row in the centre.
        weights: (half + 1,) from the centre outwards.
    Returns:
        (K,) float32.
    """
    total = np.zeros(len(values))
    total[now] = weights[0]
    for offset in range(1, len(weights)):
        before, after = now - offset, now + offset
        if before >= 0 and after < len(values) and known[before] and known[after]:
            total[before] = total[after] = weights[offset]
    used = np.flatnonzero(total)
    share = (total[used] / total[used].sum()).astype(np.float32)
    # Not `@`: BLAS would wake its threads for this.
    return np.einsum("n,nk->k", share, values[used])
