from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import BundleError
from dfkit.export.golden import ArrayStore, Inputs, golden_set
from dfkit.export.stages import Graph
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.golden_index import GOLDEN_FILE, GoldenIndex
from dfkit.runtime.replay import replay, replay_bundle
from tests.runtime.bundles import convert_network, example_inputs, reseal, write_bundle

CONVERTED: dict[Any, str] = {"tflite": "tflite_fp32", "onnx": "onnx"}
"""Backends of the bundle, by what was converted."""
CASE, OUTPUT = "shipped_score_0", "tflite_frame_logits"
LIMITS = ("face_features", "lip_features", "frame_logits", "clip_logits")


def add_golden(folder: Path) -> Path:
    """Writes golden vectors with the export's writer: both halves of the format meet here."""
    bundle = open_bundle(folder)
    converted = convert_network()
    graphs = {
        name: Graph(converted[key][1], converted[key][0], open_backend(bundle, name)) for name, key in CONVERTED.items()
    }
    inputs = example_inputs(50)
    pictures = {m: inputs[m] for m in ("face", "lip")}
    features = graphs["tflite"].graphs.encode(pictures)
    encode = [(f"picture {n}", {m: v[n : n + 1] // (n + 1) for m, v in pictures.items()}) for n in range(3)]
    clip = features | {"pcm": inputs["pcm"]}
    noise = np.random.default_rng(0).normal(0, 0.2, inputs["pcm"].shape).astype(np.float32)
    score = [
        ("as it is", clip),
        ("noise, no picture", {k: noise if k == "pcm" else np.zeros_like(v) for k, v in clip.items()}),
        ("silence, bright pictures", {k: np.zeros_like(v) if k == "pcm" else 2 * v for k, v in clip.items()}),
    ]
    store = ArrayStore()
    vectors = golden_set("shipped", store, CLIP2S, graphs, Inputs(encode, score))
    index = GoldenIndex(sets=(vectors,)).model_dump_json().encode()
    for name, content in {**store.files, GOLDEN_FILE: index}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    reseal(folder)
    return folder


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    # Float graphs: what eight GRU units in INT8 answer is noisier than these three clips differ.
    return add_golden(write_bundle(tmp_path / "own", backends=(*CONVERTED.values(),), backends_as=CONVERTED))


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / GOLDEN_FILE
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


def first_set(data: dict[str, Any]) -> dict[str, Any]:
    vectors: dict[str, Any] = data["sets"][0]
    return vectors


def limits(folder: Path) -> dict[str, Any]:
    return first_set(json.loads((folder / GOLDEN_FILE).read_text()))["limits"]


def test_what_a_bundle_was_written_with_is_replayed(golden: Path) -> None:
    report = replay_bundle(golden)
    assert report.passed and report.num_cases == 6
    found = {(o.backend, o.part, o.output) for o in report.outputs}
    assert found == {
        (backend, part, output)
        for backend in ("tflite", "onnx")
        for part, outputs in (("encode", LIMITS[:2]), ("score", LIMITS[2:]))
        for output in outputs
    }
    # The same machine, the same graphs: nothing may differ at all.
    assert all(o.max_difference == o.difference == 0 and o.power for o in report.outputs)
    assert len(report.summary()) == 9 and all(line.endswith("pass") for line in report.summary()[:8])
    assert report.summary()[8].endswith("all fail")
    stored = first_set(json.loads((golden / GOLDEN_FILE).read_text()))["controls"]
    assert report.num_controls == sum(len(control["answers"]) for control in stored)
    assert {control["name"] for control in stored} == {
        "zeros",
        "another case's answer",
        "channels swapped",
        "sound shifted by one step",
        "sound shifted by a quarter of the clip",
        "no sound",
        "no face",
        "no lip",
    }
    json.dumps(report.to_json(), allow_nan=False)


def test_tolerances_follow_from_the_data(golden: Path) -> None:
    bundle = open_bundle(golden)
    vectors = first_set(json.loads((golden / GOLDEN_FILE).read_text()))
    for backend in ("tflite", "onnx"):
        for output in LIMITS:
            cases = vectors["encode" if output.endswith("features") else "score"]
            files = [case["outputs"][backend][output]["file"] for case in cases]
            values = [np.frombuffer(bundle.read(f"golden/{file}"), "<f4") for file in files]
            nearest = min(float(np.sqrt(np.mean((a - b) ** 2))) for n, a in enumerate(values) for b in values[:n])
            limit = vectors["limits"][backend][output]
            assert limit["smallest_difference"] == pytest.approx(nearest, rel=1e-5)
            assert limit["tolerance"] == pytest.approx(nearest / 10, rel=1e-5)
            assert 0 < limit["noise"] < limit["tolerance"]


def test_golden_shapes_equal_the_signatures(golden: Path) -> None:
    bundle = open_bundle(golden)
    vectors = first_set(json.loads((golden / GOLDEN_FILE).read_text()))
    for name, backend in bundle.manifest.backends.items():
        for part, signature in (("encode", backend.encode), ("score", backend.score)):
            for case in vectors[part]:
                given = {key: tuple(entry["shape"]) for key, entry in case["inputs"].items()}
                # Inputs are stored once; an ONNX graph has a batch in front.
                batch = (1,) if name == "onnx" and part == "score" else ()
                wanted = {entry.name: entry.shape for entry in signature.inputs}
                assert {k: (batch if k != "pcm" else ()) + shape for k, shape in given.items()} == wanted
                made = {key: tuple(entry["shape"]) for key, entry in case["outputs"][name].items()}
                assert made == {entry.name: entry.shape for entry in signature.outputs}


def test_only_one_backend_is_replayed_when_asked(golden: Path) -> None:
    report = replay(open_bundle(golden), backend="onnx")
    assert report.passed and {o.backend for o in report.outputs} == {"onnx"}


def test_a_difference_beyond_the_tolerance_fails_with_its_size(golden: Path) -> None:
    tolerance = limits(golden)["tflite"]["frame_logits"]["tolerance"]

    def shift(array: np.ndarray) -> None:
        array += 1.5 * tolerance

    edit_array(golden, f"{CASE}_{OUTPUT}", shift)
    report = replay_bundle(golden)
    (failed,) = [o for o in report.outputs if not o.passed]
    assert not report.passed
    assert (failed.backend, failed.output) == ("tflite", "frame_logits")
    assert failed.difference == pytest.approx(1.5 * tolerance, rel=1e-3)
    assert failed.max_difference == pytest.approx(1.5 * tolerance, rel=1e-3)
    assert f"differs by {1.5 * tolerance:.3g}" in "\n".join(report.summary())


def test_a_single_value_far_off_fails(golden: Path) -> None:
    edit_array(golden, f"{CASE}_{OUTPUT}", lambda array: array.__setitem__(0, array[0] + 4.9 * frame_tolerance(golden)))
    assert replay_bundle(golden).passed
    edit_array(golden, f"{CASE}_{OUTPUT}", lambda array: array.__setitem__(0, array[0] + 0.3 * frame_tolerance(golden)))
    (failed,) = [o for o in replay_bundle(golden).outputs if not o.passed]
    assert "a single value differs by" in str(failed.failure)


def frame_tolerance(folder: Path) -> float:
    return float(limits(folder)["tflite"]["frame_logits"]["tolerance"])


@pytest.mark.parametrize("output", LIMITS)
def test_an_answer_of_zeros_passes_nowhere(golden: Path, output: str) -> None:
    """What an absolute tolerance of 0.05 let through: every value of a demonstration's face features is smaller."""

    class Silent:
        """A backend of which one output is all zeros."""

        def __init__(self, graphs: Any) -> None:
            self.name, self.graphs = graphs.name, graphs

        def encode(self, pictures: Any) -> Any:
            found = self.graphs.encode(pictures)
            return {key: value * (key != output) for key, value in found.items()}

        def score(self, inputs: Any) -> Any:
            frame, clip = self.graphs.score(inputs)
            return frame * (output != "frame_logits"), clip * (output != "clip_logits")

    report = replay(open_bundle(golden), open_graphs=lambda *a, **k: Silent(open_backend(*a, **k)))
    assert {o.output for o in report.outputs if not o.passed} == {output}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail(golden: Path, bad: float) -> None:
    edit_array(golden, "shipped_encode_0_onnx_lip_features", lambda array: array.__setitem__(0, bad))
    report = replay_bundle(golden)
    assert not report.passed
    assert {o.failure for o in report.outputs if not o.passed} == {"NaN or infinity"}
    json.dumps(report.to_json(), allow_nan=False)


def test_nothing_to_replay_fails(golden: Path) -> None:
    edit_index(golden, lambda d: first_set(d).update(encode=[], score=[], controls=[]))
    report = replay_bundle(golden)
    assert not report.passed and report.summary() == ["no golden vectors were replayed: FAILED"]


def test_one_graph_without_a_case_fails(golden: Path) -> None:
    edit_index(golden, lambda d: first_set(d).update(encode=[], controls=[]))
    report = replay_bundle(golden)
    assert not report.passed
    assert "tflite encode face_features: no golden case with power decides it" in report.faults


def test_a_wrong_answer_that_passes_is_a_fault(golden: Path) -> None:
    def widen(data: dict[str, Any]) -> None:
        first_set(data)["limits"]["tflite"]["clip_logits"]["tolerance"] = 1e3

    edit_index(golden, widen)
    report = replay_bundle(golden)
    assert not report.passed and all(o.passed for o in report.outputs)
    assert {fault.split(",")[0] for fault in report.faults} == {"shipped tflite clip_logits"}
    assert "the wrong answer passes" in report.faults[0]


def test_an_output_without_controls_is_a_fault(golden: Path) -> None:
    edit_index(golden, lambda d: first_set(d).update(controls=[]))
    report = replay_bundle(golden)
    assert not report.passed
    assert "shipped onnx frame_logits: no negative control" in report.faults


def powerless(data: dict[str, Any]) -> None:
    for backend in first_set(data)["limits"].values():
        backend["clip_logits"].update(power=False, reason="made so")


def test_vectors_without_power_pass_nothing(golden: Path) -> None:
    edit_index(golden, powerless)
    report = replay_bundle(golden)
    assert all(o.passed for o in report.outputs) and not report.passed
    lines = report.summary()
    assert sum(line.endswith("no power") for line in lines) == 2
    assert "onnx score clip_logits: no golden case with power decides it" in lines


def test_stressed_vectors_decide_where_the_model_has_no_power(golden: Path) -> None:
    files = {"tflite": ("model.tflite",), "onnx": ("encode.onnx", "score.onnx")}
    (golden / "golden" / "stressed").mkdir()
    for names in files.values():
        for name in names:
            shutil.copy(golden / name, golden / "golden" / "stressed" / name)

    def add(data: dict[str, Any]) -> None:
        stressed = {**first_set(json.loads(json.dumps(data))), "name": "stressed"}
        stressed["graphs"] = {b: {n: f"golden/stressed/{n}" for n in names} for b, names in files.items()}
        powerless(data)
        data["sets"].append(stressed)

    edit_index(golden, add)
    report = replay_bundle(golden)
    assert report.passed and {o.vectors for o in report.outputs} == {"shipped", "stressed"}
    assert any(
        line.startswith("stressed tflite score clip_logits") and line.endswith("pass") for line in report.summary()
    )
    # The stand-in is what runs: another model's file gives other answers.
    content = convert_network()["tflite"][1]["model.tflite"]
    (golden / "golden" / "stressed" / "model.tflite").write_bytes(content)
    reseal(golden)
    with pytest.raises(BundleError, match="the manifest says"):
        replay_bundle(golden)


def test_names_come_before_shapes_before_values(golden: Path) -> None:
    def rename(data: dict[str, Any]) -> None:
        outputs = first_set(data)["score"][0]["outputs"]["tflite"]
        outputs["video_logits"] = outputs.pop("clip_logits")

    edit_index(golden, rename)
    failures = {o.output: o.failure for o in replay_bundle(golden).outputs if not o.passed}
    assert failures == {
        "video_logits": "the graph does not give this output",
        "clip_logits": "the golden vectors lack this output",
    }


def test_another_shape_fails(golden: Path) -> None:
    def turn(data: dict[str, Any]) -> None:
        first_set(data)["score"][0]["outputs"]["onnx"]["frame_logits"].update(shape=[2, 50])

    edit_index(golden, turn)
    (failed,) = [o for o in replay_bundle(golden).outputs if not o.passed]
    assert failed.failure == "shape (50, 2), expected (2, 50)"


def test_a_backend_without_expected_outputs_fails(golden: Path) -> None:
    edit_index(golden, lambda d: first_set(d)["encode"][0]["outputs"].pop("tflite"))
    report = replay_bundle(golden)
    assert [(o.backend, o.part) for o in report.outputs if not o.passed] == [("tflite", "encode")]
    edit_index(golden, lambda d: first_set(d)["limits"].pop("onnx"))
    assert any("no tolerance for onnx" in (o.failure or "") for o in replay_bundle(golden).outputs)


def test_an_input_that_the_graph_takes_and_the_case_lacks_fails(golden: Path) -> None:
    edit_index(golden, lambda d: first_set(d)["score"][0]["inputs"].pop("pcm"))
    report = replay_bundle(golden)
    assert not report.passed and "pcm" in "\n".join(report.summary())


def test_a_bundle_without_golden_vectors_says_so(own_folder: Path) -> None:
    with pytest.raises(BundleError, match="no golden vectors"):
        replay_bundle(own_folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(schema_version=1), "version 1, this dfkit replays version 2"),
        (lambda d: d.update(schema_version=3), "install the dfkit that made it"),
        (lambda d: d.update(schema_version="2"), "schema_version"),
        (lambda d: first_set(d)["limits"]["tflite"]["clip_logits"].update(tolerance=0), "clip_logits.tolerance"),
        (lambda d: first_set(d)["encode"][0]["inputs"]["face"].update(dtype="float64"), "dtype"),
        (lambda d: first_set(d)["encode"][0]["inputs"]["face"].update(shape=[4, 224, 224, 4]), "takes"),
        (lambda d: first_set(d)["encode"][0]["inputs"]["face"].update(file="../manifest.json"), "manifest.json"),
        (lambda d: first_set(d)["controls"][0]["cases"].update(tflite=9), "stands for no golden case"),
    ],
)
def test_a_broken_index_is_refused_by_key(golden: Path, change: Callable[..., object], named: str) -> None:
    edit_index(golden, change)
    try:
        said = "\n".join(replay_bundle(golden).summary())
    except BundleError as error:
        said = str(error)
    assert named in said
