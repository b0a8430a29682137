"""Intervals by resampling whole groups: videos of one person are not independent answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

REPEATS = 2000
"""Resamples; the 2.5 % point then rests on 50 of them."""
WEIGHTS_AT_ONCE = 4_000_000
"""Weights of answers in memory at a time: 32 MB."""
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
    return percentile_interval(value, values, level=level, num_groups=len(members))


def percentile_interval(value: float, values: np.ndarray, *, level: float = 0.95, num_groups: int) -> Interval:
    """The interval that holds the middle share of a statistic's resampled values.

    Args:
        value: Of all answers.
        values: (N,) of the resamples; NaN where one has no value.
        level: Share inside the interval, in (0, 1).
        num_groups: That were drawn from.
    """
    valid = values[np.isfinite(values)]
    if valid.size < MIN_VALID_SHARE * values.size:
        reason = f"{values.size - valid.size} of {values.size} resamples hold one class only"
        return _unknown(value, level, num_groups, values.size, reason)
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, num_groups, values.size)


def strata_by_cell(groups: Sequence[str], cells: Sequence[tuple[int, int] | None]) -> list[str]:
    """Strata for `stratified_weights`: groups with answers in the same cells are of one stratum.

    So every resample has answers in every cell, and as many groups of each as there are.

    Args:
        groups: (N,) group of each answer.
        cells: (N,) label and fold of each answer; None of one that has no part in it.
    Returns:
        (N,) names.
    """
    found: dict[str, set[tuple[int, int]]] = {}
    for group, cell in zip(groups, cells, strict=True):
        found.setdefault(group, set()).update([] if cell is None else [cell])
    return [str(sorted(found[group])) for group in groups]


def stratified_weights(
    groups: Sequence[str], strata: Sequence[str], *, repeats: int = REPEATS, seed: int = 0
) -> Iterator[np.ndarray]:
    """Resamples of whole groups that hold as many groups of each stratum as there are.

    Where a stratum has few groups, draws from all groups alike would often hold none of it, and no statistic of it.

    Args:
        groups: (N,) group of each answer.
        strata: (N,) stratum of each answer; a group is in that of its first answer.
        repeats: Resamples.
        seed: Of the drawing.
    Yields:
        (D, N) how often each answer is in each of D resamples; as many at once as `WEIGHTS_AT_ONCE` allows.
    """
    members = rows_by_group(np.asarray(groups))
    group_of_row = np.zeros(len(groups), np.int64)
    numbers_of: dict[str, list[int]] = {}
    for number, rows in enumerate(members):
        group_of_row[rows] = number
        numbers_of.setdefault(strata[rows[0]], []).append(number)
    rng = np.random.default_rng(seed)
    at_once = max(1, WEIGHTS_AT_ONCE // max(len(groups), 1))
    for start in range(0, repeats, at_once):
        count = min(at_once, repeats - start)
        times = np.zeros((count, len(members)))
        for numbers in numbers_of.values():
            drawn = rng.integers(0, len(numbers), size=(count, len(numbers)))
            np.add.at(times, (np.arange(count)[:, None], np.asarray(numbers)[drawn]), 1)
        yield times[:, group_of_row]


def _unknown(value: float, level: float, num_groups: int, repeats: int, reason: str) -> Interval:
    return Interval(value, float("nan"), float("nan"), level, num_groups, repeats, reason)
