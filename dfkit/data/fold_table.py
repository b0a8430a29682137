"""The folds that leave families out as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from dfkit.data.label_words import FAKE, REAL
from dfkit.data.leave_out import LeaveOutFold
from dfkit.data.storage import PreparedData
from dfkit.report.table import table_lines


def format_folds(data: PreparedData, folds: Sequence[LeaveOutFold]) -> list[str]:
    """A table of folds: videos of each part as real + fake.

    Args:
        data: What the folds are of.
        folds: From `leave_out_folds`.
    """

    def counted(indices: Sequence[int]) -> str:
        labels = [data.videos[i].label for i in indices]
        return f"{labels.count(REAL)} + {labels.count(FAKE)}"

    rows = []
    for fold in folds:
        groups = len({data.groups[i] for i in fold.test})
        cells = [counted(part) for part in (fold.test, fold.train, fold.val)]
        rows.append([fold.name, cells[0], str(groups), *cells[1:], counted(fold.seen), counted(fold.aside)])
    head = ("left out", "tested", "groups", "trained", "validated", "seen", "in no part")
    notes = [
        f"{fold.family} is pooled of {', '.join(fold.members)}"
        for fold in folds
        if len(fold.members) > 1 and fold.piece == 1
    ]
    return [*table_lines(head, rows), "videos as real + fake", *notes]
