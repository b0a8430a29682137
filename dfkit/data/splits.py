"""Splits that keep groups whole, and the check that they do.

A group is a connected component of persons, sources and sounds; files of equal content are one group, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.config import SplitConfig
from dfkit.data.catalog import PARTS_KEY, VideoRow
from dfkit.data.grouped_cuts import (
    MIN_GROUPS,
    NO_TEST_PART,
    SPLIT_AGAIN,
    TRIES,
    Split,
    SplitRows,
    check_leaks,
    cut_part,
    grouped_folds,
    too_few_groups,
)
from dfkit.data.label_words import LABEL_NAMES, SPLITS
from dfkit.data.labels import faults_error
from dfkit.data.leave_out import LeaveOutPlan
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError

__all__ = ["Split", "check_leaks", "joined_parts", "make_folds", "make_split", "split_clips"]


def make_split(
    data: PreparedData,
    *,
    val_share: float = 0.15,
    test_share: float = 0.15,
    seed: int = 0,
    use_given: bool = True,
    duration_bins: int = 0,
) -> Split:
    """Splits prepared videos by group.

    Args:
        data: Labelled, both classes present.
        val_share: Wanted share of videos for validation, in (0, 1).
        test_share: Wanted share for the test, in [0, 1); 0 cuts no test part.
        seed: Same seed, same split.
        use_given: Whether a split that stands in the labels is taken over; a validation or test part it
            lacks is cut from its training part.
        duration_bins: Above 1, parts are alike in this many ranges of duration, too.
    Returns:
        The split. Only videos with clips are in it.
    Raises:
        DataError: Labels are missing, there are too few groups for the parts asked for, a part lacks a
            class, or a given split has a group on two sides.
    """
    data.require_labels()
    rows = SplitRows.of(data, duration_bins=duration_bins)
    everything = np.arange(len(rows.videos))
    parts = {"train": everything, "val": everything[:0], "test": everything[:0]}
    if use_given and any(row.split or _parts_named(row) for row in rows.videos):
        parts = _given_parts(rows)
    if test_share and not len(parts["test"]):
        parts["train"], parts["test"] = cut_part(rows, parts["train"], test_share, seed, "test")
    if not len(parts["val"]):
        share_of_rest = val_share / (1 - test_share)
        parts["train"], parts["val"] = cut_part(rows, parts["train"], share_of_rest, seed, "val")
    return _checked(rows, parts, data, seed)


def make_folds(
    data: PreparedData, *, folds: int = 5, val_share: float = 0.15, seed: int = 0, duration_bins: int = 0
) -> list[Split]:
    """Nested k-fold by group: every video is in the test part of one fold; a given split is not used.

    Inside each fold a validation part is cut from what is left, for stopping, calibration and thresholds, so
    that the fold's test part is touched once.

    Args:
        data: Labelled, both classes present.
        folds: k, at least 2.
        val_share: Wanted share of all videos for each validation part.
        seed: Same seed, same folds.
        duration_bins: Above 1, parts are alike in this many ranges of duration, too.
    Returns:
        One split per fold, with disjoint test parts that together hold all videos with clips.
    Raises:
        DataError: There are too few groups, or no way was found to give each part of each fold both classes.
    """
    if folds < MIN_GROUPS:
        raise DataError(f"{folds} folds: needs at least {MIN_GROUPS}")
    data.require_labels()
    rows = SplitRows.of(data, duration_bins=duration_bins)
    splits = []
    for number, (rest, test) in enumerate(_whole_folds(rows, folds, seed), start=1):
        share_of_rest = min(val_share * folds / (folds - 1), 0.5)
        train, val = cut_part(rows, rest, share_of_rest, seed, f"val (fold {number} of {folds})")
        splits.append(_checked(rows, {"train": train, "val": val, "test": test}, data, seed))
    return splits


def _checked(rows: SplitRows, parts: dict[str, NDArray[np.int64]], data: PreparedData, seed: int) -> Split:
    named = {name: tuple(rows.positions[i] for i in sorted(part)) for name, part in parts.items()}
    split = Split(named["train"], named["val"], named["test"], data.groups_known, seed)
    check_leaks(split, data.videos)
    _refuse_missing_class(split, data.videos)
    return split


def _parts_named(row: VideoRow) -> str | None:
    """The parts that an index names for a file that it puts into more than one."""
    return (row.origin or {}).get(PARTS_KEY)


def _given_parts(rows: SplitRows) -> dict[str, NDArray[np.int64]]:
    doubled = [row for row in rows.videos if _parts_named(row)]
    if doubled:
        raise faults_error(
            [f"{row.path} stands in {_parts_named(row)}" for row in doubled],
            "the given split leaks: the same file in two parts",
            fix=f"correct the index, or {SPLIT_AGAIN}; where that leaves too few groups, {NO_TEST_PART}",
        )
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


def _whole_folds(rows: SplitRows, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Outer folds with both classes on both sides of each; several shuffles are tried."""
    within = np.arange(len(rows.videos))
    groups = len(set(rows.groups))
    # A fold's rest is cut once more.
    if groups < max(folds, MIN_GROUPS + 1):
        raise too_few_groups(rows, within, f"{folds} folds")
    faults: list[str] = []
    for attempt in range(TRIES):
        parts = list(grouped_folds(rows, within, folds, seed + 1000 * attempt))
        faults = [
            f"fold {number} of {folds}: the test part has no {LABEL_NAMES[label]} video"
            for number, (_, test) in enumerate(parts, start=1)
            for label in LABEL_NAMES
            if label not in rows.labels[test]
        ]
        if not faults:
            return parts
    raise faults_error(
        faults, f"no {folds} folds with both classes were found", fix="take fewer folds, or add persons (dfkit forge)"
    )


