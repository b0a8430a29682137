"""Holds a .tflite against what dfkit's exports are made of, before an interpreter sees it.

The interpreters trust a file: a crafted one writes past their heap while tensors are allocated (TensorFlow 2.21,
tensorflow #124982). Checked are the operators (`graph_operators`), every number that names something else, each
constant's size, quantization, that a tensor is made once and before it is used, and that shapes follow from shapes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from math import prod

from dfkit.errors import BundleError
from dfkit.runtime.flat_tables import (
    GraphRecord,
    MalformedError,
    ModelRecord,
    OperatorRecord,
    SignatureRecord,
    TensorRecord,
    read_graphs,
)
from dfkit.runtime.graph_operators import (
    DTYPES,
    FLOAT32,
    INT8,
    INT32,
    MANY,
    OPERATORS,
    Call,
    MismatchError,
    Operator,
    Shape,
)
from dfkit.runtime.tflite_file import FILE_IDENTIFIER, FIX_FILE

SCHEMA = 3
MAX_RANK = 5
MAX_TENSOR_BYTES = 1 << 28
"""Of one tensor; a batch of 50 faces in float32 has 30 MB."""
MAX_VALUES_BYTES = 1 << 31
"""Of all values that a graph computes, each with memory of its own; the original network's have 0.1 GB."""
MAX_SCALE = 1e6
"""Largest quantization scale: 127 times that is no activation."""
ZERO_POINTS = {INT8: (-128, 127), INT32: (0, 0)}
LEFT_OUT = -1
FIX = f"{FIX_FILE}, or run dfkit export anew"


def check_tflite(content: bytes, *, where: str) -> None:
    """Refuses a .tflite that is not made as dfkit makes them.

    Args:
        content: Of the file.
        where: Named in errors.
    Raises:
        BundleError: Names signature, operator or tensor, and what does not fit.
    """
    if content[4:8] != FILE_IDENTIFIER:
        raise BundleError(f"{where} is not a .tflite file", fix=FIX_FILE)
    try:
        model = read_graphs(content)
        _check_model(model)
        named = {signature.graph for signature in model.signatures}
        callable_graphs = {number: graph for number, graph in enumerate(model.graphs) if number not in named}
        for number, graph in enumerate(model.graphs):
            name = next((s.key for s in model.signatures if s.graph == number), None)
            label = f"signature {name}" if name is not None else f"subgraph {number}"
            # What is called calls nothing itself: no graph can come back to itself.
            may_call = callable_graphs if number in named else {}
            _GraphCheck(content, model, graph, label, may_call).run()
    except (MalformedError, struct.error) as error:
        raise BundleError(f"{where} is damaged: {error}", fix=FIX_FILE) from error
    except MismatchError as error:
        raise BundleError(f"{where} is not as dfkit makes its files: {error}", fix=FIX) from error


def _need(holds: bool, found: str) -> None:
    if not holds:
        raise MismatchError(found)


def _check_model(model: ModelRecord) -> None:
    """What the graphs share: version, operator codes, buffers, metadata, signatures."""
    _need(model.version == SCHEMA, f"schema version {model.version}, expected {SCHEMA}")
    _need(not model.unknown, f"it has {', '.join(model.unknown)}")
    for code in model.codes:
        known = not code.custom and code.builtin in OPERATORS
        _need(known, f"operator {code.custom or code.builtin}, which no export has")
    _need(bool(model.buffers) and model.buffers[0][1] == 0, "buffer 0 is not the empty one")
    for number in model.metadata:
        _need(number < len(model.buffers), f"metadata in buffer {number} of {len(model.buffers)}")
    _need(bool(model.graphs), "it has no graph")
    keys, graphs = [s.key for s in model.signatures], [s.graph for s in model.signatures]
    _need(len(set(keys)) == len(keys), f"signatures {keys}, one of them twice")
    _need(len(set(graphs)) == len(graphs), f"signatures {keys} share a graph")
    for signature in model.signatures:
        _check_signature(signature, model)


def _check_signature(signature: SignatureRecord, model: ModelRecord) -> None:
    where = f"signature {signature.key}"
    _need(signature.graph < len(model.graphs), f"{where}: subgraph {signature.graph} of {len(model.graphs)}")
    graph = model.graphs[signature.graph]
    for what, named, tensors in (
        ("inputs", signature.inputs, graph.inputs),
        ("outputs", signature.outputs, graph.outputs),
    ):
        _need(sorted(named.values()) == sorted(tensors), f"{where}: its {what} are not its graph's")


