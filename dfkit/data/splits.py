"""Splits that keep groups whole, and the check that they do.

A group is a connected component of persons, sources and sounds; files of equal content are one group, too.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.data.catalog import VideoRow, group_names
from dfkit.data.labels import LABEL_NAMES, SPLITS, faults_error
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError, MissingExtraError

TRIES = 20
NEEDED_GROUPS = 2


@dataclass(frozen=True)
class Split:
    """Video indices of each part, rising."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    groups_known: bool
    seed: int

    def parts(self) -> dict[str, tuple[int, ...]]:
        """Parts by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        parts = {name: list(indices) for name, indices in self.parts().items()}
        return {**parts, "groups_known": self.groups_known, "seed": self.seed}


def make_split(
    data: PreparedData,
    *,
    val_share: float = 0.15,
    test_share: float = 0.15,
    seed: int = 0,
    use_given: bool = True,
) -> Split:
    """Splits prepared videos by group.

    Args:
        data: Labelled, both classes present.
        val_share: Wanted share of videos for validation, in (0, 1).
        test_share: Wanted share for the test, in (0, 1).
        seed: Same seed, same split.
        use_given: Whether a split that stands in the labels is taken over; a validation or test part it
            lacks is cut from its training part.
    Returns:
        The split. Only videos with clips are in it.
    Raises:
        DataError: Labels are missing, there are too few groups for the parts asked for, a part lacks a
            class, or a given split has a group on two sides.
    """
    data.require_labels()
    rows = _Rows.of(data)
    everything = np.arange(len(rows.videos))
    parts = {"train": everything, "val": everything[:0], "test": everything[:0]}
    if use_given and any(row.split for row in rows.videos):
        parts = _given_parts(rows)
    if not len(parts["test"]):
        parts["train"], parts["test"] = _cut(rows, parts["train"], test_share, seed, "test")
    if not len(parts["val"]):
        left = val_share / (1 - test_share)
        parts["train"], parts["val"] = _cut(rows, parts["train"], left, seed, "val")
    named = {name: tuple(rows.positions[i] for i in sorted(part)) for name, part in parts.items()}
    split = Split(named["train"], named["val"], named["test"], data.groups_known, seed)
    check_leaks(split, data.videos, groups_known=data.groups_known)
    _refuse_missing_class(split, data.videos)
    return split


def make_folds(data: PreparedData, *, folds: int = 5, test_share: float = 0.15, seed: int = 0) -> list[Split]:
    """k-fold: one test part for all, k disjoint validation parts in the rest, split by group.

    Raises:
        DataError: As `make_split`.
    """
    if folds < NEEDED_GROUPS:
        raise DataError(f"{folds} folds: needs at least {NEEDED_GROUPS}")
    first = make_split(data, test_share=test_share, seed=seed)
    rest = [*first.train, *first.val]
    rows = _Rows.of(data)
    within = np.asarray([rows.positions.index(i) for i in sorted(rest)])
    groups = len({rows.groups[i] for i in within})
    if groups < folds:
        raise _too_few_groups(rows, within, f"{folds} folds")
    splits = []
    for train, val in _folds(rows, within, folds, seed):
        parts = [tuple(sorted(rows.positions[i] for i in part)) for part in (train, val)]
        split = Split(parts[0], parts[1], first.test, data.groups_known, seed)
        check_leaks(split, data.videos, groups_known=data.groups_known)
        _refuse_missing_class(split, data.videos)
        splits.append(split)
    return splits


def check_leaks(split: Split, videos: Sequence[VideoRow], *, groups_known: bool) -> None:
    """Refuses a split where a group or a file's content stands on both sides.

    Args:
        split: Indices into `videos`.
        videos: All rows.
        groups_known: Whether the ids in the rows are to be trusted.
    Raises:
        DataError: Names the groups and the files.
    """
    names = group_names(videos, groups_known=groups_known)
    sides: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for part, indices in split.parts().items():
        for index in indices:
            sides[names[index]][part].append(index)
    faults = []
    for group, parts in sorted(sides.items()):
        if len(parts) > 1:
            shown = "; ".join(f"{part}: {videos[members[0]].name}" for part, members in sorted(parts.items()))
            faults.append(f"group {group} stands in {shown}")
    if faults:
        raise faults_error(
            faults,
            "the split leaks",
            fix="give all files of a group the same split, or let dfkit split by group (use_given = false)",
        )


@dataclass(frozen=True)
class _Rows:
    """Usable videos as plain arrays."""

    positions: tuple[int, ...]
    """Index of each in `PreparedData.videos`."""
    videos: tuple[VideoRow, ...]
    groups: tuple[str, ...]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, data: PreparedData) -> _Rows:
        positions = tuple(i for i, row in enumerate(data.videos) if row.clips)
        videos = tuple(data.videos[i] for i in positions)
        groups = tuple(data.groups[i] for i in positions)
        return cls(positions, videos, groups, np.asarray([row.label for row in videos], np.int64))


def _given_parts(rows: _Rows) -> dict[str, NDArray[np.int64]]:
    without = [row.name for row in rows.videos if row.split is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(rows.videos)} videos have no split, among them {without[0]}",
            fix="give every file a split (train, val or test), or none",
        )
    parts = {
        name: np.asarray([i for i, row in enumerate(rows.videos) if row.split == name], np.int64) for name in SPLITS
    }
    if not len(parts["train"]):
        raise DataError("the given split has no train part", fix="mark some files, or drop the split column")
    return parts


def _cut(
    rows: _Rows, within: NDArray[np.int64], share: float, seed: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts a part of about `share` off; the nearest cut that has both classes on both sides."""
    groups = len({rows.groups[i] for i in within})
    if groups < NEEDED_GROUPS:
        raise _too_few_groups(rows, within, f"a {name} part")
    folds = int(np.clip(round(1 / share), NEEDED_GROUPS, groups))
    best: tuple[float, NDArray[np.int64], NDArray[np.int64]] | None = None
    for attempt in range(TRIES):
        for rest, part in _folds(rows, within, folds, seed + 1000 * attempt):
            whole = len(set(rows.labels[rest])) == len(set(rows.labels[part])) == len(LABEL_NAMES)
            distance = abs(len(part) / len(within) - share)
            if whole and (best is None or distance < best[0] - 1e-12):
                best = (distance, rest, part)
        if best is not None:
            return best[1], best[2]
    raise _no_cut_has_both(rows, within, name)


