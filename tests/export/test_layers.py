"""Layer by layer: a layer broken on purpose is named; the straight way computes what torch does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.errors import ParityError
from dfkit.export import layers
from dfkit.export.converter import GraphPart, convert_graphs
from dfkit.export.layers import LayerReport, LayerResult, compare_layers, layer_order
from dfkit.export.parity import ParityClip, graph_logits, largest_change, torch_logits
from dfkit.export.recipes import recipe_named
from dfkit.export.stages import tflite_stage
from dfkit.export.straight import straight_model, straight_network
from dfkit.models.checkpoint import Checkpoint
from tests.export import tiny

CLIPS = [ParityClip(f"clip {n}", "real", tiny.tiny_clip(n)) for n in range(2)]


def test_a_broken_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of the lips' dense layer are changed on the way into the converter, nothing else."""

    def convert_broken(parts: Sequence[GraphPart]) -> bytes:
        broken = copy.deepcopy(list(parts))
        (score,) = (module for key, module, _ in broken if key == "score")
        with torch.no_grad():
            score.wrapped.dense["lip"][0].weight[3] += 0.05
        return convert_graphs(broken)

    monkeypatch.setattr(layers, "convert_graphs", convert_broken)
    network = tiny.tiny_network()
    report = compare_layers(
        network, tiny.SPEC, ("tflite", "onnx"), recipe_named("mixed_int8"), [tiny.tiny_clip(9)], CLIPS
    )
    print("\n".join(report.summary()))
    order = layer_order(network)
    assert order[:5] == ["face_conv1", "face_conv2", "face_conv3", "face_features", "lip_conv1"]
    stages = {r.stage: [] for r in report.layers}
    for result in report.layers:
        stages[result.stage].append(result)
    assert list(stages) == ["fused", "tflite fp32", "tflite mixed_int8", "onnx fp32", "onnx qdq_int8"]
    assert all([r.layer for r in found] == [n for n in order if n != "motion_steps"] for found in stages.values())
    # Only the broken stage departs, at that layer, and what does not read it stays right.
    assert [(r.stage, r.layer) for r in report.first_departures()] == [("tflite fp32", "lip_dense")]
    departed = {r.layer for r in report.layers if not r.passed}
    assert {"lip_dense", "lip_audio", "face_lip"} <= departed
    assert not departed & {"audio_face", "face_dense", "audio_dense", "lip_encoder"}
    assert report.to_json()["first_departures"] == {"tflite fp32": "lip_dense"}
    assert "tflite fp32: first departs at lip_dense from torch" in report.summary()


def test_not_a_number_departs() -> None:
    result = LayerResult("a", "b", "x", float("nan"), 1.0, float("nan"), 0.1)
    assert not result.passed
    assert LayerReport((result,)).to_json()["layers"][0]["share"] == "nan"


def test_without_clips() -> None:
    with pytest.raises(ParityError, match="got none"):
        compare_layers(tiny.tiny_network(), tiny.SPEC, ("tflite",), recipe_named("fp32"), [], [])


def test_the_straight_way_is_the_same_network_unrewritten() -> None:
    network = straight_network(tiny.tiny_network())
    assert (network.spec.face_channels, network.spec.lip_channels) == ((64, 128, 256), (32, 64, 128))
    assert network.spec.gru_hidden == tiny.NETWORK.gru_hidden
    model = straight_model(network, tiny.SPEC)
    stage = tflite_stage(model, Checkpoint(network, tiny.SPEC, "student", Path("x")), "fp32", 0.0)
    expected = torch_logits(network, tiny.SPEC, CLIPS)
    assert np.ptp(expected.frame) > 1e-3
    assert largest_change(graph_logits(stage.graphs, CLIPS), expected) < 1e-5