def _refuse_missing_class(split: Split, videos: Sequence[VideoRow]) -> None:
    faults = []
    # An empty part was left out on purpose: what is cut, or given, holds something.
    for name, indices in split.parts().items():
        if indices:
            present = {videos[index].label for index in indices}
            missing = [label for label in LABEL_NAMES if label not in present]
            faults += [f"the {name} part has no {LABEL_NAMES[label]} video" for label in missing]
    if faults:
        raise faults_error(faults, "the split cannot be used", fix="move groups, or drop the split column")


def split_clips(data: PreparedData, config: SplitConfig) -> dict[str, list[int]]:
    """Clip indices of train, val and test, split by group and checked for leaks; of a fold that leaves a family out
    those of `seen` and `aside`, too (`dfkit.data.leave_out`).

    Raises:
        DataError: A class is missing somewhere, or a group or file stands on both sides.
        ConfigError: Folds without the fold that is meant, or one beyond the last.
    """
    if config.leave_out is not None:
        return _left_out_clips(data, config, config.leave_out)
    shared: dict[str, Any] = {"val_share": config.val_share, "seed": config.seed, "duration_bins": config.duration_bins}
    if config.folds is None:
        split = make_split(data, test_share=config.test_share, use_given=config.use_given, **shared)
    elif config.fold is None:
        raise ConfigError(
            f"split.folds is {config.folds}, and one split is needed here",
            fix=f"name one with split.fold (1 to {config.folds}), or leave split.folds out",
        )
    else:
        split = make_folds(data, folds=config.folds, **shared)[config.fold - 1]
    return {name: data.clip_indices(list(videos)) for name, videos in split.parts().items()}


def _left_out_clips(data: PreparedData, config: SplitConfig, by: str) -> dict[str, list[int]]:
    plan = LeaveOutPlan(data, by, val_share=config.val_share, seed=config.seed)
    if config.fold is None or config.fold > plan.num_folds:
        found = "one split is needed here" if config.fold is None else f"there is no fold {config.fold}"
        raise ConfigError(
            f"split.leave_out is {by}, which makes {plan.num_folds} folds of these data, and {found}",
            fix=f"name one with split.fold (1 to {plan.num_folds}), or leave split.leave_out out",
        )
    fold = plan.fold(config.fold)
    parts = {**fold.parts(), "aside": fold.aside}
    return {name: data.clip_indices(list(videos)) for name, videos in parts.items()}


def joined_parts(indices: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """The parts with the validation part in the training part, as `split.refit` trains in the end."""
    both = sorted([*indices["train"], *indices["val"]])
    return {name: list(clips) for name, clips in indices.items()} | {"train": both, "val": []}
