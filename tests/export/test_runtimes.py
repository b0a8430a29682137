"""The matrix of runtimes: a bundle of stressed weights through runtimes other than dfkit's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dfkit.errors import ConversionError, DfkitError
from dfkit.export.contents import tflite_contents
from dfkit.export.converter import convert_graphs
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.proven import SMALLEST
from tests.export.golden_bundle import stressed_student, write_chain, write_stressed
from tools.runtimes import environments, matrix, replay
from tools.runtimes.environments import LITERT, MATRIX, ONNX_RUNTIME, TENSORFLOW, Runtime, interpreter_of
from tools.runtimes.matrix import Cell, Row, replay_on

OLDER_LITERT = LITERT[2]
"""1.4.0, which answered the fused recurrence at random."""
ELSEWHERE = [runtime for runtime in MATRIX if runtime not in (TENSORFLOW, OLDER_LITERT)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stressed(tmp_path_factory.mktemp("stressed") / "bundle")


def check(bundle: Path, runtime: Runtime) -> None:
    row = replay_on(bundle, runtime)
    print(row.line())
    assert {cell.output for cell in row.cells} == {"face_features", "lip_features", "frame_logits", "clip_logits"}
    assert all(cell.answers == 30 * 3 * cell.cases for cell in row.cells)
    assert row.passed, row.line()


@pytest.mark.parametrize("runtime", [TENSORFLOW, OLDER_LITERT], ids=lambda runtime: runtime.name)
def test_other_runtimes_give_the_golden_answers(bundle: Path, runtime: Runtime) -> None:
    check(bundle, runtime)


@pytest.mark.long
@pytest.mark.parametrize("runtime", ELSEWHERE, ids=lambda runtime: runtime.name)
def test_all_runtimes_give_the_golden_answers(bundle: Path, runtime: Runtime) -> None:
    check(bundle, runtime)


def test_the_matrix_holds_what_a_bundle_names() -> None:
    named = {(package, version) for versions in SMALLEST.values() for package, version in versions.items()}
    assert named <= {(runtime.package, runtime.version) for runtime in MATRIX}
    assert len(LITERT) >= 3 and len(ONNX_RUNTIME) == 2


class Chain(nn.Module):
    """Steps of a recurrence by batched products of one weight tensor: what shipped once."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("weight", torch.randn(6, 128, 384, generator=torch.Generator().manual_seed(0)) * 0.1)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        state = value
        for _ in range(self.steps):
            state = torch.tanh(torch.bmm(state, self.get_buffer("weight"))[:, :, :128] + value)
        return state


def dynamic_int8(graph: bytes, folder: Path) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer

    before, after = folder / "before.tflite", folder / "after.tflite"
    before.write_bytes(graph)
    plan = quantizer.Quantizer(str(before))
    plan.add_dynamic_config(regex=".*", operation_name=qtyping.TFLOperationName("BATCH_MATMUL"), num_bits=8)
    plan.quantize(enable_progress_report=False).export_model(str(after))
    return after.read_bytes()


def test_products_that_share_their_weights_are_caught(tmp_path: Path) -> None:
    """dfkit's own runtime answers them right: only another one, in several interpreters, shows the fault."""
    value = torch.randn(6, 1, 128, generator=torch.Generator().manual_seed(1))
    chain = Chain(steps=2).eval()
    content = dynamic_int8(convert_graphs([("score", chain, (value,))]), tmp_path)
    with pytest.raises(ConversionError, match="2 BATCH_MATMULs of dynamic INT8 share their weights"):
        tflite_contents(content)
    interpreter = TfliteGraphs.interpreter_class()(model_content=content, num_threads=1)
    answer = interpreter.get_signature_runner("score")(args_0=value.numpy())["output_0"]
    with torch.no_grad():
        assert np.abs(answer - chain(value).numpy()).max() < 0.1
    folder = write_chain(tmp_path / "bundle", content, {"x": value.numpy()}, {"y": answer}, tolerance=0.05)
    here = replay_on(folder, Runtime("ai-edge-litert", "2.3.0", "tflite"), python=Path(sys.executable))
    assert here.passed, here.line()
    row = replay_on(folder, TENSORFLOW)
    print(row.line())
    assert not row.passed


