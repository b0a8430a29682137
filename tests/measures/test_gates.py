from __future__ import annotations

import math

import pytest

from dfkit.measures.gates import Gate, GateResult, exit_code


@pytest.mark.parametrize(
    ("direction", "value", "holds"),
    [
        ("<", 3.19, True),
        ("<", 3.2, False),
        ("<=", 3.2, True),
        ("<=", 3.21, False),
        (">=", 3.2, True),
        (">=", 3.19, False),
        ("<", math.nan, False),
        ("<=", math.nan, False),
        (">=", math.nan, False),
        ("<", math.inf, False),
        (">=", -math.inf, False),
    ],
)
def test_limits(direction: str, value: float, holds: bool) -> None:
    gate = Gate("size", direction, 3.2, "MB")  # type: ignore[arg-type]
    assert gate.holds(value) is holds
    result = gate.judge(value)
    assert result.verdict == ("pass" if holds else "fail")
    assert result.to_json()["value"] == (value if math.isfinite(value) else None)


def results(*verdicts: str) -> list[GateResult]:
    return [GateResult(Gate("m", "<", 1), None, verdict) for verdict in verdicts]  # type: ignore[arg-type]


def test_exit_codes() -> None:
    assert exit_code(results("pass", "pass")) == 0
    assert exit_code(results("pass", "fail", "not judged")) == 1
    assert exit_code(results("pass", "not judged")) == 3
    assert exit_code(results("pass", "not judged"), allow_unjudged=True) == 0
    assert exit_code(results("fail", "not judged"), allow_unjudged=True) == 1
    # Nothing judged is not everything passed.
    assert exit_code([]) == 3


def test_no_value_is_not_judged() -> None:
    result = Gate("auc", ">=", 0.99).judge(None, note="12 videos")
    assert (result.verdict, result.value, result.note) == ("not judged", None, "12 videos")
