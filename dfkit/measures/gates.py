"""Gates: a metric, a direction and a limit; pass, fail, or not judged for want of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dfkit.measures.finite import finite_or_none

Direction = Literal["<", "<=", ">="]
Verdict = Literal["pass", "fail", "not judged"]
EXIT_PASSED, EXIT_FAILED, EXIT_UNJUDGED = 0, 1, 3

MAX_PHONE_MB = 3.2
MAX_CLIP_MS = 100.0
MIN_REAL_TIME = 5.0
MAX_ACCURACY_DROP = 3.0
MIN_AUC_RATIO = 0.99
MIN_VIDEOS = 200
MIN_GROUPS = 30
MARGIN = 0.1
"""Distance of the FP32 model's margin from the threshold's, in logits, above which an INT8 flip fails."""
MAX_FLIP_SHARE = 0.01
MAX_P_CHANGE = 0.05


def max_flips(num: int) -> int:
    """Flips by INT8 that are let pass among so many clips: one, or 1 %."""
    return max(1, int(MAX_FLIP_SHARE * num))


@dataclass(frozen=True)
class Gate:
    """A limit on a measured figure."""

    metric: str
    """What is measured, in words."""
    direction: Direction
    limit: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a value keeps the limit; NaN never does."""
        # Each comparison says what must hold: against NaN all of them are false.
        if self.direction == "<":
            return value < self.limit
        if self.direction == "<=":
            return value <= self.limit
        return value >= self.limit

    def judge(self, value: float | None, *, note: str = "") -> GateResult:
        """Judges a measured value.

        Args:
            value: None where there is nothing to judge by; NaN is a failed measurement, and fails.
            note: What the value rests on, or why there is none.
        Returns:
            The gate with value and verdict.
        """
        if value is None:
            return GateResult(self, None, "not judged", note)
        return GateResult(self, float(value), "pass" if self.holds(float(value)) else "fail", note)


@dataclass(frozen=True)
class GateResult:
    """A gate with the value it was judged by, and the verdict."""

    gate: Gate
    value: float | None
    verdict: Verdict
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The gate, the value and the verdict as one JSON object, NaN as None."""
        return {
            "metric": self.gate.metric,
            "direction": self.gate.direction,
            "limit": self.gate.limit,
            "unit": self.gate.unit,
            "value": finite_or_none(self.value),
            "verdict": self.verdict,
            "note": self.note,
        }


def exit_code(results: Sequence[GateResult], *, allow_unjudged: bool = False) -> int:
    """0 where all gates passed; 1 where one failed; 3 where one could not be judged, unless that is allowed.

    No gates at all count as one that could not be judged.
    """
    if any(result.verdict == "fail" for result in results):
        return EXIT_FAILED
    unjudged = not results or any(result.verdict == "not judged" for result in results)
    return EXIT_UNJUDGED if unjudged and not allow_unjudged else EXIT_PASSED
