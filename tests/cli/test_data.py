"""prepare, audit, baseline and forge as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import forge as forge_package
from dfkit import pipeline
from dfkit.errors import DataError
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
        "--unlabelled",
        "--min-coverage",
        0.7,
    )
    assert (done.exit_code, done.stdout) == (0, "one line\n")
    videos, workspace = called.args
    assert (videos, workspace.data) == ([Path("a"), Path("b")], Path("there") / "data")
    assert called.options["timeout_s"] is None
    run("prepare", "a", "--timeout-s", 7)
    assert called.options.pop("timeout_s") == 7.0
    named = ("--labels", "l.csv", "--preset", "uniform50", "--workers", 3, "--faces", "int8", "--min-coverage", 0.7)
    run("prepare", "a", "b", *named, "--unlabelled")
    expected_names = ["labels", "preset", "faces", "num_workers", "layout", "executor", "unlabelled", "min_coverage"]
    chosen = {name: called.options[name] for name in expected_names}
    assert chosen == {
        "labels": Path("l.csv"),
        "preset": "uniform50",
        "faces": "int8",
        "num_workers": 3,
        "layout": "auto",
        "executor": "local",
        "unlabelled": True,
        "min_coverage": 0.7,
    }


@pytest.mark.parametrize("command", ["audit", "baseline"])
def test_folds_and_seed_reach_the_measurement(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    called = stand_in(monkeypatch, pipeline, command)
    done = run(command, "data/x", "--folds", 3, "--seed", 4, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"value": 1})
    names = {"of": []} if command == "baseline" else {}
    expected = {"config_path": None, "data_dir": Path("data/x"), "folds": 3, "leave_out": None, "seed": 4, **names}
    assert called.options == expected
    run(command, "data/x", "--leave-out", "source")
    assert called.options["leave_out"] == "source"
    run(command, "--config", "mine.yaml")
    left = {"data_dir": None, "folds": None, "leave_out": None, "seed": None}
    assert called.options == {"config_path": Path("mine.yaml"), **left, **names}
    if command == "baseline":
        run(command, "--of", "sync", "--of", "facts")
        assert called.options["of"] == ["sync", "facts"]
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


def test_too_few_of_the_named_files_and_none_with_label(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    (tmp_path / "l.csv").write_text("path,label\na.mp4,real\nb.mp4,fake\nc.mp4,fake\n")
    done = run("prepare", tmp_path, "--labels", tmp_path / "l.csv", "-w", tmp_path)
    assert done.exit_code == 2 and "2 of 3 files" in done.stderr and "Fix:" in done.stderr
    done = run("prepare", tmp_path / "*.mp4", "-w", tmp_path)
    assert done.exit_code == 2 and "1 video without label" in done.stderr and "--unlabelled" in done.stderr
    done = run("prepare", tmp_path / "*.mp4", "-w", tmp_path, "--unlabelled")
    assert done.exit_code == 2 and "no video gave a clip" in done.stderr
    # Named after the pattern's folder: a pattern is no name of one.
    assert (tmp_path / "data" / tmp_path.name).is_dir()
    done = run("prepare", tmp_path / "*.mkv", "-w", tmp_path)
    assert done.exit_code == 2 and "no file matches the pattern" in done.stderr


def test_forge_writes_into_its_workspace(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wrote beside the data, wherever these lay."""
    called = stand_in(monkeypatch, forge_package, "forge", DataError("far enough"))
    there = tmp_path / "there"
    assert run("forge", "--data", data, "-w", there).exit_code == 2
    assert called.args[1] == there / "data" / "x-forged-videos"
    assert run("forge", "--data", data, "-w", there, "--out", tmp_path / "own").exit_code == 2
    assert called.args[1] == tmp_path / "own-videos"
    assert run("forge", "-w", data.parents[1]).exit_code == 2
    assert called.args[1] == data.parent / "x-forged-videos", "beside the data where these lie in the workspace"


def test_forgeries_from_other_videos_are_left_alone(tmp_path: Path) -> None:
    workspace = pipeline.Workspace(tmp_path)
    for name, source in (("x-forged", "a.mp4"), ("x-forged-2", "b.mp4")):
        folder = tmp_path / "data" / f"{name}-videos"
        folder.mkdir(parents=True)
        (tmp_path / "data" / name).mkdir()
        (folder / "forged.jsonl").write_text(json.dumps({"source": source}) + "\n", encoding="utf-8")
    chosen = {s: pipeline.forged_folder(workspace, Path("else/x"), {s}).name for s in ("a.mp4", "b.mp4", "c")}
    assert chosen == {"a.mp4": "x-forged", "b.mp4": "x-forged-2", "c": "x-forged-3"}
