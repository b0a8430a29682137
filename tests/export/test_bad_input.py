"""What export cannot use: exit code 2, one message, and no bundle."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dfkit import pipeline
from dfkit.clip import ClipSpec
from dfkit.console import guarded
from dfkit.data.storage import PreparedData
from dfkit.errors import ConversionError, DataError
from dfkit.export import export as export_module
from dfkit.export import tflite
from dfkit.export.ranges import calibration_set, choose_clips, refuse_leaks
from dfkit.export.stages import Graph, convert_all
from dfkit.files import TEMPORARY_PREFIX
from dfkit.models.checkpoint import load_checkpoint
from dfkit.runtime.golden_index import GOLDEN_FILE, GoldenIndex
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row
from tests.export import tiny


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_data(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def checkpoint(data_dir: Path) -> Path:
    return tiny.tiny_checkpoint(data_dir.with_name("student") / "best.pth", data_dir)


@pytest.fixture(scope="module")
def stages(checkpoint: Path) -> dict[str, Graph]:
    return convert_all(load_checkpoint(checkpoint), ("tflite",), "fp32", [])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "tiny.yaml").write_text("name: tiny\nexport: {calibration_clips: 4, parity_clips: 2}\n")
    return Workspace(tmp_path)


def export(workspace: Workspace, checkpoint: Path, **options: Any) -> int:
    config = workspace.root / "tiny.yaml"
    options = {"recipe": "mixed_int8", **options}
    return guarded(lambda: pipeline.export(workspace, config_path=config, checkpoint=checkpoint, **options) and None)


def refused(capsys: pytest.CaptureFixture[str], workspace: Workspace) -> str:
    """What was said on stderr, after making sure that nothing was exported."""
    assert not list(workspace.exports.glob("*")) if workspace.exports.exists() else True
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        {"attention": "transformer"},
        {"modalities": ["audio", "smell"]},
        {"backbone": "vit"},
    ],
)
def test_unknown_architecture(
    checkpoint: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], content: dict[str, Any]
) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    stored["network"] |= content
    torch.save(stored, workspace.root / "other.pth")
    assert export(workspace, workspace.root / "other.pth") == 2
    assert next(iter(content)) in refused(capsys, workspace)


def test_weights_of_another_network(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model_state_dict": nn.Linear(2, 2).state_dict()}, workspace.root / "other.pth")
    assert export(workspace, workspace.root / "other.pth") == 2
    assert "other.pth" in refused(capsys, workspace)


def test_checkpoint_without_facts(data_dir: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.tiny_checkpoint(workspace.root / "bare.pth", data_dir, operating_point=None)
    assert export(workspace, path) == 2
    assert "does not say its operating_point" in refused(capsys, workspace)


def test_foreign_number_of_pictures(checkpoint: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ClipSpec(num_frames=8, picture=tiny.SPEC.picture)
    make_prepared(workspace.root / "other", [make_row(n, n, (f"p{n}",)) for n in (0, 1)], spec=spec)
    assert export(workspace, checkpoint, data_dir=workspace.root / "other") == 2
    assert "num_frames 8, expected 6" in refused(capsys, workspace)


def rows_of(labels: tuple[int, ...], people: str) -> list[Any]:
    return [make_row(100 + n, label, (f"{people}{n}",)) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "clips", "message"),
    [((0, 1), 0, "calibration set is empty"), ((1, 1), 1, "one class only, no real clip")],
)
def test_calibration_data_without_a_class(
    checkpoint: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    labels: tuple[int, ...],
    clips: int,
    message: str,
) -> None:
    other = make_prepared(workspace.root / "other", rows_of(labels, "guest"), clips=clips, spec=tiny.SPEC)
    assert export(workspace, checkpoint, calibration_dir=other) == 2
    assert message in refused(capsys, workspace)


def test_validation_clips_calibrate_nothing(
    checkpoint: Path, data_dir: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    # The whole data set, validation and test with it.
    assert export(workspace, checkpoint, calibration_dir=data_dir) == 2
    assert "share a person, a source or a file with validation or test" in refused(capsys, workspace)
    # Other files of a person who is in the test part: person3.
    rows = [make_row(100 + label, label, ("person3",)) for label in (0, 1)]
    other = make_prepared(workspace.root / "other", rows, spec=tiny.SPEC)
    assert export(workspace, checkpoint, calibration_dir=other) == 2
    assert "2 of 2 calibration videos" in refused(capsys, workspace)


def test_what_calibrates_is_named_and_stands_in_training(data_dir: Path) -> None:
    data = PreparedData(data_dir)
    by_split = {part: [k.index for k in data.clips if k.split == part] for part in ("train", "val", "test")}
    found = calibration_set(tiny.tiny_network(), data, by_split, 4, with_features=True)
    assert found.facts["num_clips"] == len(found.clips) == 4
    assert found.facts["num_fake"] == 2
    assert found.facts["groups"] == ["person0", "person1"]
    assert found.facts["clips"] == ["0.mp4@0.00", "1.mp4@0.00", "2.mp4@0.00", "3.mp4@0.00"]
    assert found.clips[0]["face"].shape == (1, 64, 64, 3)
    assert found.clips[0]["face_features"].shape == (6, 16)
    with pytest.raises(DataError, match="empty"):
        choose_clips(data, [], 4)
    with pytest.raises(DataError, match="1 of 2 calibration videos"):
        refuse_leaks(data, [by_split["train"][0], by_split["val"][0]], data, by_split["val"])


@pytest.mark.parametrize(
    ("module", "formats"), [("litert_torch", "tflite"), ("ai_edge_quantizer", "tflite"), ("onnx", "onnx")]
)
def test_missing_extra_names_its_command(
    checkpoint: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stages: dict[str, Graph],
    module: str,
    formats: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module == "ai_edge_quantizer":  # of which litert-torch itself needs parts
        monkeypatch.setattr(tflite, "convert", lambda *_: stages["tflite fp32"].files[tflite.MODEL_FILE])
    assert export(workspace, checkpoint, formats=formats) == 2
    assert 'pip install "dfkit[export]"' in refused(capsys, workspace)


class Unconvertible(nn.Module):
    """Complex tensors do not lower to TFLite."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.fft.rfft(inputs[0]).real


