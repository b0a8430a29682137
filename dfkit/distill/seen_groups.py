"""Whether a teacher was trained on persons that its student is to be judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfkit.data.labels import faults_error
from dfkit.data.storage import PreparedData

HELD_OUT = ("val", "test")


def refuse_seen_groups(
    teacher_facts: Mapping[str, Any], data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> None:
    """Refuses a split in which the student's held-out groups were the teacher's training groups.

    The teacher's answers carry what it learnt there into the student: thresholds and test figures would flatter
    both. Judged where both know the same data; an original checkpoint does not say what it was trained on.

    Args:
        teacher_facts: Of the teacher's checkpoint.
        data: The student's.
        indices: Clip indices of the student's `train`, `val` and `test`.
    Raises:
        DataError: Names the groups, and the split that fits.
    """
    trained = set(teacher_facts.get("splits", {}).get("train", {}).get("groups", ()))
    if not trained or not _same_place(str(teacher_facts.get("data", "")), str(data.path)):
        return
    faults = []
    for part in HELD_OUT:
        seen = sorted({str(data.clips[i].group) for i in indices[part]} & trained)
        if seen:
            faults.append(f"{len(seen)} groups of the {part} part, among them {seen[0]}")
    if faults:
        split = ", ".join(
            f"{key}: {value}" for key, value in teacher_facts.get("split_config", {}).items() if value is not None
        )
        raise faults_error(
            faults,
            "the teacher was trained on groups that its student is to be judged by",
            fix=f"give the student the teacher's split: distill: {{split: {{{split}}}}}",
        )


def _same_place(one: str, other: str) -> bool:
    return one == other or ("://" not in one + other and Path(one).resolve() == Path(other).resolve())
