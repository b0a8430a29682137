"""Recipes, the compact file, ONNX details, and the bundle writer."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import ConfigError, DfkitError, ParityError
from dfkit.export import onnx_graph, tflite
from dfkit.export.bundle import free_folder, write_bundle
from dfkit.export.compact import compact
from dfkit.export.parity import Logits, compare, graph_logits, largest_change, run_parity
from dfkit.export.recipes import RECIPES, recipe_named
from dfkit.runtime.backends import TfliteGraphs
from tests.export.conftest import Converted


def test_unknown_recipes_are_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match="fp32, fp16, dynamic_int8, static_int8, mixed_int8"):
        recipe_named("mixed-int8")


@pytest.mark.parametrize("name", ["fp16", "dynamic_int8", "static_int8"])
def test_recipes_run(converted: Converted, name: str) -> None:
    """Each recipe gives a smaller file that a real interpreter runs, the MFCC still float."""
    checkpoint = converted.checkpoint
    plain = converted.plain
    arrays = converted.clip.arrays
    features = converted.stages["tflite fp32"].graphs.encode(arrays)
    clip = {**features, "pcm": arrays["pcm"], "face": arrays["face"][::10], "lip": arrays["lip"][::10]}
    model = compact(tflite.quantize(plain, RECIPES[name], checkpoint.network, CLIP2S, [clip]))
    backend = tflite.describe(model, checkpoint.network, checkpoint.clip_spec, name)
    graphs = TfliteGraphs(backend, {tflite.MODEL_FILE: model}, num_threads=1, where="test")
    difference = largest_change(
        graph_logits(graphs, [converted.clip]), graph_logits(converted.stages["tflite fp32"].graphs, [converted.clip])
    )
    print(f"{name}: {len(model) / 1e6:.3f} MB, {difference:.3g} in logits")
    assert len(model) < len(plain)
    # On stressed weights. A static recurrence adds its rounding fifty times over and measured 3.1: it is there for
    # comparison, and an export with it has to pass the gates on trained weights like any other.
    assert difference < (5.0 if name == "static_int8" else 0.2)


def test_compact_changes_nothing_but_size(converted: Converted) -> None:
    checkpoint = converted.checkpoint
    plain = converted.plain
    small = compact(plain)
    assert len(small) < len(plain)
    assert compact(small) == small
    answers = []
    for model in (plain, small):
        backend = tflite.describe(model, checkpoint.network, checkpoint.clip_spec, "fp32")
        graphs = TfliteGraphs(backend, {tflite.MODEL_FILE: model}, num_threads=1, where="test")
        answers.append(graph_logits(graphs, [converted.clip]))
    assert largest_change(*answers) == 0.0


def test_static_recipes_need_clips(converted: Converted) -> None:
    for name in ("mixed_int8", "static_int8"):
        with pytest.raises(ConfigError, match="needs calibration clips"):
            tflite.quantize(b"", RECIPES[name], converted.student, CLIP2S, [])
    with pytest.raises(ConfigError, match="calibration set is empty"):
        onnx_graph.quantize({}, [], converted.student)


def test_onnx_keeps_its_grus(converted: Converted) -> None:
    for name in ("onnx fp32", "onnx int8"):
        model = onnx.load_from_string(converted.stages[name].files[onnx_graph.SCORE_FILE])
        assert onnx_graph.check_gru(model, where=name) == 3
        assert model.opset_import[0].version == onnx_graph.OPSET
    weights = {i.name: i for i in model.graph.initializer}
    grus = [node for node in model.graph.node if node.op_type == "GRU"]
    sources = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for gru in grus:
        for place in (1, 2):
            stored = weights[sources[gru.input[place]].input[0]]
            assert stored.data_type == onnx.TensorProto.INT8


def test_wrong_gru_is_refused() -> None:
    node = onnx.helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=4, linear_before_reset=0)
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(ParityError, match="linear_before_reset"):
        onnx_graph.check_gru(onnx.helper.make_model(graph), where="score.onnx")


def test_exported_files_hold_no_path_of_this_machine(converted: Converted) -> None:
    here = str(Path(__file__).resolve().parents[2]).encode()
    for stage in converted.stages.values():
        for content in stage.files.values():
            assert here not in content
            assert b"site-packages" not in content


def logits(*margins: float) -> Logits:
    clip = np.array([[0.0, m] for m in margins], np.float32)
    return Logits(np.repeat(clip[:, None], 4, axis=1), clip)


def test_int8_gates() -> None:
    def passed(got: Logits, expected: Logits) -> bool:
        return compare("int8", "fp32", "real", got, expected, quantized=True).passed

    assert passed(logits(0.02, 1.0), logits(-0.02, 1.0))  # one flip within the margin
    assert not passed(logits(-0.01, 1.0), logits(0.11, 1.0))  # a flip above it
    assert not passed(logits(0.02, 0.02), logits(-0.02, -0.02))  # two flips of two
    assert not passed(logits(0.5, 1.0), logits(0.25, 1.0))  # |dp| 0.06
    assert not passed(logits(np.nan, 1.0), logits(0.1, 1.0))


def test_float_gate() -> None:
    assert compare("a", "b", "real", logits(0.10009), logits(0.1), quantized=False).passed
    assert not compare("a", "b", "real", logits(0.1002), logits(0.1), quantized=False).passed
    assert not compare("a", "b", "real", logits(np.inf), logits(np.inf), quantized=False).passed
    with pytest.raises(ParityError, match="shape"):
        compare("a", "b", "real", logits(0.1, 0.2), logits(0.1), quantized=False)


def test_parity_without_clips_fails(converted: Converted) -> None:
    with pytest.raises(ParityError, match="none"):
        run_parity(converted.student, CLIP2S, [], {})


def test_full_disk_leaves_nothing(tmp_path: Path, converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    from dfkit.runtime.manifest import Calibration, Manifest, OperatingPoint

    manifest = Manifest(
        name="x",
        dfkit_version="0",
        clip_spec=CLIP2S,
        modalities=("audio", "face", "lip"),
        network={},
        backends={"tflite": converted.stages["tflite int8"].backend},
        operating_point=OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="test"),
        calibration=Calibration(),
        files={"a.bin": {"bytes": 1, "sha256": "0" * 64}},  # type: ignore[dict-item]
        face_models={},
    )

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DfkitError, match="No space left"):
        write_bundle(tmp_path / "exports" / "x", {"a.bin": b"1"}, manifest)
    assert list((tmp_path / "exports").iterdir()) == []


def test_a_second_export_gets_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2.zip").touch()
    assert free_folder(tmp_path, "demo") == tmp_path / "demo-3"
