"""Damaged and odd inputs, seeded: each is answered by the contract; none crashes, hangs or eats memory."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from tools.fuzz.__main__ import list_cases, main
from tools.fuzz.cases import KINDS, ROUND, Case
from tools.fuzz.material import Material
from tools.fuzz.planted import PLANTED
from tools.fuzz.pool import run_cases
from tools.fuzz.report import Report

pytest.importorskip("skimage")
KNOWN = Path(__file__).with_name("cases.txt")
ROUNDS, ROUNDS_LONG = 3, 40
HANGS_S = 300.0
"""Only ends a test that would wait for ever; no case comes near it."""
STATUSES = {"unreadable", "no_audio", "too_short", "no_face"}
REFUSALS = {"bundle": "BundleError", "manifest": "BundleError", "checkpoint": "CheckpointError", "yaml": "ConfigError",
            "csv": "DataError"}  # fmt: skip


def known_cases() -> list[Case]:
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return [Case.parse(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(ROUNDS_LONG, marks=pytest.mark.long)])
def test_no_case_fails(material: Material, rounds: int) -> None:
    num_cases, report = rounds * len(ROUND), Report()
    for answer in run_cases(islice(list_cases(0, ROUND), num_cases), material, hangs_s=HANGS_S):
        report.take(answer)
    print("\n".join(report.summary()))
    assert report.failures == []
    assert report.num_cases == num_cases
    outcomes: dict[str, set[str]] = {}
    for kind, outcome in report.counts:
        outcomes.setdefault(kind, set()).add(outcome)
    # Damage that is always refused would prove as little as damage that nobody notices.
    assert set().union(*outcomes.values()) >= STATUSES
    assert any(outcome.startswith("ok") for kind in ("mp4", "ts", "mkv", "made") for outcome in outcomes[kind])
    for kind, refusal in REFUSALS.items():
        assert refusal in outcomes[kind]
    assert "scored" in outcomes["stream"]


def test_cases_that_failed_once(material: Material) -> None:
    cases = known_cases()
    assert len(set(cases)) == len(cases) > 10
    answers = list(run_cases(iter(cases), material, hangs_s=HANGS_S))
    assert [answer for answer in answers if answer.faults] == []
    assert [answer.case for answer in answers] == cases


def test_every_planted_failure_is_seen(material: Material) -> None:
    cases = [Case("planted", seed) for seed in (*range(len(PLANTED)), 0)]
    answers = list(run_cases(iter(cases), material, hangs_s=6.0, max_memory_mb=1500.0))
    assert [answer.case for answer in answers] == cases
    assert [answer.outcome for answer in answers] == [
        *("nothing planted in case", "crash", "hang", "memory", "exception", "exception", "ConfigError"),
        *("raw text", "breach", "nothing planted in case"),
    ]
    assert [bool(answer.faults) for answer in answers] == [False, *[True] * (len(PLANTED) - 1), False]
    assert "SIGSEGV" in answers[1].faults[0] and "in _crash" in answers[1].faults[0]
    assert "MemoryError" in answers[4].faults[0]


def test_a_seed_gives_the_same_case_and_the_report_says_how_to_run_it_again(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = ["--keep", str(material.folder), "--out", str(tmp_path / "reports" / "fuzz.json")]
    assert main([*keep, "--case", "yaml:3", "--case", "planted:8", "--case", "yaml:3"]) == 1
    said = capsys.readouterr().out
    assert "2 failures" not in said and "FAILED planted:8 (breach): planted breach of the contract" in said
    told = json.loads((tmp_path / "reports" / "fuzz.json").read_text())
    assert told["failures"] == [
        {"case": "planted:8", "outcome": "breach", "faults": ["planted breach of the contract"]}
    ]
    assert told["num_cases"] == 3 and sum(told["counts"]["yaml"].values()) == 2 and len(told["counts"]["yaml"]) == 1
    assert main([*keep, "--kinds", "yaml,csv", "--num", "4"]) == 0


def test_every_kind_has_its_turn_with_seeds_of_its_own() -> None:
    cases = list(islice(list_cases(100, ROUND), 3 * len(ROUND)))
    assert set(ROUND) == set(KINDS) - {"shared"}
    for kind, count in Counter(ROUND).items():
        assert [case.seed for case in cases if case.kind == kind] == list(range(100, 100 + 3 * count))
    with pytest.raises(ValueError, match="no kind 'mp5'"):
        Case.parse("mp5:1")
