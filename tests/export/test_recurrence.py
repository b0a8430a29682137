"""The recurrence as one step that `score` calls, and the file that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfkit.errors import ConversionError
from dfkit.export.compact import compact
from dfkit.export.contents import tflite_contents
from dfkit.export.converter import convert_graphs
from dfkit.export.flat_writer import pack_tables
from dfkit.export.recurrence import GATES, LOGITS, STEP, join_recurrence
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.graph_check import check_tflite
from dfkit.runtime.inspection import inspect_tflite
from dfkit.runtime.tflite_file import read_tables, text_of
from tests.export.conftest import Converted
from tests.export.test_runtimes import dynamic_int8

T, ROWS = 5, 3


class Gates(nn.Module):
    def forward(self, steps: Tensor) -> Tensor:
        return steps * 2


class Step(nn.Module):
    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        return state * 0.5 + gates[:, :2] - gates[:, 2:]


class BatchedStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(ROWS, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.1)

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(torch.bmm(state[:, None], self.get_buffer("weight"))[:, 0] + gates)


class Logits(nn.Module):
    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return states.reshape(T, -1)[:, :2], states.mean(dim=0, keepdim=True)


def joined(step: nn.Module, gates: int, state: int, *, other: bool = False) -> bytes:
    parts: list[Any] = [
        (GATES, Gates().eval(), (torch.zeros(T * ROWS, gates),)),
        (STEP, step.eval(), (torch.zeros(ROWS, gates), torch.zeros(ROWS, state))),
        (LOGITS, Logits().eval(), (torch.zeros(T * ROWS, state),)),
    ]
    if other:
        # Behind the parts: its number changes when they become two graphs.
        parts.append(("encode", Gates().eval(), (torch.zeros(1, 2),)))
    return join_recurrence(convert_graphs(parts))


def test_steps_run_in_order_from_a_state_of_zeros() -> None:
    """By hand in numpy: state / 2 + what the step brings."""
    for content in (joined(Step(), 4, 2, other=True), compact(joined(Step(), 4, 2, other=True))):
        check_tflite(content, where="joined")
        given = np.random.default_rng(0).standard_normal((T * ROWS, 4)).astype(np.float32)
        state, states = np.zeros((ROWS, 2)), []
        for gates in 2 * given.reshape(T, ROWS, 4):
            state = state / 2 + gates[:, :2] - gates[:, 2:]
            states.append(state)
        interpreter = TfliteGraphs.interpreter_class()(model_content=content, num_threads=1)
        assert sorted(interpreter.get_signature_list()) == ["encode", "score"]
        answer = interpreter.get_signature_runner("score")(args_0=given)
        np.testing.assert_allclose(answer["output_0"], np.reshape(states, (T, -1))[:, :2], atol=1e-5)
        np.testing.assert_allclose(answer["output_1"], np.mean(states, axis=(0, 1))[None], atol=1e-5)
        other = interpreter.get_signature_runner("encode")(args_0=np.array([[3, 4]], np.float32))
        np.testing.assert_array_equal(other["output_0"], [[6, 8]])


def test_a_batched_product_in_the_step_is_caught(tmp_path: Path) -> None:
    """One operator, run once a step: TensorFlow 2.16 was 1.3 off with it."""
    content = dynamic_int8(joined(BatchedStep(), 128, 128), tmp_path)
    with pytest.raises(ConversionError, match="2 BATCH_MATMULs of dynamic INT8 share their weights"):
        tflite_contents(content)


def test_default_student_is_small(converted: Converted) -> None:
    content = converted.stages["tflite int8"].files["model.tflite"]
    facts = inspect_tflite(content, "model.tflite")
    step = next(graph for graph in facts.graphs if graph.name == "called graph 2")
    score = next(graph for graph in facts.graphs if graph.name == "score")
    assert score.operators["IF"] == 50 and sum(score.operators.values()) < 250
    assert step.operators["FULLY_CONNECTED"] == 6 and sum(step.operators.values()) < 30
    # Unrolled it was 998 kB, 212 of them tables; the manifest adds 10.
    assert sum(facts.parts["tables"].values()) < 60_000
    assert len(content) < 840_000


def test_equal_tables_are_stored_once(converted: Converted) -> None:
    """What is read back is what was packed, in less than 0.7 of the bytes that the schema's own packing takes."""
    import flatbuffers

    tables = read_tables(converted.stages["tflite int8"].files["model.tflite"], where="test")
    builder = flatbuffers.Builder(1024)
    builder.Finish(tables.Pack(builder), b"TFL3")
    plain, shared = bytes(builder.Output()), pack_tables(tables)
    assert len(shared) < 0.7 * len(plain)
    assert plain_values(read_tables(shared, where="test")) == plain_values(read_tables(plain, where="test"))
    assert pack_tables(tables) == shared


def plain_values(value: Any) -> Any:
    """An object of the schema as plain lists."""
    if hasattr(value, "Pack"):
        return {name: plain_values(each) for name, each in vars(value).items()}
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, list | np.ndarray):
        return [plain_values(each) for each in value]
    return value
