"""Pictures as CNNs take them."""

from __future__ import annotations

from torch import Tensor


def to_unit_range(pictures: Tensor) -> Tensor:
    """(..., h, w, 3) uint8 to (..., 3, h, w) float32 in [0, 1], channels-last in memory."""
    return pictures.movedim(-1, -3).float() / 255
