from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.errors import BundleError
from dfkit.export.bundle import GoldenWriter
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.replay import replay, replay_bundle
from tests.runtime.bundles import TOLERANCE, example_inputs, reseal


def add_golden(folder: Path) -> Path:
    """Writes golden vectors with the export's writer: both halves of the format meet here."""
    bundle = open_bundle(folder)
    inputs = example_inputs(50)
    pictures = {m: inputs[m][:4] for m in ("face", "lip")}
    answers: dict[str, dict[str, Any]] = {"encode": {}, "score": {}}
    features: dict[str, np.ndarray] = {}
    for name in ("tflite", "onnx"):
        graphs = open_backend(bundle, name)
        features = features or graphs.encode(inputs)
        frame_logits, clip_logits = graphs.score(features | {"pcm": inputs["pcm"]})
        answers["encode"][name] = graphs.encode(pictures)
        answers["score"][name] = {"frame_logits": frame_logits, "clip_logits": clip_logits}
    writer = GoldenWriter(TOLERANCE)
    writer.add("encode", "four pictures", pictures, answers["encode"])
    writer.add("score", "a clip", features | {"pcm": inputs["pcm"]}, answers["score"])
    for name, content in writer.content().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    reseal(folder)
    return folder


@pytest.fixture
def golden(own_folder: Path) -> Path:
    return add_golden(own_folder)


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "golden" / "golden.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    reseal(folder)


def edit_array(folder: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    path = folder / "golden" / f"{name}.bin"
    array = np.frombuffer(path.read_bytes(), "<f4").copy()
    change(array)
    path.write_bytes(array.tobytes())
    reseal(folder)


def test_what_a_bundle_was_written_with_is_replayed(golden: Path) -> None:
    report = replay_bundle(golden)
    assert report.passed and report.num_cases == 2
    found = {(o.backend, o.part, o.output) for o in report.outputs}
    assert found == {
        (backend, part, output)
        for backend in ("tflite", "onnx")
        for part, outputs in (("encode", ("face_features", "lip_features")), ("score", ("frame_logits", "clip_logits")))
        for output in outputs
    }
    # The same machine, the same graphs: nothing may differ at all.
    assert all(o.max_difference == o.mean_difference == 0 for o in report.outputs)
    assert len(report.summary()) == 8 and all(line.endswith("pass") for line in report.summary())
    json.dumps(report.to_json(), allow_nan=False)


def test_only_one_backend_is_replayed_when_asked(golden: Path) -> None:
    report = replay(open_bundle(golden), backend="onnx")
    assert report.passed and {o.backend for o in report.outputs} == {"onnx"}


def test_a_difference_beyond_the_tolerance_fails_with_its_size(golden: Path) -> None:
    def shift(array: np.ndarray) -> None:
        array[3] += 0.01  # ten times the tolerance

    edit_array(golden, "score_0_tflite_frame_logits", shift)
    report = replay_bundle(golden)
    (failed,) = [o for o in report.outputs if not o.passed]
    assert not report.passed
    assert (failed.backend, failed.output) == ("tflite", "frame_logits")
    assert failed.max_difference == pytest.approx(0.01, rel=1e-3)
    assert failed.mean_difference == pytest.approx(0.01 / 100, rel=1e-3)
    assert "differs by 0.01" in "\n".join(report.summary())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail(golden: Path, bad: float) -> None:
    edit_array(golden, "encode_0_onnx_lip_features", lambda array: array.__setitem__(0, bad))
    report = replay_bundle(golden)
    assert not report.passed
    assert [o.failure for o in report.outputs if not o.passed] == ["NaN or infinity"]
    json.dumps(report.to_json(), allow_nan=False)


def test_nothing_to_replay_fails(golden: Path) -> None:
    edit_index(golden, lambda d: d.update(encode=[], score=[]))
    report = replay_bundle(golden)
    assert not report.passed
    assert {o.failure for o in report.outputs} == {"no golden case"}


def test_one_graph_without_a_case_fails(golden: Path) -> None:
    edit_index(golden, lambda d: d.update(encode=[]))
    assert not replay_bundle(golden).passed


def test_names_come_before_shapes_before_values(golden: Path) -> None:
    def rename(data: dict[str, Any]) -> None:
        outputs = data["score"][0]["outputs"]["tflite"]
        outputs["video_logits"] = outputs.pop("clip_logits")

    edit_index(golden, rename)
    failures = {o.output: o.failure for o in replay_bundle(golden).outputs if not o.passed}
    assert failures == {
        "video_logits": "the graph does not give this output",
        "clip_logits": "golden vectors lack this output",
    }


def test_another_shape_fails(golden: Path) -> None:
    edit_index(golden, lambda d: d["score"][0]["outputs"]["onnx"]["frame_logits"].update(shape=[2, 50]))
    (failed,) = [o for o in replay_bundle(golden).outputs if not o.passed]
    assert failed.failure == "shape (50, 2), expected (2, 50)"


def test_a_backend_without_expected_outputs_fails(golden: Path) -> None:
    edit_index(golden, lambda d: d["encode"][0]["outputs"].pop("tflite"))
    report = replay_bundle(golden)
    assert [(o.backend, o.part) for o in report.outputs if not o.passed] == [("tflite", "encode")]
    edit_index(golden, lambda d: d["backends"].pop("onnx"))
    assert any("no tolerance for onnx" in (o.failure or "") for o in replay_bundle(golden).outputs)


def test_an_input_that_the_graph_takes_and_the_case_lacks_fails(golden: Path) -> None:
    edit_index(golden, lambda d: d["score"][0]["inputs"].pop("pcm"))
    report = replay_bundle(golden)
    assert not report.passed and "pcm" in "\n".join(report.summary())


def test_a_bundle_without_golden_vectors_says_so(own_folder: Path) -> None:
    with pytest.raises(BundleError, match="no golden vectors"):
        replay_bundle(own_folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(schema_version=2), "schema_version"),
        (lambda d: d["backends"]["tflite"]["tolerance"].update(logits=0), "tolerance.logits"),
        (lambda d: d["encode"][0]["inputs"]["face"].update(dtype="float64"), "dtype"),
        (lambda d: d["encode"][0]["inputs"]["face"].update(shape=[4, 224, 224, 4]), "takes"),
        (lambda d: d["encode"][0]["inputs"]["face"].update(file="../manifest.json"), "manifest.json"),
    ],
)
def test_a_broken_index_is_refused_by_key(golden: Path, change: Callable[..., object], named: str) -> None:
    edit_index(golden, change)
    with pytest.raises(BundleError) as caught:
        replay_bundle(golden)
    assert named in str(caught.value)
