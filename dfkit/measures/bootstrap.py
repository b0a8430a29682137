"""Intervals by resampling whole groups: videos of one person are not independent answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

REPEATS = 2000
"""Resamples; the 2.5 % point then rests on 50 of them."""
MIN_VALID_SHARE = 0.9
"""Least share of resamples with a value. Dropping more (one-class draws) would bias what is left."""


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile interval."""

    value: float
    low: float
    high: float
    """NaN, like `low`, where `reason` says why."""
    level: float
    """Such as 0.95."""
    num_groups: int
    repeats: int
    reason: str | None = None


def rows_by_group(groups: np.ndarray) -> list[np.ndarray]:
    """Places of each group's rows, in their order.

    Args:
        groups: (N,) the group of each row: a name, or a number such as a video's.
    Returns:
        For each group, in rising order, (M,) places.
    """
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    return np.split(order, starts[1:]) if len(order) else []


def group_bootstrap(
    groups: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    *,
    repeats: int = REPEATS,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap that draws whole groups with replacement.

    Comparing two models is done by a statistic that takes both models' answers at the drawn places (a paired
    bootstrap): what makes a video hard then falls on both.

    Args:
        groups: (N,) group of each answer.
        statistic: Takes (M,) places, with repetitions, and gives the statistic of those answers; may be NaN.
        repeats: Resamples.
        level: Share of the resamples inside the interval, in (0, 1).
        seed: Of the drawing.
    Returns:
        The statistic of all answers and its interval.
    Source: Efron and Tibshirani 1993, chapters 8 and 13; groups drawn as in Field and Welsh 2007.
    """
    names = np.asarray(groups)
    members = rows_by_group(names)
    value = float(statistic(np.arange(names.size))) if names.size else float("nan")
    if len(members) < 2:
        return _unknown(value, level, len(members), repeats, f"{len(members)} group(s), 2 are needed to resample")
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(members), size=(repeats, len(members)))
    values = np.array([statistic(np.concatenate([members[g] for g in draw])) for draw in draws])
    valid = values[np.isfinite(values)]
    if valid.size < MIN_VALID_SHARE * repeats:
        reason = f"{repeats - valid.size} of {repeats} resamples hold one class only"
        return _unknown(value, level, len(members), repeats, reason)
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, len(members), repeats)


def _unknown(value: float, level: float, num_groups: int, repeats: int, reason: str) -> Interval:
    return Interval(value, float("nan"), float("nan"), level, num_groups, repeats, reason)
