"""Joins the parts of `score` to one graph whose recurrence is stored once and called for each step.

TFLite has no GRU, and litert-torch lowers no loops: unrolled, fifty steps are 1,300 operators, and XNNPACK keeps a
packed copy of the weights for every product (20 MB, which no cache holds). So the converter sees three graphs, what
comes before the recurrence, one step, and what comes behind it, and this module makes one of the first and the last,
with an IF for each step in between whose branches are both the step: TFLite's way to call a graph. A WHILE would copy
the gates of all steps in every round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dfkit.export.compact import write_tables
from dfkit.runtime.tflite_file import buffer_bytes, read_tables, text_of

GATES, STEP, LOGITS = "score_gates", "score_step", "score_logits"
"""Signatures of the three parts."""
SCORE = "score"
"""Signature of the whole."""
_INT32, _BOOL = 2, 6
"""Numbers of the schema's TensorType."""


def join_recurrence(model: bytes) -> bytes:
    """Makes one signature of the three parts.

    Args:
        model: A .tflite with the signatures `score_gates`, `score_step` and `score_logits`, and any others.
    Returns:
        The file with `score` in their place.
    """
    from ai_edge_litert import schema_py_generated as schema

    tables = read_tables(model, where="the converted model")
    data = [buffer_bytes(model, buffer) for buffer in tables.buffers]
    by_key = {text_of(signature.signatureKey): signature for signature in tables.signatureDefs}
    gates, step, logits = (by_key[key] for key in (GATES, STEP, LOGITS))
    whole = tables.subgraphs[gates.subgraphIndex]
    behind = tables.subgraphs[logits.subgraphIndex]
    of_steps, *past = _in_order(gates.outputs)
    states = _Joiner(schema, tables, data, whole).call_steps(of_steps, step.subgraphIndex)
    place = _append(whole, behind, dict(zip(_in_order(logits.inputs), [states, *past], strict=True)))
    gates.signatureKey, gates.outputs = SCORE, logits.outputs
    for output in gates.outputs:
        output.tensorIndex = place[int(output.tensorIndex)]
    _drop_graph(tables, logits.subgraphIndex)
    tables.signatureDefs = [s for s in tables.signatureDefs if s is not step and s is not logits]
    return write_tables(tables, data)


def _in_order(entries: Any) -> list[int]:
    """Tensors of a signature's inputs or outputs, `args_0` or `output_0` first."""
    return [int(entry.tensorIndex) for entry in sorted(entries, key=lambda each: text_of(each.name))]


def _append(whole: Any, part: Any, given: dict[int, int]) -> dict[int, int]:
    """Puts a graph behind another one, which gives it its inputs; gives its tensors' new numbers."""
    place = {-1: -1, **given}
    for number, tensor in enumerate(part.tensors):
        if number not in given:
            place[number] = len(whole.tensors)
            whole.tensors.append(tensor)
    for operator in part.operators:
        operator.inputs = [place[int(number)] for number in operator.inputs]
        operator.outputs = [place[int(number)] for number in operator.outputs]
    whole.operators += part.operators
    whole.outputs = [place[int(number)] for number in part.outputs]
    return place


def _drop_graph(tables: Any, dropped: int) -> None:
    """Takes a graph out; those behind it move up."""
    del tables.subgraphs[dropped]
    for signature in tables.signatureDefs:
        signature.subgraphIndex -= signature.subgraphIndex > dropped
    for graph in tables.subgraphs:
        for operator in graph.operators:
            options = operator.builtinOptions
            for branch in ("thenSubgraphIndex", "elseSubgraphIndex"):
                if hasattr(options, branch):
                    setattr(options, branch, getattr(options, branch) - (getattr(options, branch) > dropped))


class _Joiner:
    """Adds operators to one graph."""

    def __init__(self, schema: Any, tables: Any, data: list[bytes], graph: Any) -> None:
        self._schema, self._tables, self._data, self._graph = schema, tables, data, graph

    def call_steps(self, gates: int, step: int) -> int:
        """The recurrence: gates of all steps to the states of all steps.

        Args:
            gates: Their tensor.
            step: Number of the graph that takes gates and state of one step and gives the next state.
        Returns:
            The tensor of the states, (T * rows, H).
        """
        taken = self._tables.subgraphs[step]
        gate_shape, state_shape = (tuple(taken.tensors[int(n)].shape) for n in taken.inputs)
        num_steps = self._graph.tensors[gates].shape[0] // gate_shape[0]
        of_steps = self._split(gates, num_steps, gate_shape)
        state = self._constant(np.zeros(state_shape, np.float32))
        always = self._constant(np.array(True))
        options = self._schema.IfOptionsT()
        options.thenSubgraphIndex = options.elseSubgraphIndex = step
        states = []
        for of_step in of_steps:
            (state,) = self._operator("IF", [always, of_step, state], [state_shape], options)
            states.append(state)
        options = self._schema.ConcatenationOptionsT()
        options.axis = 0
        return self._operator("CONCATENATION", states, [(num_steps * state_shape[0], state_shape[1])], options)[0]

    def _split(self, values: int, count: int, shape: tuple[int, ...]) -> list[int]:
        options = self._schema.SplitOptionsT()
        options.numSplits = count
        axis = self._constant(np.array(0, np.int32))
        return self._operator("SPLIT", [axis, values], [shape] * count, options)

    def _constant(self, value: np.ndarray) -> int:
        self._data.append(value.tobytes())
        number = self._tensor(value.shape)
        tensor = self._graph.tensors[number]
        tensor.buffer = len(self._data) - 1
        tensor.type = {"int32": _INT32, "bool": _BOOL}.get(value.dtype.name, tensor.type)
        return number

    def _tensor(self, shape: tuple[int, ...]) -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.buffer = list(shape), 0
        # The quantizer, which goes by names, wants one of each tensor.
        tensor.name = f"recurrence_{len(self._graph.tensors)}".encode()
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _operator(self, name: str, inputs: list[int], shapes: list[tuple[int, ...]], options: Any) -> list[int]:
        """Adds an operator of float32 outputs; gives their tensors."""
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(name)
        operator.inputs, operator.outputs = inputs, [self._tensor(shape) for shape in shapes]
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._graph.operators.append(operator)
        return operator.outputs

    def _code(self, name: str) -> int:
        number = getattr(self._schema.BuiltinOperator, name)
        for place, code in enumerate(self._tables.operatorCodes):
            if code.builtinCode == number:
                return place
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.version = number, 1
        code.deprecatedBuiltinCode = min(number, 127)
        self._tables.operatorCodes.append(code)
        return len(self._tables.operatorCodes) - 1
