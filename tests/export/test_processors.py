"""Golden vectors on processors of other generations, emulated by qemu-user: Haswell has no VNNI, Nehalem no AVX."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from onnxruntime import quantization

from dfkit.errors import DfkitError
from dfkit.export import onnx_graph
from dfkit.export.stages import onnx_stage
from tests.export.golden_bundle import stressed_student, write_stressed
from tools.runtimes.environments import Runtime
from tools.runtimes.matrix import Row, qemu, replay_on

# One run of `encode` there takes some seconds.
NUM_CASES = 2
ONNX = Runtime("onnxruntime", metadata.version("onnxruntime"), "onnx")
LITERT = Runtime("ai-edge-litert", metadata.version("ai-edge-litert"), "tflite")
REQUIRED = "DFKIT_QEMU"


@pytest.fixture(scope="module", autouse=True)
def emulator() -> str:
    """qemu-user, which runs this machine's own Python: that has to be one of Linux on x86-64."""
    missing = None
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        missing = "qemu-user emulates processors for programs of Linux on x86-64 only"
    else:
        try:
            return qemu()
        except DfkitError as error:
            missing = str(error)
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stressed(tmp_path_factory.mktemp("stressed") / "bundle")


def replayed(bundle: Path, runtime: Runtime, processor: str) -> Row:
    row = replay_on(
        bundle, runtime, processor=processor, interpreters=1, rounds=1, cases=NUM_CASES, python=Path(sys.executable)
    )
    print(row.line(), {cell.output: cell.worst for cell in row.cells})
    return row


def worst(row: Row, part: str) -> float:
    return max(float(cell.worst if cell.worst is not None else "nan") for cell in row.cells if cell.part == part)


@pytest.mark.parametrize("processor", ["Haswell", "Nehalem"])
@pytest.mark.parametrize("runtime", [ONNX, LITERT], ids=lambda runtime: runtime.package)
def test_older_processors_give_the_golden_answers(bundle: Path, runtime: Runtime, processor: str) -> None:
    row = replayed(bundle, runtime, processor)
    assert row.passed, row.line()
    assert len(row.cells) == 4
    if runtime == ONNX:
        # Integer sums of the convolutions are exact; the recurrence's floats are added in another order.
        assert worst(row, "encode") == 0.0 and worst(row, "score") < 1e-5


def test_signed_weights_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What shipped once: without VNNI, sums of two products of uint8 and int8 saturate at 16 bits."""
    original = quantization.quantize_static

    def signed(*args: Any, **kwargs: Any) -> None:
        original(*args, **{**kwargs, "weight_type": quantization.QuantType.QInt8})

    monkeypatch.setattr(quantization, "quantize_static", signed)
    student = stressed_student()
    plain = student.stages["onnx fp32"].files
    files = onnx_graph.quantize(plain, student.calibration, student.checkpoint.network)
    stage = onnx_stage(files, student.checkpoint, "qdq_int8", 0.0)
    row = replayed(write_stressed(tmp_path / "bundle", {"onnx": stage}), ONNX, "Haswell")
    assert worst(row, "encode") > 1e-3 and not row.passed
