"""Evenly spread choices out of a sequence."""

from __future__ import annotations

import numpy as np


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """Indices spread evenly over a sequence, its first and last element among them.

    Args:
        length: Elements of the sequence, at least 1.
        count: How many are wanted, at least 1; with one, the first is taken.
    Returns:
        (min(length, count),) int, rising, each once.
    """
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))
