"""Refuses splits that judge a network on persons or videos that its teacher, or what it started from, has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dfkit.data.labels import faults_error
from dfkit.data.seen import Seen
from dfkit.data.storage import PreparedData

START, START_VAL = "start", "start_val"
"""Parts of a network for all that the network that it started from was trained on, and tuned on."""
SEEN = (
    (START, "started from a network that was trained on", ("val", "test")),
    (START_VAL, "started from a network that was tuned on", ("test",)),
    ("train", "trained on", ("val", "test")),
    ("val", "tuned on", ("test",)),
)
"""Part of the teacher, what it did to the teacher, and the parts of the student that must share nothing with it.

Sharing the validation part is allowed: with one split for both it is the same part.
"""


def refuse_seen_groups(
    teacher_facts: Mapping[str, Any], data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> tuple[str, ...]:
    """Refuses a split in which the student is judged by what its teacher was trained or tuned on.

    The teacher's logits carry what it learnt there into the student: thresholds and test metrics would be too good.
    Videos are compared by content, their own and their sources', and groups by name, wherever either data set lies and
    however it was prepared.

    Args:
        teacher_facts: `facts` of the teacher's checkpoint.
        data: What the student trains on.
        indices: Clip indices of the student's `train`, `val` and `test`.
    Returns:
        What could not be compared, for the report.
    Raises:
        DataError: Names the videos and groups, and the split that fits.
    """
    if not teacher_facts.get("splits"):
        return (
            "the teacher does not say what it was trained on: it may have seen the videos its student is judged by",
        )
    if faults := seen_faults(teacher_facts, data, indices):
        split = ", ".join(
            f"{key}: {value}" for key, value in teacher_facts.get("split_config", {}).items() if value is not None
        )
        raise faults_error(
            faults,
            "the teacher has seen what its student is to be judged by",
            fix=f"give the student the teacher's data and split: split: {{{split}}}; if other persons have the same "
            "names here, rename their groups",
        )
    return _not_compared(teacher_facts, data)


def refuse_seen_by_start(
    start_facts: Mapping[str, Any], where: str, data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> None:
    """Refuses to go on from a network that was trained or tuned on what the new one is to be judged by.

    Args:
        start_facts: `facts` of the checkpoint that training starts from.
        where: Names it.
        data: What is trained on.
        indices: Clip indices of `train`, `val` and `test`.
    Raises:
        DataError: Names the videos and groups.
    """
    if faults := seen_faults(start_facts, data, indices):
        raise faults_error(
            faults,
            f"{where} has seen what the network that starts from it is to be judged by",
            fix="split so that its groups train: name the parts in the labels' column split, or start from nothing "
            "(leave train.start out)",
        )


def seen_faults(facts: Mapping[str, Any], data: PreparedData, indices: Mapping[str, Sequence[int]]) -> list[str]:
    """What of the held-out parts a network was trained or tuned on, or the network that it started from.

    Args:
        facts: Of its checkpoint.
        data: What the parts are of.
        indices: Clip indices of `val` and `test`.
    """
    faults = []
    for part, did, held_out in SEEN:
        theirs = Seen.from_facts(facts.get("splits", {}).get(part, {}))
        for own_part in held_out:
            faults += part_faults(theirs, did, data, own_part, indices[own_part])
    return faults


def part_faults(theirs: Seen, did: str, data: PreparedData, part: str, clips: Sequence[int]) -> list[str]:
    """What a part shares with other videos.

    Args:
        theirs: Of the other videos.
        did: How a line begins, such as `trained on`.
        data: What the part is of.
        part: Its name.
        clips: Indices of its clips.
    """
    faults = []
    videos = {data.clips[index].video_index for index in clips}
    groups = sorted(Seen.from_videos(data, videos).groups & theirs.groups)
    if groups:
        faults.append(f"{did} {len(groups)} groups of the {part} part, among them {groups[0]}")
    of_seen_files = [video for video in videos if Seen.from_videos(data, [video]).files & theirs.files]
    if of_seen_files:
        path = min(data.videos[video].path for video in of_seen_files)
        faults.append(f"{did} {len(of_seen_files)} videos of the {part} part or their sources, among them {path}")
    return faults


def refuse_unlabelled_held_out(
    unlabelled: PreparedData, data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> None:
    """Refuses further training videos of persons that a network is to be judged by.

    Args:
        unlabelled: May be trained on, all of it.
        data: What is trained and judged on.
        indices: Clip indices of `train` and of all other parts. Of `aside`, the videos that a fold leaves out though it
            trains on their persons, files alone count.
    Raises:
        DataError: Names the videos and groups.
    """
    theirs = Seen.from_videos(unlabelled, range(len(unlabelled.videos)))
    faults = []
    for part, clips in indices.items():
        if part != "train":
            known = Seen(theirs.files, frozenset()) if part == "aside" else theirs
            faults += part_faults(known, "has", data, part, clips)
    if faults:
        raise faults_error(
            faults,
            f"{unlabelled.path}: unlabelled videos are of what the network is to be judged by",
            fix="prepare the unlabelled videos without these, or split so that their groups train; if other persons "
            "have the same names here, rename their groups",
        )


def start_parts(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a network was trained and what it was tuned on, as further parts of the network that starts from it.

    Args:
        facts: Of the checkpoint that is started from.
    Returns:
        Sizes and names as `split_facts` has them; what that network started from itself is in them, too.
    """
    splits = facts.get("splits", {})
    earlier = {START: (START, "train"), START_VAL: (START_VAL, "val")}
    return {name: join_parts([splits[part] for part in parts if part in splits]) for name, parts in earlier.items()}


def join_splits(*facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts in the `splits` of several facts, each part once."""
    names = dict.fromkeys(name for each in facts for name in each.get("splits", {}))
    return {name: join_parts([f["splits"][name] for f in facts if name in f.get("splits", {})]) for name in names}


def join_parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts added up, names once."""
    joined: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            joined[key] = (
                sorted({*joined.get(key, ()), *value}) if isinstance(value, list) else joined.get(key, 0) + value
            )
    return joined


def _not_compared(teacher_facts: Mapping[str, Any], data: PreparedData) -> tuple[str, ...]:
    """Checkpoints of older versions hold groups alone, and groups may be unknown on either side."""
    groups_known = bool(teacher_facts.get("groups_known")) and data.groups_known
    # Of unknown groups the names are hashes of files.
    files_known = not teacher_facts.get("groups_known") or all(
        "file_hashes" in facts for facts in teacher_facts["splits"].values()
    )
    if not groups_known and not files_known:
        return (
            "neither the teacher's videos nor common groups are known: it may have seen the videos or persons that "
            "its student is judged by",
        )
    if not groups_known:
        return (
            "groups unknown to teacher or student: it has not seen the videos that its student is judged by, and may "
            "have seen the persons",
        )
    if not files_known:
        return ("the teacher's checkpoint names groups and no videos: only groups were compared",)
    return ()