def test_converter_that_fails_leaves_its_log(
    checkpoint: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite, "ScoreGates", lambda *_: Unconvertible())
    assert export(workspace, checkpoint) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("exporting")]
    assert len(said) == 1 and said[0].startswith("dfkit: conversion to TFLite failed: "), said
    assert [path.name for path in workspace.exports.iterdir()] == ["tiny.log"]
    assert str(workspace.exports / "tiny.log") in said[0]
    assert "Traceback" in (workspace.exports / "tiny.log").read_text(encoding="utf-8")


def test_what_failed_without_a_converter_s_log_keeps_its_advice(
    checkpoint: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConversionError("no vectors have power", log="", fix="export with another recipe")

    monkeypatch.setattr(export_module, "convert_all", refuse)
    assert export(workspace, checkpoint) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no vectors have power; no bundle was written" in said and "export with another recipe" in said
    assert "what it said" not in said and not list(workspace.exports.glob("*.log"))


@pytest.mark.parametrize("part", ["write_text", "write_bytes", "mkdir"])
def test_disk_that_fills_leaves_nothing(
    checkpoint: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stages: dict[str, Graph],
    part: str,
) -> None:
    monkeypatch.setattr(export_module, "convert_all", lambda *_: stages)
    no_vectors = GoldenIndex(sets=()).model_dump_json().encode()
    monkeypatch.setattr(export_module, "golden_vectors", lambda *_, **__: ({GOLDEN_FILE: no_vectors}, []))
    monkeypatch.setattr(export_module, "shipped_limits", lambda _: {})
    monkeypatch.setattr(export_module, "video_files", lambda *_: {})
    workspace.exports.mkdir()
    original = getattr(Path, part)

    def full(path: Path, *args: Any, **options: Any) -> Any:
        # The reference gets its files; what overflows is the first of the kind in the exports.
        if workspace.exports in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *args, **options)

    monkeypatch.setattr(Path, part, full)
    assert export(workspace, checkpoint, recipe="fp32") == 2
    assert "No space left on device" in refused(capsys, workspace)


def test_disk_that_fills_after_the_reference(
    checkpoint: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stages: dict[str, Graph],
) -> None:
    monkeypatch.setattr(export_module, "convert_all", lambda *_: stages)
    no_vectors = GoldenIndex(sets=()).model_dump_json().encode()
    monkeypatch.setattr(export_module, "golden_vectors", lambda *_, **__: ({GOLDEN_FILE: no_vectors}, []))
    monkeypatch.setattr(export_module, "shipped_limits", lambda _: {})
    monkeypatch.setattr(export_module, "video_files", lambda *_: {})
    original = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if any(part.startswith(TEMPORARY_PREFIX) and part.endswith("-tiny") for part in path.parts):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert export(workspace, checkpoint, recipe="fp32") == 2
    assert "nothing was left behind" in refused(capsys, workspace)
