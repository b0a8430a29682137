"""evaluate, predict, visualize and demo as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.demo import run as demo_run
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
        "data_dir": None,
        "split": "all",
        "mc_dropout": 20,
        "tta": True,
        "output": None,
    }
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


def test_a_checkpoint_takes_no_bundle(tmp_path: Path) -> None:
    done = run("predict", "a.mp4", "--bundle", "x", "--checkpoint", "y.pth")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "neither --bundle nor --backend" in done.stderr


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
