"""AUC by the values of a column of the label file, such as `language`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dfkit.data.label_table import column_name
from dfkit.data.label_words import family_of_method
from dfkit.data.leave_out import METHOD, column_values
from dfkit.errors import DataError
from dfkit.measures.bootstrap import REPEATS, Interval, percentile_interval, strata_by_cell, stratified_weights
from dfkit.measures.left_out import MIN_GROUPS, interval_facts
from dfkit.measures.paired_auc import PairedAuc
from dfkit.report.left_out import format_auc
from dfkit.report.table import table_lines

if TYPE_CHECKING:
    from dfkit.data.storage import PreparedData
    from dfkit.evaluation.scores_file import ScoredVideo

BLANK = "(blank)"
LEVEL = 0.95


@dataclass(frozen=True)
class ColumnValue:
    """Fakes of one value against real videos."""

    value: str
    num_fakes: int
    fake_groups: int
    num_reals: int
    real_groups: int
    own_reals: bool
    """Whether the real videos are those of the same value; else all that the same models scored, since it has none."""
    auc: Interval


@dataclass(frozen=True)
class ColumnTable:
    """AUC by video for each value of a column."""

    HEAD: ClassVar[tuple[str, ...]] = ("value", "fakes", "reals", "against", "AUC")
    column: str
    values: tuple[ColumnValue, ...]
    in_folds: bool
    """Whether scores are of several models, so that only videos of one fold are compared."""

    @property
    def note(self) -> str:
        """How to read it."""
        folds = "; videos of one fold are compared with each other alone" if self.in_folds else ""
        return f"Fakes and reals are videos (groups); AUC by video with its 95 % interval over groups{folds}."

    @property
    def _others(self) -> str:
        return "all reals of its folds" if self.in_folds else "all reals"

    def rows(self) -> list[list[str]]:
        """Cells by value."""
        return [
            [
                each.value,
                f"{each.num_fakes} ({each.fake_groups})",
                f"{each.num_reals} ({each.real_groups})",
                f"reals of the same {self.column}" if each.own_reals else self._others,
                format_auc(each.auc),
            ]
            for each in self.values
        ]

    def summary(self) -> list[str]:
        """The table as lines of text."""
        return [f"by {self.column}:", *table_lines(self.HEAD, self.rows()), self.note]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; NaN is None."""
        values = [{**vars(each), "auc": interval_facts(each.auc)} for each in self.values]
        return {"column": self.column, "in_folds": self.in_folds, "values": values}


@dataclass(frozen=True)
class ColumnVideos:
    """N scored videos and what a column says of each."""

    column: str
    cells: tuple[str | None, ...]
    """None where blank."""
    labels: tuple[int, ...]
    groups: tuple[str, ...]


def data_column(data: PreparedData, column: str, videos: Sequence[int]) -> ColumnVideos:
    """A column of prepared data.

    Args:
        data: Prepared data.
        column: Of its label file, or `method`.
        videos: Indices of the videos.
    Raises:
        DataError: No video has such a column.
    """
    name = column_name(column)
    rows = [data.videos[index] for index in videos]
    if name == METHOD:
        cells = _families([row.method for row in rows])
    else:
        of_all = column_values(data.videos, name)
        cells = tuple(of_all[index] for index in videos)
    labels = tuple(int(row.label or 0) for row in rows)
    return ColumnVideos(name, cells, labels, tuple(str(data.groups[index]) for index in videos))


def scored_column(videos: Sequence[ScoredVideo], column: str) -> ColumnVideos:
    """A column of the videos of a scores file; arguments and errors as of `data_column`."""
    name = column_name(column)
    known = sorted({each for video in videos for each in video.columns})
    if name == METHOD:
        cells = _families([video.method for video in videos])
    elif name in known:
        cells = tuple(video.columns.get(name) for video in videos)
    else:
        raise DataError(
            f"no judged video has a column {name}; there are {', '.join(known) or 'no further columns'}",
            fix=f"put a column {name} into the label file, run the same dfkit prepare --labels again, and evaluate "
            "again: scores.json holds the columns that the data had",
        )
    return ColumnVideos(name, cells, tuple(v.label for v in videos), tuple(v.group for v in videos))


def _families(methods: Sequence[str | None]) -> tuple[str | None, ...]:
    return tuple(family_of_method(method) if method else None for method in methods)


def column_table(
    videos: ColumnVideos,
    p_fake: Sequence[float],
    *,
    folds: Sequence[int] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> ColumnTable:
    """AUC of each value's fakes against the real videos of that value, or against all where it has none.

    Args:
        videos: N scored videos.
        p_fake: Their scores.
        folds: Number of the model that scored each; one model where left out.
        repeats: Resamples of the intervals.
        seed: Of the drawing.
    """
    values = np.array([cell or BLANK for cell in videos.cells], str)
    labels = np.array(videos.labels, np.int64)
    groups = np.array(videos.groups, str)
    scores, numbers = np.asarray(p_fake, np.float64), np.zeros(len(labels), np.int64)
    if folds is not None:
        numbers = np.asarray(folds, np.int64)
    found = []
    for value in sorted(set(values[labels == 1].tolist())):
        fakes_of_value = (values == value) & (labels == 1)
        # Of several models' folds those that scored a fake of the value: its real videos may all be in others.
        reals = (labels == 0) & np.isin(numbers, numbers[fakes_of_value])
        own = reals & (values == value)
        reals = own if own.any() else reals
        at = np.flatnonzero(fakes_of_value | reals)
        interval = auc_interval(labels[at], scores[at], groups[at], numbers[at], repeats=repeats, seed=seed)
        fakes = at[labels[at] == 1]
        found.append(
            ColumnValue(
                value=value,
                num_fakes=len(fakes),
                fake_groups=len(set(groups[fakes].tolist())),
                num_reals=int(reals.sum()),
                real_groups=len(set(groups[reals].tolist())),
                own_reals=bool(own.any()),
                auc=interval,
            )
        )
    return ColumnTable(videos.column, tuple(found), folds is not None)


def auc_interval(
    labels: np.ndarray,
    p_fake: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray | None = None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Interval:
    """AUC with its interval over groups, of which every resample has some of each class and fold.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,).
        groups: (N,) str.
        folds: (N,) number of the model that scored each; one model where left out.
        repeats: Resamples.
        seed: Of the drawing.
    Returns:
        Without ends where a class is of fewer than two groups.
    """
    numbers = np.zeros(len(labels), np.int64) if folds is None else folds
    compared = PairedAuc(labels, p_fake, numbers, np.arange(len(labels)))
    value = compared.value(len(labels))
    strata = strata_by_cell(groups.tolist(), list(zip(labels.tolist(), numbers.tolist(), strict=True)))
    num_groups, nan = len(set(groups.tolist())), float("nan")
    few = [
        f"{name} of {count} group(s)"
        for name, label in (("fakes", 1), ("reals", 0))
        if (count := len(set(groups[labels == label].tolist()))) < MIN_GROUPS
    ]
    if few or not np.isfinite(value):
        reason = " and ".join(few) or "no fake and real video of one fold"
        return Interval(value, nan, nan, LEVEL, num_groups, repeats, reason)
    draws = stratified_weights(groups.tolist(), strata, repeats=repeats, seed=seed)
    values = np.concatenate([compared.values(weights) for weights in draws])
    return percentile_interval(value, values, level=LEVEL, num_groups=num_groups)
