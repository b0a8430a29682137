"""What a model consists of: counted against the file's own tables, and an INT8 recipe held to its promise."""

from __future__ import annotations

import onnx
import pytest

from dfkit.errors import ConversionError
from dfkit.export.contents import onnx_contents, tflite_contents, with_contents
from dfkit.export.graph import EncodeGraph
from dfkit.runtime.inspection import inspect_tflite
from tests.export.conftest import Converted


def test_operators_of_the_default_student_by_arithmetic(converted: Converted) -> None:
    backend = converted.stages["tflite int8"].backend
    operators = backend.operators
    assert operators["CONV_2D"] == {"static": 6} and operators["MAX_POOL_2D"] == {"static": 4}
    # Projections of six directions, the products of one step, dense layers, the head.
    assert operators["FULLY_CONNECTED"]["dynamic"] == 6 + 6 + 3 + 1
    assert set(operators["FULLY_CONNECTED"]) == {"dynamic", "float"}
    assert set(operators["BATCH_MATMUL"]) == {"float"}, "attention and MFCC alone: none of trained weights"
    onnx_operators = converted.stages["onnx int8"].backend.operators
    assert onnx_operators["Conv"] == {"static": 6} and onnx_operators["GRU"] == {"weight-only": 3}
    assert "DequantizeLinear" not in onnx_operators
    for name in ("tflite fp32", "onnx fp32"):
        floats = converted.stages[name].backend
        assert {kind for kinds in floats.operators.values() for kind in kinds} == {"float"}
        assert floats.int8_share is None and "int8" not in floats.constant_bytes


def test_constants_add_up(converted: Converted) -> None:
    (model,) = converted.stages["tflite int8"].files.values()
    backend = converted.stages["tflite int8"].backend
    parts = inspect_tflite(model, "model.tflite").parts
    sizes = [size for part, found in parts.items() if part not in ("metadata", "tables") for size in found.values()]
    assert sum(backend.constant_bytes.values()) == sum(sizes)
    weights = sum(value.numel() for name, value in converted.student.named_parameters() if value.ndim > 1)
    parameters = sum(value.numel() for value in converted.student.parameters())
    # A folded window of conv3 has a fourth column, of zeros.
    folded = [part.first for part in EncodeGraph(converted.student).cnns.values()]
    zeros = sum(f.conv.weight.numel() - f.plain.weight.numel() for f in folded)
    assert zeros == 9 * (32 + 16)
    assert backend.constant_bytes["int8"] == weights + zeros
    assert backend.int8_share == pytest.approx((weights + zeros) / parameters, abs=1e-4)
    stored = 0
    for content in converted.stages["onnx int8"].files.values():
        for tensor in onnx.load_from_string(content).graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            stored += array.size if array.dtype.itemsize == 1 and array.size > 1 else 0
    share = converted.stages["onnx int8"].backend.int8_share
    assert share is not None and share > 0.98 and share == pytest.approx(stored / parameters, abs=2e-3)


def test_a_recipe_that_leaves_weights_in_float_fails(converted: Converted) -> None:
    plain = converted.stages["tflite fp32"]
    promised = plain.backend.model_copy(update={"recipe": "mixed_int8"})
    with pytest.raises(ConversionError, match=r"mixed_int8 stored 0\.0% of the trained parameters in 8 bits, 90%"):
        with_contents(promised, tflite_contents(plain.files["model.tflite"]), converted.student)
    files = {
        "encode.onnx": converted.stages["onnx int8"].files["encode.onnx"],
        "score.onnx": converted.stages["onnx fp32"].files["score.onnx"],
    }
    promised = converted.stages["onnx int8"].backend
    with pytest.raises(ConversionError, match="qdq_int8 stored"):
        with_contents(promised, onnx_contents(files), converted.student)
