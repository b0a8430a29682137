"""The measurement of single parts: judged by hand-made figures, and made once with a clock that counts."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dfkit.measures.environment import Environment, read_environment
from tools.speed import component_speed
from tools.speed.component_speed import MIN_HEAD_REAL_TIME, PartTime, judge, main

IDLE = dataclasses.replace(read_environment(), load=0.1)
BUSY = dataclasses.replace(IDLE, load=3.0)


@pytest.mark.parametrize(
    ("environment", "cpu_s", "verdict"),
    [
        (IDLE, 2.0, "pass"),  # 2 s of video in 2 s: just as long as it lasts
        (IDLE, 2.01, "fail"),
        (BUSY, 2.01, "not judged"),
        (BUSY, 1.9, "pass"),
    ],
)
def test_a_head_may_take_as_long_as_it_lasts(environment: Environment, cpu_s: float, verdict: str) -> None:
    (result,) = judge([PartTime("head", 2.0, cpu_s, MIN_HEAD_REAL_TIME, "x real time")], environment)
    assert result.verdict == verdict


def test_the_median_of_what_follows_the_warm_up_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Looks at the clock come in pairs: 1, 0.5 and 8 s pass between them for the head, 2, 9 and 4 s for the stream. The
    # warm-ups are not timed.
    clock = itertools.accumulate([0, 1, 0, 0.5, 0, 8, 0, 2, 0, 9, 0, 4])
    monkeypatch.setattr(component_speed, "time", SimpleNamespace(process_time=lambda: next(clock)))
    made: list[Path] = []
    monkeypatch.setattr(component_speed, "_make_head", made.append)
    monkeypatch.setattr(component_speed, "STREAM_S", 100.0)
    monkeypatch.setattr(component_speed, "read_environment", lambda: IDLE)
    assert main(["--repeats", "3", "--out", str(tmp_path / "new" / "speed.json")]) == 1
    content = json.loads((tmp_path / "new" / "speed.json").read_text(encoding="utf-8"))
    assert len(made) == 1 + 3
    assert [part["cpu_s"] for part in content["parts"]] == [1.0, 4.0]
    assert [gate["value"] for gate in content["gates"]] == [2.0, 25.0]
    assert [gate["verdict"] for gate in content["gates"]] == ["pass", "fail"]
    shown = capsys.readouterr().out
    assert "making a synthetic head" in shown and "an hour without a face" in shown
