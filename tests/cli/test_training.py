"""train and distill as commands: flags become settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.config.flags import DistillFlags, TrainFlags
from dfkit.errors import DataError
from tests.cli.stand_ins import Recorder, run, stand_in


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return stand_in(monkeypatch, pipeline, "train")


@pytest.mark.parametrize(
    ("args", "flags"),
    [
        ([], TrainFlags()),
        (["--kfold"], TrainFlags(kfold=5)),
        (["--kfold", "--workers", "2"], TrainFlags(kfold=5, workers=2)),
        (["--kfold", "3"], TrainFlags(kfold=3)),
        (["--leave-out", "method"], TrainFlags(leave_out="method")),
        (["--class-weights", "1.5", "0.5", "--use-weighted-loss"], TrainFlags(None, None, False, True, (1.5, 0.5))),
        (["--modalities", "audio,motion", "--own-split"], TrainFlags(modalities="audio,motion", own_split=True)),
        (["--save-format", "original", "--use-weighted-sampler"], TrainFlags(None, None, True, save_format="original")),
    ],
)
def test_flags_of_train(called: Recorder, args: list[str], flags: TrainFlags) -> None:
    assert run("train", *args).exit_code == 0
    assert called.options["flags"] == flags


def test_a_run_is_gone_on_with_and_folds_are_spread(called: Recorder) -> None:
    done = run("train", "--resume", "runs/a", "--jobs", 2, "--executor", "ray", "--data", "data/x", "--json")
    assert json.loads(done.stdout) == {"value": 1}
    rest = {name: called.options[name] for name in ("resume", "num_processes", "executor", "data_dir", "config_path")}
    assert rest == {
        "resume": Path("runs/a"),
        "num_processes": 2,
        "executor": "ray",
        "data_dir": Path("data/x"),
        "config_path": None,
    }


def test_targets_of_distill(monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, pipeline, "distill")
    done = run("distill", "--teacher", "fold4.pth", "--target-mb", 1, "--target-ms", 15, "--points", 6, "--seeds", 3)
    assert (done.exit_code, done.stdout) == (0, "one line\n")
    assert called.options["teacher_path"] == Path("fold4.pth")
    assert called.options["flags"] == DistillFlags(target_mb=1.0, target_ms=15.0, points=6, seeds=3)
    assert called.options["resume"] is None
    run("distill", "--resume", "runs/a")
    assert called.options["resume"] == Path("runs/a")


@pytest.mark.parametrize("command", ["train", "distill"])
def test_what_cannot_be_used_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    stand_in(monkeypatch, pipeline, command, DataError("no data", fix="dfkit prepare VIDEOS"))
    done = run(command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("dfkit: no data") and "Fix: dfkit prepare VIDEOS" in done.stderr


def test_an_interrupt_ends_with_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, pipeline, "train", KeyboardInterrupt())
    assert run("train").exit_code == 130