def _folds(
    rows: _Rows, within: NDArray[np.int64], folds: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    labels = rows.labels[within]
    groups = [rows.groups[i] for i in within]
    # scikit-learn refuses more folds than members of the rarest class.
    folds = max(NEEDED_GROUPS, min(folds, int(np.bincount(labels, minlength=2).min())))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Its warning about rare classes; parts that lack a class are refused here.
        warnings.simplefilter("ignore", UserWarning)
        for rest, part in splitter.split(np.zeros(len(within)), labels, groups):
            yield within[rest], within[part]


def _too_few_groups(rows: _Rows, within: NDArray[np.int64], wanted: str) -> DataError:
    sizes = Counter(rows.groups[i] for i in within)
    name, size = sizes.most_common(1)[0]
    return DataError(
        f"too few groups for {wanted}: {len(within)} videos are in {len(sizes)} group(s), the largest "
        f"({name}) holds {size}; a group (person, source, sound) is kept whole",
        fix="add videos of other persons; a whole split needs three groups with both classes at least",
    )


def _no_cut_has_both(rows: _Rows, within: NDArray[np.int64], name: str) -> DataError:
    counts = {
        LABEL_NAMES[label]: len({rows.groups[i] for i in within if rows.labels[i] == label}) for label in LABEL_NAMES
    }
    listed = " and ".join(f"{count} with {label} videos" for label, count in counts.items())
    return DataError(
        f"no {name} part can hold both classes: there are {listed} groups to choose from",
        fix="add persons, or make fakes of the same persons: dfkit forge",
    )


def _refuse_missing_class(split: Split, videos: Sequence[VideoRow]) -> None:
    faults = []
    for name, indices in split.parts().items():
        present = {videos[i].label for i in indices}
        faults += [f"the {name} part has no {LABEL_NAMES[k]} video" for k in LABEL_NAMES if k not in present]
    if faults:
        raise faults_error(faults, "the split cannot be used", fix="move groups, or drop the split column")
