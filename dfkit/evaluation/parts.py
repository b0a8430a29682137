"""Which clips are judged and which ones thresholds come from, without touching what a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dfkit.config import SplitConfig
from dfkit.data.storage import PreparedData
from dfkit.distill.loaders import split_clips
from dfkit.errors import DataError
from dfkit.evaluation.members import Member

SplitName = Literal["test", "val", "train", "all"]


@dataclass(frozen=True)
class Parts:
    """Clip indices."""

    split: SplitName
    judged: list[int]
    validation: list[int]
    """Where thresholds and calibration are fitted; may be empty."""
    source: str
    """How the parts came about, for people."""
    warnings: tuple[str, ...]


def choose_parts(data: PreparedData, split: SplitName, members: Sequence[Member]) -> Parts:
    """Parts as the first model recorded them, where this is its data; else as the labels give them, or by group.

    Args:
        data: Labelled.
        split: The part to judge; `all` takes every clip.
        members: The models; groups that any of them was trained on are warned about.
    Raises:
        DataError: Labels are missing, the part is empty, or the data cannot be split.
    """
    if not data.clips:
        raise DataError(f"{data.path}: no clip was prepared, so there is nothing to judge", fix="dfkit prepare VIDEOS")
    if any(clip.label is None for clip in data.clips):
        raise DataError(
            f"{data.path}: prepared without labels, so there is nothing to judge against",
            fix="dfkit prepare FOLDER with real/ and fake/ in it, or --labels FILE.csv",
        )
    indices, source = _recorded(data, members[0]) or _fresh(data, split)
    judged = list(range(len(data.clips))) if split == "all" else indices[split]
    if not judged:
        sizes = ", ".join(f"{name} {len(own)}" for name, own in indices.items())
        raise DataError(
            f"{data.path}: the {split} part holds no clip ({source}: {sizes})", fix="--split all, or another part"
        )
    return Parts(split, judged, indices["val"], source, tuple(_leaks(data, split, judged, members)))


def _recorded(data: PreparedData, member: Member) -> tuple[dict[str, list[int]], str] | None:
    """The parts of a model's own data; None for data with a group that it does not know."""
    if member.parts is None or not {str(clip.group) for clip in data.clips} <= frozenset().union(
        *member.parts.values()
    ):
        return None
    indices: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for clip in data.clips:
        part = next(name for name, groups in member.parts.items() if str(clip.group) in groups)
        indices[part].append(clip.index)
    return indices, f"as recorded in {member.path}"


def _fresh(data: PreparedData, split: SplitName) -> tuple[dict[str, list[int]], str]:
    try:
        given = any(row.split for row in data.videos)
        how = "as the labels give it" if given else "cut by group, seed 0"
        return split_clips(data, SplitConfig()), how
    except DataError as error:
        if split != "all":
            raise
        # Everything can be judged without parts; there is only nothing to take a threshold from.
        return {"train": [], "val": [], "test": []}, f"not split ({error.found.splitlines()[0]})"


def _leaks(data: PreparedData, split: SplitName, judged: list[int], members: Sequence[Member]) -> list[str]:
    groups = {str(data.clips[i].group) for i in judged}
    warnings = []
    unknown = [str(member.path) for member in members if member.parts is None]
    if unknown:
        warnings.append(f"{', '.join(unknown)} does not say what it was trained on: these videos may be among it")
    for part, what in (("train", "trained"), ("val", "tuned (stopping, threshold)")):
        known = frozenset().union(*((member.parts or {}).get(part, frozenset()) for member in members))
        shared = len(groups & known)
        if shared:
            noun = "the model" if len(members) == 1 else "a member"
            warnings.append(f"{shared} of {len(groups)} judged groups are ones that {noun} was {what} on")
    if split == "val":
        warnings.append("thresholds and calibration were chosen on these very videos: the figures flatter")
    return warnings
