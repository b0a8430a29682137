"""Counts by kind and outcome, failures with what reproduces them, and what took longest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tools.fuzz.pool import Answer

NUM_SLOWEST = 5


@dataclass
class Report:
    """What a run gave so far."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (kind, outcome)."""
    failures: list[Answer] = field(default_factory=list)
    slowest: list[Answer] = field(default_factory=list)
    peak_mb: float = 0.0

    def take(self, answer: Answer) -> None:
        """Counts one answer."""
        self.counts[answer.case.kind, answer.outcome] += 1
        if answer.faults:
            self.failures.append(answer)
        self.slowest = sorted([*self.slowest, answer], key=lambda each: -each.seconds)[:NUM_SLOWEST]
        self.peak_mb = max(self.peak_mb, answer.peak_mb)

    @property
    def num_cases(self) -> int:
        """Cases that were run."""
        return sum(self.counts.values())

    def summary(self) -> list[str]:
        """A table of outcomes by kind, and a line for each failure."""
        kinds = sorted({kind for kind, _ in self.counts})
        totals: Counter[str] = Counter()
        for (_, outcome), count in self.counts.items():
            totals[outcome] += count
        width = max([len(outcome) for outcome in totals] + [7])
        columns = [max(len(kind), 5) for kind in kinds]
        head = f"{'outcome':<{width}}  {'all':>6}" + "".join(
            f"  {kind:>{size}}" for kind, size in zip(kinds, columns, strict=True)
        )
        rows = [
            f"{outcome:<{width}}  {total:>6}"
            + "".join(
                f"  {self.counts[kind, outcome] or '':>{size}}" for kind, size in zip(kinds, columns, strict=True)
            )
            for outcome, total in totals.most_common()
        ]
        slow = ", ".join(f"{each.case} {each.seconds:.1f} s" for each in self.slowest)
        lines = [head, *rows, f"{self.num_cases} cases, {len(self.failures)} failures, peak {self.peak_mb:.0f} MB"]
        lines += [f"slowest: {slow}"] if slow else []
        return [*lines, *(f"FAILED {each.case} ({each.outcome}): {'; '.join(each.faults)}" for each in self.failures)]

    def to_json(self) -> dict[str, Any]:
        """Counts by kind, failures by case."""
        counts: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self.counts.items()):
            counts.setdefault(kind, {})[outcome] = count
        return {
            "num_cases": self.num_cases,
            "counts": counts,
            "failures": [
                {"case": str(each.case), "outcome": each.outcome, "faults": list(each.faults)} for each in self.failures
            ],
            "slowest": [{"case": str(each.case), "seconds": round(each.seconds, 1)} for each in self.slowest],
            "peak_mb": round(self.peak_mb),
        }
