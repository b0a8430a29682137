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

from dfkit.config import SplitConfig
from dfkit.data.catalog import PARTS_KEY, VideoRow, group_names
from dfkit.data.label_words import LABEL_NAMES, SPLITS
from dfkit.data.labels import faults_error
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError, MissingExtraError

TRIES = 20
MIN_GROUPS = 2
SPLIT_AGAIN = "let dfkit split by group itself: dfkit train --own-split, or split: {use_given: false}"
NO_TEST_PART = "split: {test_share: 0} goes without a test part (nothing is then reported)"


@dataclass(frozen=True)
class Split:
    """Video indices of each part, rising."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    groups_known: bool
    seed: int

    def parts(self) -> dict[str, tuple[int, ...]]:
        """Video indices by name of the part: `train`, `val`, `test`."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the video indices of each part."""
        parts = {name: list(indices) for name, indices in self.parts().items()}
        return {**parts, "groups_known": self.groups_known, "seed": self.seed}


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


def check_leaks(split: Split, videos: Sequence[VideoRow]) -> None:
    """Refuses a split where a group or a file's content stands on both sides.

    Args:
        split: Indices into `videos`.
        videos: All rows.
    Raises:
        DataError: Names the groups and the files.
    """
    names = group_names(videos)
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
            fix=f"give all files of a group the same split, or {SPLIT_AGAIN}",
        )


@dataclass(frozen=True)
class SplitRows:
    """Groups, labels and strata of the videos that have clips, as arrays of equal length."""

    positions: tuple[int, ...]
    """Index of each in `PreparedData.videos`."""
    videos: tuple[VideoRow, ...]
    groups: tuple[str, ...]
    labels: NDArray[np.int64]
    strata: NDArray[np.int64]
    """What parts should be alike in: the label, or label and range of duration."""

    @classmethod
    def of(cls, data: PreparedData, *, duration_bins: int = 0) -> SplitRows:
        positions = tuple(i for i, row in enumerate(data.videos) if row.clips)
        videos = tuple(data.videos[i] for i in positions)
        groups = tuple(data.groups[i] for i in positions)
        labels = np.asarray([row.label for row in videos], np.int64)
        strata = labels if duration_bins < 2 else labels * duration_bins + _duration_bin(videos, duration_bins)
        return cls(positions, videos, groups, labels, strata)


def _duration_bin(videos: Sequence[VideoRow], bins: int) -> NDArray[np.int64]:
    """The range of duration of each video: `bins` ranges with about equally many videos each."""
    durations_s = [duration_s(row) for row in videos]
    unknown = [row.name for row, value in zip(videos, durations_s, strict=True) if value is None]
    if unknown:
        raise DataError(
            f"the duration of {len(unknown)} videos is not known, among them {unknown[0]}: "
            "the split cannot be stratified by it",
            fix="split.duration_bins: 0",
        )
    values = np.asarray(durations_s, np.float64)
    return np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")


def duration_s(row: VideoRow) -> float | None:
    """Duration of a video in seconds: of the file, or to the last picture of an NPZ; None where unknown."""
    if row.facts is not None:
        return float(row.facts["duration_s"])
    return max((clip.end_s for clip in row.clips), default=0.0) or None


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


def cut_part(
    rows: SplitRows, within: NDArray[np.int64], share: float, seed: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts a part of about `share` off; the nearest cut that has both classes on both sides."""
    groups = len({rows.groups[i] for i in within})
    if groups < MIN_GROUPS:
        raise _too_few_groups(rows, within, f"a {name} part")
    # scikit-learn refuses more folds than members of the rarest class.
    rarest = int(np.bincount(rows.labels[within], minlength=2).min())
    largest_stratum = int(np.bincount(rows.strata[within]).max())
    most = max(MIN_GROUPS, min(groups, rarest, largest_stratum))
    folds = int(np.clip(round(1 / share), MIN_GROUPS, most))
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


def _whole_folds(rows: SplitRows, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Outer folds with both classes on both sides of each; several shuffles are tried."""
    within = np.arange(len(rows.videos))
    groups = len(set(rows.groups))
    # A fold's rest is cut once more.
    if groups < max(folds, MIN_GROUPS + 1):
        raise _too_few_groups(rows, within, f"{folds} folds")
    faults: list[str] = []
    for attempt in range(TRIES):
        parts = list(_folds(rows, within, folds, seed + 1000 * attempt))
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


def _folds(
    rows: SplitRows, within: NDArray[np.int64], folds: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    strata = rows.strata[within]
    groups = [rows.groups[i] for i in within]
    if np.unique(strata, return_counts=True)[1].max() < folds:
        raise DataError(
            f"{len(within)} videos in {len(set(strata.tolist()))} classes and ranges of duration are too few for "
            f"{folds} parts",
            fix="split: {duration_bins: 0} in the file given with --config, or fewer folds",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Its warning about rare classes; parts that lack a class are refused here.
        warnings.simplefilter("ignore", UserWarning)
        for rest, part in splitter.split(np.zeros(len(within)), strata, groups):
            yield within[rest], within[part]


def _too_few_groups(rows: SplitRows, within: NDArray[np.int64], wanted: str) -> DataError:
    sizes = Counter(rows.groups[i] for i in within)
    name, size = sizes.most_common(1)[0]
    return DataError(
        f"too few groups for {wanted}: {len(within)} videos are in {len(sizes)} group(s), the largest "
        f"({name}) holds {size}; a group (person, source, sound) is kept whole",
        fix="add videos of other persons, or fewer folds (split: {folds: N}, or --folds and --kfold)"
        if "fold" in wanted
        else f"add videos of other persons: a whole split needs three groups with both classes; {NO_TEST_PART}",
    )


def _no_cut_has_both(rows: SplitRows, within: NDArray[np.int64], name: str) -> DataError:
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
    # Made of this module's groups and cuts.
    from dfkit.data.leave_out import leave_out_folds

    folds = leave_out_folds(data, by, val_share=config.val_share, seed=config.seed)
    if config.fold is None or config.fold > len(folds):
        found = "one split is needed here" if config.fold is None else f"there is no fold {config.fold}"
        raise ConfigError(
            f"split.leave_out is {by}, which makes {len(folds)} folds of these data, and {found}",
            fix=f"name one with split.fold (1 to {len(folds)}), or leave split.leave_out out",
        )
    fold = folds[config.fold - 1]
    parts = {**fold.parts(), "aside": fold.aside}
    return {name: data.clip_indices(list(videos)) for name, videos in parts.items()}