def cell(**changes: Any) -> Cell:
    names = {"runtime": "r", "processor": "this", "set": "s", "part": "score", "output": "y"}
    values = {
        "cases": 1,
        "answers": 90,
        "worst": 1e-3,
        "single": 2e-3,
        "tolerance": 1e-2,
        "power": True,
        "spread": 0.0,
        "within": True,
    }
    return Cell(**{**names, **values, **changes})


def test_verdicts() -> None:
    assert cell().passed and Row(TENSORFLOW, "this", (cell(),)).passed
    assert not cell(spread=2e-6).passed
    assert not cell(within=False).passed
    assert not cell(worst=None, spread=None, within=False).passed
    assert not cell(answers=0).passed
    assert not Row(TENSORFLOW, "this", ()).passed
    weak = cell(power=False)
    assert not Row(TENSORFLOW, "this", (weak,)).passed and Row(TENSORFLOW, "this", (weak, cell(set="t"))).passed
    assert not Row(TENSORFLOW, "this", (weak, cell(output="z"))).passed
    assert not Row(TENSORFLOW, "this", (cell(),), error="it ended").passed
    assert "not a number" in Row(TENSORFLOW, "this", (cell(worst=None, spread=None, within=False),)).line()


def test_answers_are_judged() -> None:
    """By hand: two answers of three values each, 0.25 apart in one place, there 0.25 and 0.5 from the stored one."""
    stored, given = np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 3.25], [1.0, 2.0, 3.5]])
    judged = replay.judge([(stored, given)], 0.29, 2)
    assert judged.pop("worst") == pytest.approx(0.5 / 3**0.5)
    assert judged == {"single": 0.5, "spread": 0.25, "within": True}
    assert not replay.judge([(stored, given)], 0.28, 2)["within"], "root mean square"
    assert not replay.judge([(stored, given)], 0.29, 1.7)["within"], "a single value"
    for bad in (np.nan, np.inf):
        assert replay.judge([(stored, np.where(given == 3.5, bad, given))], 9.0, 5)["within"] is False
    assert replay.judge([], 9.0, 5)["within"] is False


def test_pictures_are_stored_as_the_manifest_says() -> None:
    """int8 with scale 1/255 and zero point -128 is uint8 XOR 0x80."""
    levels = np.arange(256, dtype=np.uint8)
    entry = {"dtype": "int8", "scale": 1 / 255, "zero_point": -128, "shape": [256]}
    np.testing.assert_array_equal(replay.to_graph(levels, entry), (levels ^ 0x80).view(np.int8))
    entry = {"dtype": "float32", "scale": 1.0, "zero_point": 0, "shape": [1, 256]}
    np.testing.assert_allclose(replay.to_graph(levels, entry), levels[None] / 255, rtol=1e-6)
    entry = {"dtype": "uint8", "scale": 1.0, "zero_point": 0, "shape": [256]}
    np.testing.assert_array_equal(replay.to_graph(levels, entry), levels)


def test_a_half_made_environment_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "KEPT", tmp_path / "runtimes")
    runtime = Runtime("ai-edge-litert", "0.0.0", "tflite")

    def interrupted(_: Runtime, folder: Path) -> None:
        (folder / "bin").mkdir()
        raise DfkitError("no network")

    monkeypatch.setattr(environments, "_install", interrupted)
    with pytest.raises(DfkitError, match="no network"):
        interpreter_of(runtime)
    assert list((tmp_path / "runtimes").iterdir()) == []


def test_a_spoilt_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "KEPT", tmp_path / "runtimes")
    runtime = Runtime("no-such-runtime", "1.0", "tflite")
    folder = tmp_path / "runtimes" / "no-such-runtime-1.0" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    with pytest.raises(DfkitError, match=r"no-such-runtime==1\.0 cannot be imported there"):
        interpreter_of(runtime)


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main([str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_a_runtime_that_the_bundle_refuses_is_not_tried(capsys: pytest.CaptureFixture[str]) -> None:
    described = stressed_student().stages["tflite int8"].backend
    backend = described.model_copy(update={"runtimes": {"ai-edge-litert": "2.1"}})
    refused = [matrix.is_refused(runtime, backend) for runtime in (*LITERT, TENSORFLOW)]
    assert refused == [False, False, True, True, False]
    assert "1.4.0    refused by name: the bundle is proven from 2.1 on" in capsys.readouterr().out
