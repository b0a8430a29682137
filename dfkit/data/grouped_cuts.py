"""Whole groups cut into parts: what plain splits and folds, and folds that leave families out, are made of."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.data.catalog import VideoRow, group_names
from dfkit.data.label_words import LABEL_NAMES
from dfkit.data.labels import faults_error
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError, MissingExtraError

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


def cut_part(
    rows: SplitRows, within: NDArray[np.int64], share: float, seed: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts a part of about `share` off; the nearest cut that has both classes on both sides.

    Args:
        rows: All.
        within: Places that are cut.
        share: Wanted share of `within`, in (0, 1).
        seed: Of the shuffles.
        name: Of the part, for messages.
    Returns:
        Places of the rest and of the part.
    Raises:
        DataError: There is no such cut.
    """
    groups = len({rows.groups[i] for i in within})
    if groups < MIN_GROUPS:
        raise too_few_groups(rows, within, f"a {name} part")
    # scikit-learn refuses more folds than members of the rarest class.
    rarest = int(np.bincount(rows.labels[within], minlength=2).min())
    largest_stratum = int(np.bincount(rows.strata[within]).max())
    most = max(MIN_GROUPS, min(groups, rarest, largest_stratum))
    folds = int(np.clip(round(1 / share), MIN_GROUPS, most))
    best: tuple[float, NDArray[np.int64], NDArray[np.int64]] | None = None
    for attempt in range(TRIES):
        for rest, part in grouped_folds(rows, within, folds, seed + 1000 * attempt):
            whole = len(set(rows.labels[rest])) == len(set(rows.labels[part])) == len(LABEL_NAMES)
            distance = abs(len(part) / len(within) - share)
            if whole and (best is None or distance < best[0] - 1e-12):
                best = (distance, rest, part)
        if best is not None:
            return best[1], best[2]
    raise _no_cut_has_both(rows, within, name)


def grouped_folds(
    rows: SplitRows, within: NDArray[np.int64], folds: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds of whole groups, alike in strata as far as these allow; a part may lack a class.

    Args:
        rows: All.
        within: Places that are folded.
        folds: How many.
        seed: Of the shuffle.
    Yields:
        Places of a fold's rest and of its part.
    Raises:
        DataError: No stratum has as many members as there are folds.
    """
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


def too_few_groups(rows: SplitRows, within: NDArray[np.int64], wanted: str) -> DataError:
    """The error for fewer groups than `wanted` (such as `5 folds`) needs."""
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
