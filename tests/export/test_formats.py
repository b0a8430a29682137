"""Recipes, the compact file, ONNX details, and the bundle writer."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from dfkit.errors import ConfigError, DfkitError, ParityError
from dfkit.export import onnx_graph, tflite
from dfkit.export.bundle import free_folder, write_bundle
from dfkit.export.compact import compact
from dfkit.export.export import write_under_free_name
from dfkit.export.parity import Logits, compare, graph_logits, largest_change, run_parity
from dfkit.export.recipes import RECIPES, recipe_named
from dfkit.export.simplify import run, simplify
from dfkit.measures.decision import Calibration, Decision, OperatingPoint
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.manifest import FileEntry, Manifest
from tests.export.conftest import SPEC, Converted


def manifest_of_one_file(converted: Converted) -> Manifest:
    return Manifest(
        name="x",
        dfkit_version="0",
        clip_spec=SPEC,
        modalities=("audio", "face", "lip"),
        network={},
        backends={"tflite": converted.stages["tflite int8"].backend},
        operating_point=OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="test"),
        calibration=Calibration(),
        files={"a.bin": FileEntry(bytes=1, sha256="0" * 64)},
        face_models={},
    )


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
    model = compact(tflite.quantize(plain, RECIPES[name], checkpoint.network, SPEC, [clip]))
    backend = tflite.describe(model, checkpoint.network, checkpoint.clip_spec, name)
    graphs = TfliteGraphs(backend, {tflite.MODEL_FILE: model}, num_threads=1, where="test")
    logits = graph_logits(graphs, [converted.clip])
    difference = largest_change(logits, graph_logits(converted.stages["tflite fp32"].graphs, [converted.clip]))
    # The clip's logits are their mean; with a quantized mean they were those of no clip.
    np.testing.assert_allclose(logits.clip[0], np.reshape(logits.frame, (-1, 2)).mean(axis=0), atol=1e-5)
    print(f"{name}: {len(model) / 1e6:.3f} MB, {difference:.3g} in logits")
    assert len(model) < len(plain)
    # On stressed weights; static INT8 measured 0.34 (3.1 with a static recurrence, whose rounding adds up).
    assert difference < (0.7 if name == "static_int8" else 0.2)


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
            tflite.quantize(b"", RECIPES[name], converted.student, SPEC, [])
    with pytest.raises(ConfigError, match="calibration set is empty"):
        onnx_graph.quantize({}, [], converted.student)


def test_onnx_keeps_its_grus(converted: Converted) -> None:
    for name in ("onnx fp32", "onnx int8"):
        model = onnx.load_from_string(converted.stages[name].files[onnx_graph.SCORE_FILE])
        assert onnx_graph.check_gru(model, where=name) == 3
        assert model.opset_import[0].version == onnx_graph.OPSET
    weights = {i.name: i for i in model.graph.initializer}
    sources = {node.output[0]: node for node in model.graph.node}
    for gru in (node for node in model.graph.node if node.op_type == "GRU"):
        for place in (1, 2):
            source = sources[gru.input[place]]
            assert source.op_type == "DequantizeLinear"
            assert weights[source.input[0]].data_type == onnx.TensorProto.INT8
    # onnxruntime fuses a product with a DequantizeLinear in front of it.
    fed = [node.input[1] for node in model.graph.node if node.op_type == "MatMul"]
    products = [sources[name] for name in fed if name in sources]
    assert "DequantizeLinear" not in {source.op_type for source in products}
    stored = [sources[source.input[0]].input[0] for source in products if source.input[0].endswith("_cast")]
    assert [weights[name].data_type for name in stored] == [onnx.TensorProto.INT8] * 4


def test_onnx_files_ask_for_no_newer_runtime_than_they_need(converted: Converted) -> None:
    """onnxruntime refuses an IR or an operator set that it does not know, used or not."""
    for name in ("onnx fp32", "onnx int8"):
        stage = converted.stages[name]
        assert (stage.backend.opset, stage.backend.ir_version) == (18, 8)
        for content in stage.files.values():
            model = onnx.load_from_string(content)
            assert (model.ir_version, [(e.domain, e.version) for e in model.opset_import]) == (8, [("", 18)])
            onnx.checker.check_model(model, full_check=True)


def test_the_session_s_optimizations_change_no_answer(converted: Converted) -> None:
    """onnxruntime fuses DequantizeLinear and MatMul into a product that rounds the activations, too: 0.017 off."""
    arrays = converted.clip.arrays
    stage = converted.stages["onnx int8"]
    pictures = {m: arrays[m][:1] for m in ("face", "lip")}
    clip = {n: v[None] for n, v in stage.graphs.encode(arrays).items()} | {"pcm": arrays["pcm"][None]}
    for name, inputs in ((onnx_graph.ENCODE_FILE, pictures), (onnx_graph.SCORE_FILE, clip)):
        answers = []
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(stage.files[name], options, providers=["CPUExecutionProvider"])
            answers.append(session.run(None, inputs))
        # Without optimizations the convolutions are computed in float between QuantizeLinears: a value at a half may
        # be rounded the other way, by one of 255 levels.
        limit = 1e-5 if name == onnx_graph.SCORE_FILE else 0.02
        for plain, optimized in zip(*answers, strict=True):
            difference = float(np.abs(plain - optimized).max())
            print(f"{name}: {difference:.3g}")
            assert difference < limit


def test_convolutions_have_unsigned_weights(converted: Converted) -> None:
    """uint8 pictures times int8 weights saturate on processors without VNNI; one zero point for all channels."""
    model = onnx.load_from_string(converted.stages["onnx int8"].files[onnx_graph.ENCODE_FILE])
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    sources = {node.output[0]: node for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6
    for node in convolutions:
        weight, scale, zero_point = (stored[name] for name in sources[node.input[1]].input)
        assert weight.dtype == np.uint8 and scale.shape == (weight.shape[0],)
        assert (zero_point == 128).all()


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
        return compare("int8", "fp32", "real", got, expected, decision=Decision(), quantized=True).passed

    assert passed(logits(0.02, 1.0), logits(-0.02, 1.0))  # one flip within the margin
    assert not passed(logits(-0.01, 1.0), logits(0.11, 1.0))  # a flip above it
    assert not passed(logits(0.02, 0.02), logits(-0.02, -0.02))  # two flips of two
    assert not passed(logits(0.5, 1.0), logits(0.25, 1.0))  # |dp| 0.06
    assert not passed(logits(np.nan, 1.0), logits(0.1, 1.0))


def test_parity_is_judged_by_the_decision_that_ships() -> None:
    """At threshold 0.9 twelve of twelve verdicts flipped, and parity, which looked at 0.5, said none."""
    before = np.linspace(2.10, 2.30, 12)
    after = before + np.where(before < np.log(9), 0.13, -0.13)
    point = OperatingPoint(threshold=0.9, review_low=0.9, review_high=0.9, name="test")
    shipped = Decision(operating_point=point)
    result = compare("int8", "fp32", "real", logits(*after), logits(*before), decision=shipped, quantized=True)
    assert (result.flips, result.passed) == (12, False)
    # At a temperature of 0.05 a change of 0.09 in logits is one of 0.26 in p_fake: beyond the gate.
    sharp = Decision(Calibration(calibration_temperature=0.05))
    result = compare("int8", "fp32", "real", logits(0.11, 0.11), logits(0.02, 0.02), decision=sharp, quantized=True)
    assert result.flips == 0 and result.max_p_change > 0.25 and not result.passed


def test_float_gate() -> None:
    assert compare("a", "b", "real", logits(0.10009), logits(0.1), decision=Decision(), quantized=False).passed
    assert not compare("a", "b", "real", logits(0.1002), logits(0.1), decision=Decision(), quantized=False).passed
    assert not compare("a", "b", "real", logits(np.inf), logits(np.inf), decision=Decision(), quantized=False).passed
    with pytest.raises(ParityError, match="shape"):
        compare("a", "b", "real", logits(0.1, 0.2), logits(0.1), decision=Decision(), quantized=False)


def test_parity_without_clips_fails(converted: Converted) -> None:
    with pytest.raises(ParityError, match="none"):
        run_parity(converted.student, SPEC, [], {})


def test_full_disk_leaves_nothing(tmp_path: Path, converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of_one_file(converted)

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


def test_two_exports_at_once_both_keep_their_bundle(tmp_path: Path, converted: Converted) -> None:
    """One that is still writing must neither be removed nor overwritten by the other."""
    manifest = manifest_of_one_file(converted)
    barrier = threading.Barrier(4)

    def export(content: bytes) -> Path:
        barrier.wait()
        return write_under_free_name(tmp_path, "x", {"a.bin": content}, manifest)

    with ThreadPoolExecutor(4) as pool:
        targets = list(pool.map(export, [b"0", b"1", b"2", b"3"]))
    assert [(target / "a.bin").read_bytes() for target in targets] == [b"0", b"1", b"2", b"3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        name for number in ("", "-2", "-3", "-4") for name in (f"x{number}", f"x{number}.zip")
    )


def test_onnxsim_is_taken_where_it_helps_and_changes_nothing(converted: Converted) -> None:
    network, spec = converted.checkpoint.network, converted.checkpoint.clip_spec
    inputs = onnx_graph.example_inputs(network, spec)
    for name, content in converted.stages["onnx fp32"].files.items():
        found = simplify(name, content, inputs[name])
        assert found.kept == (len(found.content) < len(content))
        assert found.text.startswith(f"{name}: onnxsim made ") and ("; taken" in found.text) == found.kept
        for before, after in zip(run(content, inputs[name]), run(found.content, inputs[name]), strict=True):
            np.testing.assert_allclose(after, before, atol=1e-5, rtol=0)


def test_a_simplified_graph_that_answers_otherwise_is_not_taken(
    converted: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxsim
    from onnx import numpy_helper

    def zeroed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
        return model, True

    monkeypatch.setattr(onnxsim, "simplify", zeroed)
    network, spec = converted.checkpoint.network, converted.checkpoint.clip_spec
    content = converted.stages["onnx fp32"].files["encode.onnx"]
    found = simplify("encode.onnx", content, onnx_graph.example_inputs(network, spec)["encode.onnx"])
    assert not found.kept and found.content == content and "changed an output" in found.text
