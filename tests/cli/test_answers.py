"""evaluate, predict, visualize and demo as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.demo import run as demo_run
from dfkit.errors import DataError
from tests.cli.stand_ins import Answer, run, stand_in
from tests.runtime.fixtures import tiny_folder

__all__ = ["tiny_folder"]


def test_options_of_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, pipeline, "evaluate")
    args = ("--checkpoint", "a.pth", "--checkpoint", "b.pth", "--split", "all", "--mc-dropout", 20, "--tta")
    done = run("evaluate", *args, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"value": 1})
    assert called.options == {
        "checkpoints": [Path("a.pth"), Path("b.pth")],
        "bundle": None,
        "backend": None,
        "weights": None,
        "data_dir": None,
        "split": "all",
        "mc_dropout": 20,
        "tta": True,
        "output": None,
        "run": None,
        "columns": [],
    }
    run("evaluate", "--run", "runs/a", "--by", "language", "--by", "method")
    assert (called.options["run"], called.options["columns"]) == (Path("runs/a"), ["language", "method"])
    assert run("evaluate").exit_code == 0 and called.options["checkpoints"] == []
    assert run("evaluate", "--split", "dev").exit_code == 2


def test_files_that_are_no_videos_have_a_result_and_a_code(tiny_folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        path.write_text("no video")
    done = run("predict", *paths, "--bundle", tiny_folder, "--json", "--csv", tmp_path / "out.csv")
    assert done.exit_code == 2, "not one of them could be read"
    found = json.loads(done.stdout)
    assert [(Path(each["video"]).name, each["status"], each["p_fake"]) for each in found] == [
        ("a.mp4", "unreadable", None),
        ("b.mp4", "unreadable", None),
    ]
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 3
    done = run("predict", paths[0], "--bundle", tiny_folder)
    assert done.exit_code == 2 and "a.mp4: unreadable" in done.stdout


def test_the_same_command_goes_on_with_its_files(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("no video")
    table, lines = tmp_path / "o.csv", tmp_path / "o.jsonl"
    args = ("predict", tmp_path, "--bundle", tiny_folder, "--csv", table, "--jsonl", lines, "--json")
    done = run(*args, "--workers", 2)
    found = json.loads(done.stdout)
    assert [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] == found and len(found) == 2
    before = table.read_bytes(), lines.read_bytes()
    assert json.loads(run(*args).stdout) == found and (table.read_bytes(), lines.read_bytes()) == before
    (tmp_path / "own.csv").write_text("path,label\n")
    done = run("predict", tmp_path, "--bundle", tiny_folder, "--csv", tmp_path / "own.csv", "--json")
    assert (done.exit_code, done.stdout) == (2, "") and "--csv" in done.stderr and "--overwrite" in done.stderr
    done = run("predict", tmp_path, "--bundle", tiny_folder, "--csv", tmp_path / "own.csv", "--overwrite")
    assert done.exit_code == 2 and table.read_bytes() == (tmp_path / "own.csv").read_bytes(), "all are unreadable"


def test_places_are_checked_before_a_model_is_looked_for(tmp_path: Path) -> None:
    done = run("predict", "a.mp4", "--csv", tmp_path, "-w", tmp_path)
    assert done.exit_code == 2 and f"{tmp_path} cannot be written: it is a folder" in done.stderr
    done = run("predict", "a.mp4", "--plot", tmp_path / "o.bmp", "-w", tmp_path)
    assert done.exit_code == 2 and "no figure file" in done.stderr and "dfkit export" not in done.stderr


def test_a_checkpoint_takes_no_bundle(tmp_path: Path) -> None:
    done = run("predict", "a.mp4", "--bundle", "x", "--checkpoint", "y.pth")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "neither --bundle nor --backend" in done.stderr


@pytest.mark.parametrize("command", ["predict", "visualize", "evaluate"])
def test_weights_choose_in_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str) -> None:
    rest = {"predict": ["a.mp4"], "visualize": ["a.mp4", "--out", tmp_path / "out"], "evaluate": []}[command]
    done = run(command, *rest, "--bundle", "x", "--weights", "ema")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--weights ema chooses in a checkpoint" in done.stderr
    assert run(command, *rest, "--checkpoint", "y.pth", "--weights", "mean").exit_code == 2
    called = stand_in(monkeypatch, pipeline, "evaluate" if command == "evaluate" else "detector", DataError("stop"))
    run(command, *rest, "--checkpoint", "y.pth", "--weights", "ema")
    assert called.options["weights"] == "ema"


def test_options_of_visualize(monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, pipeline, "visualize")
    done = run("visualize", "videos", "more.mp4", "--out", "pictures", "--backend", "onnx", "--threads", 2)
    assert (done.exit_code, done.stdout) == (0, "one line\n")
    assert called.args[1:] == ([Path("videos"), Path("more.mp4")], Path("pictures"))
    assert (called.options["backend"], called.options["num_threads"]) == ("onnx", 2)
    assert run("visualize", "videos").exit_code == 2, "a folder for the pictures is asked for"


def test_demo_ends_with_the_code_of_its_gates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = stand_in(monkeypatch, demo_run, "run_demo", Answer(3))
    done = run("demo", "--videos", "synthetic", "-w", tmp_path, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (3, {"value": 1})
    assert (called.args, called.options) == (("synthetic", tmp_path), {"config_path": None})