class _GraphCheck:
    """One graph, operator by operator."""

    def __init__(
        self,
        content: bytes,
        model: ModelRecord,
        graph: GraphRecord,
        label: str,
        callable_graphs: Mapping[int, GraphRecord],
    ) -> None:
        self._content, self._model, self._graph, self._label = content, model, graph, label
        self._callable_graphs = callable_graphs
        self._constant = [False] * len(graph.tensors)
        self._int32: dict[int, Shape] = {}

    def run(self) -> None:
        """Tensors first, then operators in the order in which they run."""
        graph, label = self._graph, self._label
        computed_bytes = 0
        for number, tensor in enumerate(graph.tensors):
            try:
                size = self._check_tensor(number, tensor)
            except MismatchError as error:
                raise MismatchError(f"{label}, tensor {number}: {error}") from error
            computed_bytes += 0 if self._constant[number] else size
        _need(computed_bytes <= MAX_VALUES_BYTES, f"{label}: its values have {computed_bytes} bytes")
        known = list(self._constant)
        self._check_ends(known)
        for number, operator in enumerate(graph.operators):
            _need(operator.code < len(self._model.codes), f"{label}, operator {number}: unknown code {operator.code}")
            kind = OPERATORS[self._model.codes[operator.code].builtin]
            try:
                self._check_operator(kind, operator, known)
            except MismatchError as error:
                raise MismatchError(f"{label}, operator {number} ({kind.name}): {error}") from error
        for tensor_number in graph.outputs:
            _need(known[tensor_number], f"{label}: output tensor {tensor_number} is made by no operator")

    def _check_tensor(self, number: int, tensor: TensorRecord) -> int:
        """Type, shape, constant and quantization; the bytes that it takes."""
        _need(not tensor.unknown, f"it has {', '.join(tensor.unknown)}")
        _need(tensor.dtype in DTYPES, f"type {tensor.dtype}, which no export has")
        name, item_bytes = DTYPES[tensor.dtype]
        shape = tensor.shape
        _need(len(shape) <= MAX_RANK, f"{len(shape)} axes, {MAX_RANK} at most")
        _need(not shape or min(shape) >= 1, f"the shape {shape}, expected sizes from 1 on")
        size = prod(shape) * item_bytes
        _need(size <= MAX_TENSOR_BYTES, f"{size} bytes, {MAX_TENSOR_BYTES} at most")
        _need(tensor.buffer < len(self._model.buffers), f"buffer {tensor.buffer} of {len(self._model.buffers)}")
        held = self._model.buffers[tensor.buffer][1]
        self._constant[number] = held > 0
        _need(held in (0, size), f"{name} {shape} takes {size} bytes, its constant has {held}")
        if tensor.scales or tensor.zero_points:
            _check_quantization(tensor)
        else:
            _need(tensor.dtype != INT8, "int8 without a scale")
        return size

    def _check_ends(self, known: list[bool]) -> None:
        """Inputs come from outside, outputs are there; what is given is known from here on."""
        graph, label = self._graph, self._label
        for number in (*graph.inputs, *graph.outputs):
            _need(0 <= number < len(graph.tensors), f"{label}: tensor {number} of {len(graph.tensors)}")
            _need(graph.tensors[number].dtype in (FLOAT32, INT8), f"{label}: tensor {number} is no float32 or int8")
        _need(len(set(graph.inputs)) == len(graph.inputs), f"{label}: an input twice")
        _need(bool(graph.outputs), f"{label}: no output")
        for number in graph.inputs:
            _need(not self._constant[number], f"{label}: input tensor {number} is a constant")
            known[number] = True

    def _check_operator(self, kind: Operator, operator: OperatorRecord, known: list[bool]) -> None:
        tensors = self._graph.tensors
        _need(not operator.unknown, f"it has {', '.join(operator.unknown)}")
        fewest, most = kind.num_inputs
        count, num_outputs = len(operator.inputs), len(operator.outputs)
        _need(fewest <= count <= most, f"{count} inputs, expected {fewest} to {most}")
        _need(1 <= num_outputs <= kind.most_outputs, f"{num_outputs} outputs, expected 1 to {kind.most_outputs}")
        if kind.options_type and (operator.options_type or not kind.options_may_lack):
            found = operator.options_type, operator.options is not None
            _need(found == (kind.options_type, True), f"options of kind {found[0]}, expected {kind.options_type}")
        for place, number in enumerate(operator.inputs):
            if number == LEFT_OUT and place == kind.optional:
                continue
            _need(0 <= number < len(tensors), f"input {place} is tensor {number} of {len(tensors)}")
            _need(known[number], f"input {place} is tensor {number}, which nothing made before")
        for number in operator.outputs:
            _need(0 <= number < len(tensors), f"an output is tensor {number} of {len(tensors)}")
            _need(not known[number], f"its output, tensor {number}, is there already")
            known[number] = True
        inputs = tuple([None if number == LEFT_OUT else tensors[number] for number in operator.inputs])
        outputs = [tensors[number] for number in operator.outputs]
        _check_types(kind, inputs, outputs)
        if kind.activations is not None and operator.options is not None:
            field, known_ones = kind.activations
            activation = operator.options.byte(field)
            _need(activation in known_ones, f"fused activation {activation}")
        call = Call(inputs, tuple(outputs), operator.options, self._reader(operator), self._callable_graphs)
        expected = kind.rule(call)
        stated = [tensor.shape for tensor in outputs]
        _need(stated == expected, f"its inputs give {_text(expected)}, the file states {_text(stated)}")

    def _reader(self, operator: OperatorRecord) -> Callable[[int], Shape]:
        def read(place: int) -> Shape:
            number = operator.inputs[place]
            tensor = self._graph.tensors[number]
            _need(tensor.dtype == INT32 and self._constant[number], f"input {place} is no int32 constant")
            values = self._int32.get(tensor.buffer)
            if values is None:
                start, size = self._model.buffers[tensor.buffer]
                values = self._int32[tensor.buffer] = struct.unpack_from(f"<{size // 4}i", self._content, start)
            return values

        return read


