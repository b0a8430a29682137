"""Tables of what models are worth on left-out families, seen beside unseen, for the terminal and for pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dfkit.measures.bootstrap import Interval
from dfkit.measures.left_out import FamilyAuc, LeftOutResult
from dfkit.report.table import table_lines

SAME_REALS = "both against the same real videos, those of the fold"
SEEN_REALS = "each against the real videos of these values"
FIXED_COLUMNS = 3
"""Name, fakes, reals; then two columns for each that was scored."""


def format_auc(interval: Interval) -> str:
    """An AUC with its interval in brackets, where it has one."""
    if not math.isfinite(interval.value):
        return "-"
    return f"{interval.value:.2f}" + ("" if interval.reason else f" [{interval.low:.2f}, {interval.high:.2f}]")


def left_out_head(results: Mapping[str, LeftOutResult]) -> list[str]:
    """Names of the columns of `left_out_rows`.

    Args:
        results: By what was scored, such as `network` and `file facts`, under the same folds.
    """
    names = [f"{name}, {part}" for name in results for part in ("unseen", "seen")]
    return ["left out", "fakes", "reals", *names]


def left_out_rows(results: Mapping[str, LeftOutResult]) -> list[list[str]]:
    """A row of cells for each family, then the mean, the worst and the gap.

    Args:
        results: As for `left_out_head`; families are those of the first.
    """
    first = next(iter(results.values()))
    rows = []
    for number, family in enumerate(first.families):
        cells = [family.family.name, *_counts(family)]
        for result in results.values():
            cells += [format_auc(result.families[number].unseen), format_auc(result.families[number].seen)]
        rows.append(cells)
    counted = sum(family.counted for family in first.families)
    mean, worst, gap = [f"mean of {counted}", "", ""], ["worst", "", ""], ["unseen - seen", "", ""]
    for result in results.values():
        mean += [format_auc(result.mean), format_auc(result.seen)]
        worst += [format_auc(result.worst), result.worst_family or "-"]
        gap += [format_auc(result.gap), ""]
    return [*rows, mean, worst, gap]


def _counts(family: FamilyAuc) -> list[str]:
    return [f"{family.num_fakes} ({family.fake_groups})", f"{family.num_reals} ({family.real_groups})"]


def left_out_lines(results: Mapping[str, LeftOutResult]) -> list[str]:
    """The table as lines of text, what is pooled, and what to know about it.

    Only the first result has its intervals there, so that a terminal holds them; a page shows all.
    """
    kept = FIXED_COLUMNS + 2
    head = [*left_out_head(results)[:kept], *(f"{name}, unseen / seen" for name in list(results)[1:])]
    rows = [
        row[:kept] + [_beside(row[at], row[at + 1]) for at in range(kept, len(row), 2)]
        for row in left_out_rows(results)
    ]
    return [*table_lines(head, rows), *left_out_notes(results)]


def _beside(unseen: str, seen: str) -> str:
    """Two cells as one, without intervals."""
    return " / ".join(cell.split(" [")[0] for cell in (unseen, seen) if cell)


def left_out_notes(results: Mapping[str, LeftOutResult]) -> list[str]:
    """What is pooled, how to read the table, and its limits."""
    first = next(iter(results.values()))
    pooled = [family.family for family in first.families if len(family.family.members) > 1]
    limits: Sequence[str] = tuple(dict.fromkeys(note for result in results.values() for note in result.notes))
    return [
        *(f"{family.name} is pooled of {', '.join(family.members)}" for family in pooled),
        "fakes and reals are videos (groups); AUC by video, 95 % interval over groups",
        "unseen: the left-out family's fakes; seen: fakes of families that the same model trained on, of groups that "
        f"it did not; {SEEN_REALS if first.seen_reals else SAME_REALS}",
        *limits,
    ]
