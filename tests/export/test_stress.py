"""Golden vectors of weak weights have no power and say so; stressed ones of the same shape decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.export import golden
from dfkit.export.golden_clips import differences, far_apart
from dfkit.export.parity import worst_cases
from dfkit.export.stages import convert_all
from dfkit.export.stress import LOGIT_DEVIATION, stressed_network
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import Checkpoint
from dfkit.runtime.golden_index import GOLDEN_FILE, GoldenIndex, OutputLimits
from tests.export import tiny


def weak_network() -> MMMSBA:
    torch.manual_seed(1)
    return MMMSBA(tiny.NETWORK).eval()


@pytest.fixture(scope="module")
def weak() -> tuple[dict[str, bytes], list[str]]:
    """Golden files of default-initialised weights."""
    checkpoint = Checkpoint(weak_network(), tiny.SPEC, "student", Path("weak.pth"))
    clips = worst_cases(tiny.SPEC)
    stages = convert_all(checkpoint, ("tflite", "onnx"), "mixed_int8", [clip.arrays for clip in clips])
    shipped = {name: stages[f"{name} int8"] for name in ("tflite", "onnx")}
    return golden.golden_vectors(checkpoint, shipped, "mixed_int8", threshold_margin=0.0)


def limits_of(files: dict[str, bytes], name: str) -> list[tuple[str, str, OutputLimits]]:
    index = GoldenIndex.model_validate_json(files[GOLDEN_FILE])
    (vectors,) = [vectors for vectors in index.sets if vectors.name == name]
    return [(b, output, limit) for b, limits in vectors.limits.items() for output, limit in limits.items()]


def test_weak_vectors_are_marked_and_stressed_ones_stand_beside_them(weak: tuple[dict[str, bytes], list[str]]) -> None:
    files, warnings = weak
    powerless = [(backend, output) for backend, output, limit in limits_of(files, "shipped") if not limit.power]
    assert powerless and all(limit.reason for _, _, limit in limits_of(files, "shipped") if not limit.power)
    assert any("have no power over" in warning for warning in warnings)
    stressed = limits_of(files, "stressed")
    assert {(backend, output) for backend, output, _ in stressed} == {
        (backend, output)
        for backend in ("tflite", "onnx")
        for output in ("face_features", "lip_features", "frame_logits", "clip_logits")
    }
    for backend, output, limit in stressed:
        assert limit.power, (backend, output)
        assert golden.NOISE_FACTOR * limit.noise <= limit.tolerance
        assert limit.tolerance == pytest.approx(limit.smallest_difference / 10)
    assert {"golden/stressed/model.tflite", "golden/stressed/encode.onnx", "golden/stressed/score.onnx"} <= set(files)


def test_every_input_moves_a_stressed_network() -> None:
    clips = worst_cases(tiny.SPEC)
    network = stressed_network(weak_network(), tiny.SPEC, clips)
    again = stressed_network(weak_network(), tiny.SPEC, clips)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    from dfkit.export.parity import torch_logits

    def change(network: MMMSBA, name: str) -> float:
        arrays = {**clips[3].arrays, name: np.zeros_like(clips[3].arrays[name])}
        changed = torch_logits(network, tiny.SPEC, [type(clips[3])("changed", "worst case", arrays)])
        return float(np.abs(changed.frame - torch_logits(network, tiny.SPEC, [clips[3]]).frame).max())

    for name in ("face", "lip", "pcm"):
        assert change(network, name) > 0.1 > change(weak_network(), name) or name == "pcm"
    spread = torch_logits(network, tiny.SPEC, clips, batched=True).clip.std(axis=0, ddof=1)
    np.testing.assert_allclose(spread, LOGIT_DEVIATION, rtol=1e-3)


def test_distances_by_hand() -> None:
    answers = [{"y": np.array([0.0, 0.0])}, {"y": np.array([3.0, 4.0])}, {"y": np.array([0.0, 1.0])}]
    table = differences(answers, "y")
    np.testing.assert_allclose(table[0], [0, np.sqrt(12.5), np.sqrt(0.5)])
    # From 0, the farthest is 1; then 2 is the only one left. Asked for more than there are: all.
    assert far_apart(answers, [0], 2) == [0, 1]
    assert far_apart(answers, [0], 9) == [0, 1, 2]
    # An output in which all agree leaves the others to decide nothing: distances are the smallest over outputs.
    flat = [{**answer, "z": np.zeros(1)} for answer in answers]
    assert len(far_apart(flat, [2], 3)) == 3
    # Cases that answer alike are taken once, asked for or not.
    assert far_apart([answers[0], answers[0], answers[1], answers[1], answers[2]], [0, 1], 9) == [0, 2, 4]


def test_a_network_of_faces_alone_in_static_int8() -> None:
    """Silence and clipping are the same case there; ranges of `score` need features of the stressed weights."""
    torch.manual_seed(1)
    spec = NetworkSpec(modalities=("face",), face_channels=(16, 16, 32), gru_hidden=32, dense_dim=32)
    checkpoint = Checkpoint(MMMSBA(spec).eval(), tiny.SPEC, "student", Path("faces.pth"))
    clips = worst_cases(tiny.SPEC)
    stages = convert_all(
        checkpoint, ("tflite",), "static_int8", golden.calibration_of(checkpoint.network, clips, "static_int8")
    )
    files, _ = golden.golden_vectors(checkpoint, {"tflite": stages["tflite int8"]}, "static_int8", threshold_margin=0.0)
    stressed = limits_of(files, "stressed")
    assert {output for _, output, _ in stressed} == {"face_features", "frame_logits", "clip_logits"}
    assert all(limit.power for _, _, limit in stressed)


def test_a_mistake_that_shows_nowhere_takes_the_power() -> None:
    answers = [{"y": np.array([0.0])}, {"y": np.array([1.0])}]
    seen = golden.WrongAnswer(golden.SOUND, "y", 0, np.array([5.0]), noticed=True)
    mistakes = {golden.SOUND: None, golden.LATE_SOUND: None}
    limit = golden.limits_of(answers, answers, [seen], {golden.SOUND: None})["y"]
    assert limit.power and limit.tolerance == pytest.approx(0.1) and limit.reason == ""
    assert "no output shows the mistake" in golden.limits_of(answers, answers, [seen], mistakes)["y"].reason
    assert "no deliberate mistake" in golden.limits_of(answers, answers, [], mistakes)["y"].reason
    noisy = [{"y": answer["y"] + 0.06} for answer in answers]
    limit = golden.limits_of(answers, noisy, [seen], {golden.SOUND: None})["y"]
    assert not limit.power and "two implementations of the operators by 0.06" in limit.reason
    assert limit.tolerance == pytest.approx(0.6)