def _check_quantization(tensor: TensorRecord) -> None:
    """One scale, or one per channel; each with a zero point of the type."""
    scales, zero_points = tensor.scales, tensor.zero_points
    _need(tensor.dtype in ZERO_POINTS, "a scale for a type that has none")
    _need(len(zero_points) == len(scales), f"{len(scales)} scales and {len(zero_points)} zero points")
    if len(scales) != 1 or tensor.axis:
        _need(0 <= tensor.axis < len(tensor.shape), f"scales along axis {tensor.axis} of {tensor.shape}")
    if len(scales) != 1:
        _need(
            len(scales) == tensor.shape[tensor.axis], f"{len(scales)} scales along axis {tensor.axis} of {tensor.shape}"
        )
    _need(all(math.isfinite(s) and 0 < s <= MAX_SCALE for s in scales), "a scale that is zero, negative or no number")
    low, high = ZERO_POINTS[tensor.dtype]
    _need(low <= min(zero_points) and max(zero_points) <= high, f"zero points outside of {low} to {high}")


def _check_types(kind: Operator, inputs: tuple[TensorRecord | None, ...], outputs: list[TensorRecord]) -> None:
    given = [tensor for tensor in inputs if tensor is not None]
    types, answers = [tensor.dtype for tensor in given], {tensor.dtype for tensor in outputs}
    if kind.num_inputs[1] == MANY:
        types = sorted(set(types))
    alike = len(answers) == 1 and (*types, *answers) in kind.types
    _need(alike, f"{_names(types)} to {_names(sorted(answers))}, which no export has")
    for tensor in (*given, *outputs):
        _need(len(tensor.shape) <= kind.max_rank, f"{len(tensor.shape)} axes, {kind.max_rank} at most")
    for place, values in enumerate(inputs):
        if values is not None and len(values.scales) > 1:
            # A kernel reads a scale per channel where there is more than one.
            fits = (place, values.axis) in kind.channels(inputs)
            _need(fits, f"input {place} has a scale per place of axis {values.axis}")
    _need(all(len(tensor.scales) <= 1 for tensor in outputs), "an output with several scales")


def _names(types: list[int]) -> str:
    return ", ".join(DTYPES[number][0] for number in types)


def _text(shapes: list[Shape]) -> str:
    """Each shape once: a split may have fifty of one."""
    return " and ".join(f"[{', '.join(map(str, shape))}]" for shape in dict.fromkeys(shapes))
