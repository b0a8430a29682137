"""The starter in the package: whom it knows, how large it is, and that it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.demo.grid import grid_clips
from dfkit.models.checkpoint import load_checkpoint
from dfkit.runtime.detector import Detector
from dfkit.runtime.predict import PredictOptions
from dfkit.starter import starter_bundle, starter_teacher
from dfkit.workspace import Workspace
from tests.cli.stand_ins import run

BESIDE = ("golden", "face_models")
"""Folders of the bundle that are not counted: the face models are those of the package."""


def test_it_is_small() -> None:
    files = [path for path in starter_bundle().rglob("*") if path.is_file()]
    own = [path for path in files if path.relative_to(starter_bundle()).parts[0] not in BESIDE]
    assert sum(path.stat().st_size for path in own) <= 1_200_000
    assert starter_teacher().stat().st_size <= 7_000_000


def test_two_speakers_are_in_none_of_it() -> None:
    splits = load_checkpoint(starter_teacher()).facts["splits"]
    known = {name for part in splits.values() for name in (*part["groups"], *part["group_ids"])}
    parts = {part: {clip.group for clip in grid_clips() if clip.part == part} for part in ("train", "val", "test")}
    assert parts["train"] <= known and len(parts["test"]) == 2 and not parts["test"] & known
    assert parts["val"] <= {*splits["val"]["group_ids"]} and not parts["val"] & {*splits["train"]["group_ids"]}


def test_it_answers_where_the_workspace_holds_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = starter_bundle() / "golden" / "video.mp4"
    (answer,) = pipeline.predict(Workspace(tmp_path), [video], PredictOptions())
    assert answer.result is not None and answer.result.status == "ok"
    said = capsys.readouterr().err
    assert "starter model" in said and "Tested on 104 public videos" in said
    assert Workspace(tmp_path).bundle(Path("starter")) == starter_bundle()
    expected = Detector(starter_bundle()).detect(video)
    assert answer.result.p_fake == expected.p_fake


def test_its_golden_vectors_are_replayed() -> None:
    done = run("verify", "starter", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["passed"] is True
