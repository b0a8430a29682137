"""prepare, audit, baseline and forge as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from tests.cli.stand_ins import run, stand_in
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_prepared(tmp_path / "data" / "x", [make_row(n, n % 2, [f"g{n}"]) for n in range(2)], spec=SPEC)


def test_prepared_data_is_verified(data: Path) -> None:
    done = run("prepare", data, "--verify", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["num_clips"] == 2
    chunk = sorted(data.glob("chunk-*"))[0]
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    done = run("prepare", data, "--verify")
    assert (done.exit_code, done.stdout) == (2, "")
    assert chunk.name in done.stderr and "Fix:" in done.stderr


def test_prepare_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, pipeline, "prepare")
    done = run(
        "prepare",
        "a",
        "b",
        "--labels",
        "l.csv",
        "--preset",
        "uniform50",
        "--workers",
        3,
        "-w",
        "there",
        "--faces",
        "int8",
    )
    assert (done.exit_code, done.stdout) == (0, "one line\n")
    videos, workspace = called.args
    assert (videos, workspace.data) == ([Path("a"), Path("b")], Path("there") / "data")
    chosen = {name: called.options[name] for name in ("labels", "preset", "faces", "num_workers", "layout", "executor")}
    assert chosen == {
        "labels": Path("l.csv"),
        "preset": "uniform50",
        "faces": "int8",
        "num_workers": 3,
        "layout": "auto",
        "executor": "local",
    }


@pytest.mark.parametrize("command", ["audit", "baseline"])
def test_folds_and_seed_reach_the_measurement(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    called = stand_in(monkeypatch, pipeline, command)
    done = run(command, "data/x", "--folds", 3, "--seed", 4, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"value": 1})
    assert called.options == {"data_dir": Path("data/x"), "folds": 3, "seed": 4}
    assert run(command, "--folds", 1).exit_code == 2


def test_audit_of_the_newest_data_names_it_and_says_what_is_missing(data: Path) -> None:
    done = run("audit", "-w", data.parents[1])
    # Two videos cannot be cut into five folds.
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"auditing {data}" in done.stderr and "Fix:" in done.stderr


def test_forge_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, pipeline, "forge")
    assert run("forge", "--data", "data/x", "--out", "new", "--workers", 2, "-c", "own.yaml").exit_code == 0
    assert called.options == {
        "config_path": Path("own.yaml"),
        "data_dir": Path("data/x"),
        "out_dir": Path("new"),
        "num_workers": 2,
    }
