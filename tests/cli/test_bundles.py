"""export, verify, inspect and bench as commands; verify and inspect on a real bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dfkit import pipeline
from tests.cli.stand_ins import Answer, run, stand_in
from tests.runtime.fixtures import tiny_folder
from tests.runtime.test_replay import edit_array, golden

__all__ = ["golden", "tiny_folder"]


@pytest.mark.parametrize(
    ("args", "recipe", "int8"),
    [
        ([], None, False),
        (["--int8"], None, True),
        (["--recipe", "fp16"], "fp16", False),
        (["--int8", "--recipe", "dynamic_int8"], "dynamic_int8", True),
    ],
)
def test_the_recipe_of_export(monkeypatch: pytest.MonkeyPatch, args: list[str], recipe: str | None, int8: bool) -> None:
    called = stand_in(monkeypatch, pipeline, "export")
    assert run("export", *args).exit_code == 0
    assert (called.options["recipe"], called.options["int8"], called.options["formats"]) == (recipe, int8, "tflite")


@pytest.mark.parametrize(("args", "chosen"), [([], None), (["--int8-faces"], True), (["--float16-faces"], False)])
def test_face_models_of_export(monkeypatch: pytest.MonkeyPatch, args: list[str], chosen: bool | None) -> None:
    called = stand_in(monkeypatch, pipeline, "export")
    assert run("export", *args, "--reference", "--debug-parity").exit_code == 0
    assert called.options["int8_faces"] is chosen
    assert called.options["straight"] and called.options["debug_parity"]


def test_a_bundle_is_replayed(golden: Path) -> None:
    done = run("verify", golden, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["passed"] is True
    # Right hashes, but another answer than the golden one: that is no bad call but a failed check.
    edit_array(golden, "shipped_score_0_onnx_clip_logits", lambda array: np.add(array, 1, out=array))
    done = run("verify", golden)
    assert done.exit_code == 1
    assert "clip_logits" in done.stdout and done.stderr == ""


def test_a_bundle_and_a_model_are_inspected(tiny_folder: Path) -> None:
    done = run("inspect", tiny_folder)
    assert done.exit_code == 0 and "encode" in done.stdout
    model = tiny_folder / "model.tflite"
    done = run("inspect", model, "--json")
    assert done.exit_code == 0
    assert str(model.stat().st_size) in done.stdout
    assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_bench_ends_with_the_code_of_its_gates(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    called = stand_in(monkeypatch, pipeline, "bench", Answer(code))
    done = run("bench", "exports/a", "--video", "x.mp4", "--video", "y.mp4", "--repeats", 3, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (code, {"value": 1})
    assert called.options["videos"] == [Path("x.mp4"), Path("y.mp4")]
    assert (called.options["repeats"], called.options["allow_unjudged"]) == (3, False)


def test_bench_takes_what_phones_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, pipeline, "bench", Answer())
    words = ("--adb", "--serial", "R5", "--minutes", 2, "--import", "a.json", "--import", "b.json")
    assert run("bench", "exports/a", *words).exit_code == 0
    assert called.options["imports"] == [Path("a.json"), Path("b.json")]
    assert (called.options["adb"], called.options["serial"], called.options["minutes"]) == (True, "R5", 2)


def test_bench_of_a_phone_that_is_not_asked_is_refused(tiny_folder: Path) -> None:
    done = run("bench", tiny_folder, "--serial", "R5")
    assert done.exit_code == 2 and "add --adb" in done.stderr


@pytest.mark.parametrize("command", ["verify", "inspect", "bench"])
def test_without_a_bundle_the_step_before_is_named(command: str, tmp_path: Path) -> None:
    done = run(command, "-w", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "dfkit export" in done.stderr
