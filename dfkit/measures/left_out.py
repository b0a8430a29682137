"""What a model is worth on families of fakes that it never saw, beside those that it did: AUC over the folds.

A fold's fakes are compared with real videos of the same fold alone: scores of two models share no scale. Families count
alike in the mean, however many videos they hold, and the worst one stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dfkit.measures.bootstrap import REPEATS, Interval, percentile_interval, strata_by_cell, stratified_weights
from dfkit.measures.finite import finite_or_none
from dfkit.measures.paired_auc import PairedAuc

MIN_COUNTED = 5
"""Fewest fakes of a family that counts in the mean and can be the worst."""
MIN_GROUPS = 2
"""Fewest groups of fakes, and of real videos, that an interval can be drawn from."""


@dataclass(frozen=True)
class LeftOutFamily:
    """A family of fakes that was left out, and the folds that tested it."""

    name: str
    members: tuple[str, ...]
    """Families in it: itself, or those that were pooled."""
    folds: tuple[int, ...]
    """Numbers of its folds, from 1 on; several where it was tested in pieces."""


@dataclass(frozen=True)
class HeldOutScore:
    """A video's score by the model of one fold, which had seen neither it nor its group."""

    video: str
    """What tells the video from others; one may be held out in several folds."""
    label: int
    group: str
    fold: int
    """Number of the fold, from 1 on."""
    part: Literal["test", "seen"]
    """`test`: a fake of the left-out family, or a real video; `seen`: a fake of a family that was trained on, and of a
    column a real video of such a value."""
    p_fake: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> HeldOutScore:
        """Reads what `to_json` wrote; KeyError for another object, other keys are passed over."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class FamilyAuc:
    """AUC of a left-out family's fakes, and of seen families' fakes against the same real videos."""

    family: LeftOutFamily
    unseen: Interval
    seen: Interval
    num_fakes: int
    fake_groups: int
    num_reals: int
    real_groups: int
    num_seen: int
    seen_groups: int

    @property
    def counted(self) -> bool:
        """Whether it counts in the mean and can be the worst."""
        return _is_counted(self.num_fakes, self.unseen.value)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        counts = ("num_fakes", "fake_groups", "num_reals", "real_groups", "num_seen", "seen_groups")
        return {
            "family": self.family.name,
            "members": list(self.family.members),
            "folds": list(self.family.folds),
            **{name: getattr(self, name) for name in counts},
            "counted": self.counted,
            "unseen": interval_facts(self.unseen),
            "seen": interval_facts(self.seen),
        }


@dataclass(frozen=True)
class LeftOutResult:
    """AUC by video over left-out families, with 95 % bootstrap intervals over groups."""

    families: tuple[FamilyAuc, ...]
    mean: Interval
    """Of the counted families, each of the same weight."""
    worst: Interval
    """The lowest of them; in a resample that may be another family."""
    worst_family: str | None
    seen: Interval
    """Mean of the seen AUC of the same folds."""
    gap: Interval
    """`mean` minus `seen`, by the same resamples."""
    num_groups: int
    seen_reals: bool = False
    """Whether seen fakes stand against real videos of seen values, and not against those of the left-out one."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the figures do not say by themselves."""
        single = [f.family.name for f in self.families if f.counted and min(f.fake_groups, f.real_groups) < MIN_GROUPS]
        small = [f.family.name for f in self.families if not f.counted]
        notes = []
        if single:
            notes.append(f"intervals of mean and worst are too narrow: {', '.join(single)} stands on one group")
        if small:
            notes.append(f"not in mean and worst, with fewer than {MIN_COUNTED} fakes: {', '.join(small)}")
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every figure; NaN is None."""
        figures = {name: interval_facts(getattr(self, name)) for name in ("mean", "worst", "seen", "gap")}
        return {
            **figures,
            "worst_family": self.worst_family,
            "families": [family.to_json() for family in self.families],
            "groups": self.num_groups,
            "notes": list(self.notes),
        }


def interval_facts(interval: Interval) -> dict[str, Any]:
    """Value, ends and reason of an interval; NaN is None."""
    return {name: finite_or_none(getattr(interval, name)) for name in ("value", "low", "high", "reason")}


def measure_left_out(
    scores: Sequence[HeldOutScore], families: Sequence[LeftOutFamily], *, repeats: int = REPEATS, seed: int = 0
) -> LeftOutResult:
    """Joins the folds of a run that left families out.

    Args:
        scores: Of all folds; in each fold real videos and fakes of the left-out family (`test`), and fakes of other
            families (`seen`), with real videos of their own or none in any fold.
        families: What was left out, each with its folds.
        repeats: Resamples; groups are drawn within those that hold fakes, or only real videos, of the same fold.
        seed: Of the drawing.
    """
    table = _Table.of(scores, families)
    point, resampled = table.values(stratified_weights(table.groups.tolist(), table.strata, repeats=repeats, seed=seed))
    results = tuple(
        _family_auc(table, number, family, point[number], resampled[:, number])
        for number, family in enumerate(families)
    )
    counted = [number for number, result in enumerate(results) if result.counted]
    num_groups = len(set(table.groups.tolist()))
    if not counted:
        nothing = Interval(
            float("nan"), float("nan"), float("nan"), 0.95, num_groups, repeats, "no family has enough fakes"
        )
        return LeftOutResult(results, nothing, nothing, None, nothing, nothing, num_groups, table.has_seen_reals)
    unseen, seen = point[counted, 0], point[counted, 1]
    draws_unseen, draws_seen = resampled[:, counted, 0], _mean_of_known(resampled[:, counted, 1])
    seen_mean = float(_mean_of_known(seen[None])[0])

    def interval(value: float, values: np.ndarray) -> Interval:
        return percentile_interval(value, values, num_groups=num_groups)

    return LeftOutResult(
        families=results,
        mean=interval(float(unseen.mean()), draws_unseen.mean(axis=1)),
        worst=interval(float(unseen.min()), draws_unseen.min(axis=1)),
        worst_family=families[counted[int(unseen.argmin())]].name,
        seen=interval(seen_mean, draws_seen),
        gap=interval(float(unseen.mean()) - seen_mean, draws_unseen.mean(axis=1) - draws_seen),
        num_groups=num_groups,
        seen_reals=table.has_seen_reals,
    )


def compare_left_out(
    scores: Sequence[HeldOutScore],
    others: Sequence[HeldOutScore],
    families: Sequence[LeftOutFamily],
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Interval:
    """How much more one model's mean over left-out families is than another's, paired by the resamples.

    Args:
        scores: Of the folds, as in `measure_left_out`.
        others: The other model's of the same videos in the same folds.
        families: What was left out.
        repeats: Resamples.
        seed: Of the drawing.
    Raises:
        ValueError: The two are not of the same videos.
    """

    def place(score: HeldOutScore) -> tuple[int, str, str]:
        return score.fold, score.part, score.video

    scores, others = sorted(scores, key=place), sorted(others, key=place)
    if [place(score) for score in scores] != [place(score) for score in others]:
        raise ValueError("the scores are not of the same videos in the same folds")
    tables = [_Table.of(each, families) for each in (scores, others)]
    draws = list(stratified_weights(tables[0].groups.tolist(), tables[0].strata, repeats=repeats, seed=seed))
    (point, resampled), (other_point, other_resampled) = (table.values(draws) for table in tables)
    counted = [
        number
        for number in range(len(families))
        if _is_counted(len(tables[0].places(number, "fake")), float(point[number, 0]))
    ]
    value = float((point - other_point)[counted, 0].mean()) if counted else float("nan")
    values = (resampled - other_resampled)[:, counted, 0].mean(axis=1)
    return percentile_interval(value, values, num_groups=len(set(tables[0].groups.tolist())))


def _is_counted(num_fakes: int, unseen: float) -> bool:
    return num_fakes >= MIN_COUNTED and bool(np.isfinite(unseen))


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """(N,) mean of each row of (N, K) over what is not NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    totals, counts = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(totals, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _family_auc(
    table: _Table, number: int, family: LeftOutFamily, point: np.ndarray, resampled: np.ndarray
) -> FamilyAuc:
    kinds = [table.places(number, kind) for kind in ("fake", "real", "seen", "seen real")]
    groups = [len(set(table.groups[places].tolist())) for places in kinds]
    intervals = []
    for column, fakes, reals in ((0, 0, 1), (1, 2, 3)):
        value = float(point[column])
        interval = percentile_interval(value, resampled[:, column], num_groups=groups[fakes] + groups[reals])
        few = [
            f"{name} of {count} group(s)"
            for name, count in (("fakes", groups[fakes]), ("reals", groups[reals]))
            if count < MIN_GROUPS
        ]
        if few:
            nan = float("nan")
            interval = Interval(value, nan, nan, 0.95, interval.num_groups, interval.repeats, " and ".join(few))
        intervals.append(interval)
    return FamilyAuc(
        family=family,
        unseen=intervals[0],
        seen=intervals[1],
        num_fakes=len(kinds[0]),
        fake_groups=groups[0],
        num_reals=len(kinds[1]),
        real_groups=groups[1],
        num_seen=len(kinds[2]),
        seen_groups=groups[2],
    )


@dataclass(frozen=True)
class _Table:
    """Scores as arrays of N rows."""

    labels: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    is_seen: np.ndarray
    p_fake: np.ndarray
    strata: list[str]
    folds_of: tuple[tuple[int, ...], ...]
    """Folds of each family."""

    @classmethod
    def of(cls, scores: Sequence[HeldOutScore], families: Sequence[LeftOutFamily]) -> _Table:
        return cls(
            labels=np.array([score.label for score in scores], np.int64),
            groups=np.array([score.group for score in scores], str),
            folds=np.array([score.fold for score in scores], np.int64),
            is_seen=np.array([score.part == "seen" for score in scores], bool),
            p_fake=np.array([score.p_fake for score in scores], np.float64),
            strata=strata_by_cell(
                [score.group for score in scores],
                [(score.label, score.fold) if score.part == "test" else None for score in scores],
            ),
            folds_of=tuple(family.folds for family in families),
        )

    @property
    def has_seen_reals(self) -> bool:
        """Whether seen fakes have real videos of their own; else they stand against those that are tested."""
        return bool((self.is_seen & (self.labels == 0)).any())

    def places(self, number: int, kind: str) -> np.ndarray:
        """Rows of a family's fakes (`fake`), of the real videos that these stand against (`real`), of the seen fakes
        of its folds (`seen`), or of the real videos that those stand against (`seen real`)."""
        seen = kind.startswith("seen") and (kind == "seen" or self.has_seen_reals)
        label = int(kind in ("fake", "seen"))
        of_family = np.isin(self.folds, self.folds_of[number])
        return np.flatnonzero(of_family & (self.is_seen == seen) & (self.labels == label))

    def compared(self) -> list[PairedAuc]:
        """What is compared: for each family its fakes, then the seen ones, with the real videos they stand against."""
        return [
            PairedAuc(
                self.labels,
                self.p_fake,
                self.folds,
                np.concatenate([self.places(number, fakes), self.places(number, reals)]),
            )
            for number in range(len(self.folds_of))
            for fakes, reals in (("fake", "real"), ("seen", "seen real"))
        ]

    def values(self, draws: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """AUC of unseen and of seen fakes: (families, 2) of the scores as they are, (resamples, families, 2).

        Args:
            draws: Weights (D, N) of some resamples each.
        """
        compared = self.compared()
        point = self.aucs(compared, np.ones((1, len(self.labels))))[0]
        return point, np.concatenate([self.aucs(compared, weights) for weights in draws])

    def aucs(self, compared: Sequence[PairedAuc], weights: np.ndarray) -> np.ndarray:
        """(D, families, 2) AUC of unseen and of seen fakes in D resamples of (D, N) weights; NaN without a class."""
        values = np.stack([each.values(weights) for each in compared], axis=1)
        return values.reshape(len(weights), len(self.folds_of), 2)
