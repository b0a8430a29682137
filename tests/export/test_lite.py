"""The `lite` student, sound and motion: no CNN, no `encode`, one small graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.export.export import convert_all
from dfkit.export.golden import golden_vectors
from dfkit.export.golden_clips import base_clips
from dfkit.export.parity import ParityClip, negative_controls, run_parity, worst_cases
from dfkit.models.checkpoint import Checkpoint
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec

LITE = NetworkSpec(
    modalities=("audio", "motion"), gru_hidden=64, aligned=True, clip_statistics=True, sound_deviation=True
)


def stressed_lite() -> MMMSBA:
    """Default-initialised weights hardly move the logits: dense and head are made stronger, and statistics count."""
    torch.manual_seed(0)
    network = MMMSBA(LITE).eval()
    with torch.no_grad():
        for name, part in network.statistics.items():
            torch.nn.init.normal_(part.linear.weight, std=0.01)
            part.edges.mul_({"audio": 10, "audio_deviation": 5, "motion": 2}[name])
        for name, value in network.named_parameters():
            if name.endswith("_dense.1.weight"):
                value.mul_(4)
            elif name == "classifier.0.weight":
                value.mul_(8)
    return network


@pytest.fixture(scope="module")
def lite() -> tuple[Checkpoint, dict, list[ParityClip]]:
    checkpoint = Checkpoint(stressed_lite(), CLIP2S, "student", Path("lite.pth"))
    clips = base_clips(CLIP2S)[:3]
    return checkpoint, convert_all(checkpoint, ("tflite", "onnx"), "mixed_int8", [c.arrays for c in clips]), clips


def test_there_is_no_encode_and_the_inputs_follow_from_the_list(lite) -> None:
    _, stages, _ = lite
    assert set(stages) == {"tflite fp32", "tflite int8", "onnx fp32", "onnx int8"}
    for stage in stages.values():
        assert stage.backend.encode is None
        assert [entry.name for entry in stage.backend.score.inputs] == ["pcm", "landmarks"]
        assert stage.graphs.encode({}) == {}
    size = len(stages["tflite int8"].files["model.tflite"])
    print(f"lite mixed_int8: {size / 1e6:.3f} MB, onnx {len(stages['onnx int8'].files['score.onnx']) / 1e6:.3f} MB")
    # Aim of the export: 0.4 MB.
    assert size < 400_000


def test_every_stage_agrees(lite) -> None:
    checkpoint, stages, clips = lite
    backends = {name: stage.graphs for name, stage in stages.items()}
    report = run_parity(checkpoint.network, CLIP2S, [*clips, *worst_cases(CLIP2S)], backends, require_int8=False)
    for stage in report.stages:
        print(f"{stage.stage} against {stage.reference}, {stage.kind}: {stage.max_difference:.2g}")
    assert report.passed
    assert {"landmarks' points shifted by one", "sound shifted by one step", "attention arguments swapped"} == set(
        report.controls
    )
    # A deliberate mistake has to stand out from what a float stage may differ by.
    assert min(report.controls.values()) > 100 * 1e-4
    # INT8 on random stressed weights: reported above; here only that it is the same model.
    int8 = [s.max_difference for s in report.stages if s.quantized and s.kind == "real"]
    assert max(int8) < min(report.controls.values())
    # Both are the largest over the same clips.
    assert len(clips) > 2 and report.controls == negative_controls(checkpoint.network, CLIP2S, clips)


def test_golden_vectors_hold_sound_and_landmarks(lite) -> None:
    checkpoint, stages, _ = lite
    files, _ = golden_vectors(checkpoint, {"tflite": stages["tflite int8"]}, "mixed_int8", threshold_margin=0.0)
    import json

    index = json.loads(files["golden/golden.json"])["sets"][0]
    assert index["encode"] == []
    assert len(index["score"]) >= 8
    assert set(index["score"][0]["inputs"]) == {"pcm", "landmarks"}
    outputs = [
        np.frombuffer(files[f"golden/{case['outputs']['tflite']['clip_logits']['file']}"], "<f4")
        for case in index["score"]
    ]
    margins = [float(value[1] - value[0]) for value in outputs]
    assert min(margins) < 0 < max(margins)
