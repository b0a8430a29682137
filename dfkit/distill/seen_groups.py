"""Refuses splits that test a student on groups its teacher was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfkit.data.labels import faults_error
from dfkit.data.storage import PreparedData

HELD_OUT = ("val", "test")
"""Splits that neither teacher nor student may have been trained on."""


def refuse_seen_groups(
    teacher_facts: Mapping[str, Any], data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> None:
    """Refuses a split in which the student's held-out groups were the teacher's training groups.

    The teacher's logits carry what it learnt there into the student: thresholds and test metrics would be too good.
    Checked where both were made from the same data; an original checkpoint does not say what it was trained on.

    Args:
        teacher_facts: `facts` of the teacher's checkpoint.
        data: What the student trains on.
        indices: Clip indices of the student's `train`, `val` and `test`.
    Raises:
        DataError: Names the groups, and the split that fits.
    """
    trained = set(teacher_facts.get("splits", {}).get("train", {}).get("groups", ()))
    if not trained or not _same_data(str(teacher_facts.get("data", "")), str(data.path)):
        return
    faults = []
    for split in HELD_OUT:
        held_out = {str(data.clips[index].group) for index in indices[split]}
        leaked = sorted(held_out & trained)
        if leaked:
            faults.append(f"{len(leaked)} groups of the {split} part, among them {leaked[0]}")
    if faults:
        teacher_split = teacher_facts.get("split_config", {})
        entries = ", ".join(f"{key}: {value}" for key, value in teacher_split.items() if value is not None)
        raise faults_error(
            faults,
            "the teacher was trained on groups that its student is to be judged by",
            fix=f"give the student the teacher's split: split: {{{entries}}}",
        )


def _same_data(one: str, other: str) -> bool:
    """Whether two data folders are one; addresses with a scheme are compared as text."""
    if one == other:
        return True
    is_local = "://" not in one and "://" not in other
    return is_local and Path(one).resolve() == Path(other).resolve()
