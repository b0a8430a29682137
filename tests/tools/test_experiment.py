"""`make experiment` goes on where it was stopped, and stops where a step fails."""

from __future__ import annotations

import json
from pathlib import Path

from tools.experiment import LOG_FILE, STEPS_FILE, make_steps, run_steps


def test_every_form_of_the_data_is_audited_and_has_its_baselines() -> None:
    steps = make_steps(Path("a"), Path("b"), Path("out"), config=None)
    assert list(steps) == ["audit, raw", "baseline, raw", "audit, equalised", "baseline, equalised"]
    assert steps["baseline, equalised"][-3:] == ["b", "--leave-out", "method"]
    whole = make_steps(Path("a"), Path("b"), Path("out"), config=Path("c.yaml"))
    assert list(whole)[4:] == ["networks, raw", "networks, equalised"]
    assert whole["networks, equalised"][-2:] == ["--jobs", "2"]


def test_steps_that_ended_well_are_not_repeated(tmp_path: Path) -> None:
    counted = tmp_path / "count.txt"
    count = f"open({str(counted)!r}, 'a').write('x')"
    steps = {"one": ["-c", count], "two": ["-c", "print('two fails'); raise SystemExit(3)"], "three": ["-c", count]}
    assert run_steps(steps, tmp_path) == 3
    assert "two fails" in (tmp_path / LOG_FILE).read_text("utf-8")
    assert list(json.loads((tmp_path / STEPS_FILE).read_text("utf-8"))) == ["one"]
    assert run_steps({**steps, "two": ["-c", ""]}, tmp_path) == 0
    assert counted.read_text("utf-8") == "xx"
    # A step whose command changed is another step.
    assert run_steps({"one": ["-c", f"{count}  # again"]}, tmp_path) == 0
    assert counted.read_text("utf-8") == "xxx"
