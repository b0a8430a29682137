"""Which clips are evaluated and which ones fix thresholds, without touching what a model was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dfkit.config import SplitConfig
from dfkit.data.catalog import HASH_LENGTH
from dfkit.data.seen import Seen
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.evaluation.ensemble_members import EnsembleMember
from dfkit.measures.decision import MIN_VIDEOS_PER_CLASS
from dfkit.training.seen_groups import START, START_VAL

LEAKS = (
    (START, "pre-trained"),
    (START_VAL, "tuned before"),
    ("train", "trained"),
    ("val", "tuned (stopping, threshold)"),
)
"""Part of a model, and what its videos did to it."""

SplitName = Literal["test", "val", "train", "all"]


@dataclass(frozen=True)
class EvaluationSplit:
    """Clip indices of the evaluated split and of the validation split."""

    name: SplitName
    """The evaluated split."""
    evaluated: list[int]
    """Clip indices that metrics are computed on."""
    validation: list[int]
    """Clip indices that thresholds and calibration are fitted on, none of them evaluated; may be empty."""
    source: str
    """Where the splits come from, in words."""
    warnings: tuple[str, ...]
    """What the evaluated clips share with the data that the models were trained or tuned on."""
    unfitted: str | None = None
    """Why nothing is fitted although there is a validation part; None where it is."""


def choose_evaluation_split(data: PreparedData, split: SplitName, members: Sequence[EnsembleMember]) -> EvaluationSplit:
    """Splits as the first model recorded them, where this is its data; else as the labels give them, or by group.

    No video is both judged and fitted on: `val` fits nothing, `all` leaves the validation part out where it is large
    enough to fit on, and fits nothing where it is not.

    Args:
        data: Prepared data with labels.
        split: The split to evaluate.
        members: The models; videos and groups that any of them was trained or tuned on are warned about.
    Raises:
        DataError: Labels are missing, the split is empty, or the data cannot be split.
    """
    if not data.clips:
        raise DataError(f"{data.path}: no clip was prepared, so there is nothing to judge", fix="dfkit prepare VIDEOS")
    if any(clip.label is None for clip in data.clips):
        raise DataError(
            f"{data.path}: prepared without labels, so there is nothing to judge against",
            fix="dfkit prepare FOLDER with real/ and fake/ in it, or --labels FILE.csv",
        )
    indices, source = _recorded_splits(data, members[0]) or _new_splits(data, split)
    validation, unfitted = _validation_clips(data, split, indices["val"])
    evaluated = indices[split] if split != "all" else sorted(set(range(len(data.clips))) - set(validation))
    if not evaluated:
        sizes = ", ".join(f"{name} {len(clips)}" for name, clips in indices.items())
        raise DataError(
            f"{data.path}: the {split} part holds no clip ({source}: {sizes})", fix="--split all, or another part"
        )
    if split == "all":
        num_videos = data.count_videos(validation)
        left_out = f"all but the {num_videos} validation videos, on which thresholds were fitted"
        source = f"{source}; {left_out if validation else 'every video is judged and nothing fitted'}"
    warnings = tuple(_leakage_warnings(data, evaluated, members))
    return EvaluationSplit(split, evaluated, validation, source, warnings, unfitted)


def _validation_clips(data: PreparedData, split: SplitName, clips: list[int]) -> tuple[list[int], str | None]:
    """Clips to fit on, and why there are none where they are judged themselves."""
    if split == "val":
        return [], "the validation videos themselves are judged"
    if split != "all":
        return clips, None
    labels = [data.videos[video].label for video in {data.clips[index].video_index for index in clips}]
    counts = [labels.count(label) for label in (0, 1)]
    if min(counts) >= MIN_VIDEOS_PER_CLASS:
        return clips, None
    seen = f"{counts[0]} real and {counts[1]} fake validation videos"
    return [], f"{seen}, at least {MIN_VIDEOS_PER_CLASS} of each are needed; they are judged with the others"


def _recorded_splits(data: PreparedData, member: EnsembleMember) -> tuple[dict[str, list[int]], str] | None:
    """The splits that a model recorded; None where it recorded none, or lacks one of the data's groups."""
    if member.splits is None:
        return None
    split_of_group: dict[str, str] = {}
    split_of_file: dict[str, str] = {}
    for name, facts in member.splits.items():
        for group in facts["groups"]:
            split_of_group.setdefault(group, name)
        # Folds that leave a family out hold groups of which some videos are tested and others `seen` or `aside`.
        split_of_file |= dict.fromkeys(facts.get("file_hashes", ()), name)
    indices: dict[str, list[int]] = {"train": [], "val": [], "test": [], **{name: [] for name in member.splits}}
    for clip in data.clips:
        group = str(clip.group)
        if group not in split_of_group:
            return None
        file_hash = data.videos[clip.video_index].sha256[:HASH_LENGTH]
        indices[split_of_file.get(file_hash, split_of_group[group])].append(clip.index)
    return indices, f"as recorded in {member.path}"


def _new_splits(data: PreparedData, split: SplitName) -> tuple[dict[str, list[int]], str]:
    try:
        labels_name_splits = any(row.split for row in data.videos)
        source = "as the labels give it" if labels_name_splits else "cut by group, seed 0"
        return split_clips(data, SplitConfig()), source
    except DataError as error:
        if split != "all":
            raise
        # All clips can be evaluated without splits; there is only nothing to take a threshold from.
        return {"train": [], "val": [], "test": []}, f"not split ({error.found.splitlines()[0]})"


def _leakage_warnings(data: PreparedData, evaluated: list[int], members: Sequence[EnsembleMember]) -> list[str]:
    videos_of_group: dict[str, set[int]] = defaultdict(set)
    for index in evaluated:
        videos_of_group[str(data.clips[index].group)].add(data.clips[index].video_index)
    judged = [Seen.from_videos(data, videos) for videos in videos_of_group.values()]
    warnings = []
    unknown = [str(member.path) for member in members if member.splits is None]
    if unknown:
        warnings.append(f"{', '.join(unknown)} does not say what it was trained on: these videos may be among it")
    names_no_file = [
        str(member.path)
        for member in members
        if member.splits is not None and not any(Seen.from_facts(facts).files for facts in member.splits.values())
    ]
    if names_no_file and not data.groups_known:
        warnings.append(
            f"{', '.join(names_no_file)} does not say which videos it was trained on: these may be among them"
        )
    for name, purpose in LEAKS:
        seen = [Seen.from_facts((member.splits or {}).get(name, {})) for member in members]
        num_shared = sum(any(own.shares(each) for each in seen) for own in judged)
        if num_shared:
            model = "the model" if len(members) == 1 else "a member"
            warnings.append(f"{num_shared} of {len(judged)} judged groups are ones that {model} was {purpose} on")
    return warnings
