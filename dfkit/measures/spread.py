"""A figure over several runs: mean and the sample's standard deviation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over seeds."""

    mean: float | None
    """None where a seed has no value."""
    std: float | None
    """The sample's (ddof 1); None with fewer than two seeds."""
    values: tuple[float | None, ...]

    def text(self) -> str:
        """Mean and standard deviation, such as `0.912 ± 0.031`."""
        if self.mean is None:
            return "not defined"
        return f"{self.mean:.3f}" if self.std is None else f"{self.mean:.3f} ± {self.std:.3f}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of one figure.

    Args:
        values: One per seed; None or NaN where it is not defined.
    Returns:
        The spread; without mean and deviation where a seed has no value.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not values or len(known) < len(values):
        return Spread(None, None, tuple(values))
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation, tuple(values))
