"""The original's NPZ data all the way: train, distil, export; the lips are as large in the bundle as in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfkit import pipeline
from dfkit.config.flags import TrainFlags
from dfkit.errors import DataError
from dfkit.models.checkpoint import load_checkpoint
from dfkit.runtime.replay import replay_bundle
from dfkit.workspace import Workspace

TINY = {"face_channels": [16, 16, 16], "lip_channels": [16, 16, 16], "gru_hidden": 16}
CUT = {"face_channels": [8, 8, 8], "lip_channels": [8, 8, 8], "gru_hidden": 8}


def write_config(folder: Path, split: dict[str, Any]) -> Path:
    section = {"epochs": 1, "num_threads": 1}
    content = {
        "name": "npz",
        "split": split,
        "train": {**section, "widths": TINY, "face_trunk": "mmms_ba"},
        "distill": {**section, "widths": CUT},
        "export": {"parity_clips": 2, "calibration_clips": 2},
    }
    path = folder / "npz.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_sample_is_trained_and_distilled(shared: Path, tmp_path: Path) -> None:
    workspace, config = Workspace(tmp_path), write_config(tmp_path, {})
    teacher = pipeline.train(workspace, config_path=config, data_dir=shared / "teacher" / "npz-sample")
    assert Path(teacher.data_dir) == tmp_path / "data" / "npz-sample"
    assert teacher.metrics["test"]["videos"] == teacher.metrics["val"]["videos"] == 2
    content = json.loads((Path(teacher.run_dir) / "test_results.json").read_text(encoding="utf-8"))
    assert sorted(content["labels"]) == [0, 1] and len(content["probabilities"]) == 2
    student = pipeline.distill(workspace, config_path=config)
    loaded = load_checkpoint(student.checkpoint)
    assert (loaded.kind, loaded.clip_spec.preset, loaded.clip_spec.picture.lip_px) == ("student", "uniform50", 96)


@pytest.mark.long
@pytest.mark.pipeline
def test_lips_of_112_reach_the_bundle(shared: Path, tmp_path: Path) -> None:
    """Two persons, and val and test are the same files: only without a test part, and only when that is asked for."""
    workspace, source = Workspace(tmp_path), shared / "teacher" / "npz-sample-lip112"
    with pytest.raises(DataError, match="the given split leaks"):
        pipeline.train(workspace, config_path=write_config(tmp_path, {}), data_dir=source)
    with pytest.raises(DataError, match="too few groups for a val part"):
        pipeline.train(workspace, config_path=tmp_path / "npz.yaml", data_dir=source, flags=TrainFlags(own_split=True))
    assert not workspace.runs.exists()
    config = write_config(tmp_path, {"use_given": False, "test_share": 0})
    teacher = pipeline.train(workspace, config_path=config, data_dir=source)
    assert "test: no such part in the split, so nothing is reported on it" in teacher.summary()
    assert not (Path(teacher.run_dir) / "test_results.json").exists()
    pipeline.distill(workspace, config_path=config)
    exported = pipeline.export(workspace, config_path=config, recipe="mixed_int8")
    manifest = json.loads((Path(exported.bundle) / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["clip_spec"]["preset"], manifest["clip_spec"]["picture"]["lip_px"]) == ("uniform50", 112)
    assert any("uniform50" in warning for warning in manifest["warnings"])
    assert replay_bundle(Path(exported.bundle)).passed
