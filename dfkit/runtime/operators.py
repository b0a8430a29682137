"""How a model file computes: its operators by arithmetic, and its constants by type.

Kinds of arithmetic:

- `static`: INT8 in and out, by ranges that calibration fixed;
- `dynamic`: INT8 weights against activations that are rounded while it runs;
- `weight-only`: INT8 weights that are turned into float before they are used;
- `float`: no INT8 at all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from dfkit.runtime.tflite_file import buffer_bytes, dtype_name, operator_name

Kind = Literal["static", "dynamic", "weight-only", "float"]
ONNX_FLOAT_STORES = frozenset({"DequantizeLinear", "QuantizeLinear"})
ONNX_EIGHT_BITS = (2, 3)
"""TensorProto.UINT8 and INT8."""


def tflite_operators(tables: Any, graph: Any) -> dict[str, dict[str, int]]:
    """Operators of one subgraph: count by name, then by kind, most frequent first.

    Args:
        tables: From `read_tables`.
        graph: One of its subgraphs.
    """
    found: dict[str, Counter[str]] = {}
    for operator in graph.operators:
        name = operator_name(tables, operator)
        found.setdefault(name, Counter())[_tflite_kind(tables, graph, operator)] += 1
    return _sorted(found)


def _tflite_kind(tables: Any, graph: Any, operator: Any) -> Kind:
    if any(dtype_name(graph.tensors[i]) == "int8" for i in operator.outputs):
        return "static"
    given = [graph.tensors[i] for i in operator.inputs if i >= 0]
    int8 = [tensor for tensor in given if dtype_name(tensor) == "int8"]
    if not int8:
        return "float"
    if operator_name(tables, operator) == "DEQUANTIZE":
        return "weight-only" if _is_constant(tables, int8[0]) else "static"
    return "dynamic" if all(_is_constant(tables, tensor) for tensor in int8) else "static"


def _is_constant(tables: Any, tensor: Any) -> bool:
    buffer = tables.buffers[tensor.buffer]
    return bool(buffer.size) or buffer.data is not None


def constants_by_dtype(content: bytes, tables: Any) -> dict[str, int]:
    """Bytes of a .tflite's constants by type, each buffer once, largest first."""
    types = {tensor.buffer: dtype_name(tensor) for graph in tables.subgraphs for tensor in graph.tensors}
    sizes: Counter[str] = Counter()
    for number, dtype in types.items():
        sizes[dtype] += len(buffer_bytes(content, tables.buffers[number]))
    return {dtype: size for dtype, size in sizes.most_common() if size}


def unnamed_graphs(tables: Any) -> list[int]:
    """Numbers of the graphs that no signature names: those that others call."""
    named = {int(signature.subgraphIndex) for signature in tables.signatureDefs or []}
    return [number for number in range(len(tables.subgraphs)) if number not in named]


def shared_dynamic_products(tables: Any) -> int:
    """BATCH_MATMULs of dynamic INT8 that share their weights with another one, or that stand in a graph which others
    call: not portable, see `FusedBiGru`."""
    readers: Counter[tuple[int, int]] = Counter()
    called = set(unnamed_graphs(tables))
    for number, graph in enumerate(tables.subgraphs):
        for operator in graph.operators:
            if operator_name(tables, operator) == "BATCH_MATMUL" and _tflite_kind(tables, graph, operator) == "dynamic":
                int8 = [i for i in operator.inputs if dtype_name(graph.tensors[i]) == "int8"]
                readers[number, int(int8[0])] += 2 if number in called else 1
    return sum(count for count in readers.values() if count > 1)


def onnx_operators(graph: Any) -> dict[str, dict[str, int]]:
    """Operators of an ONNX graph, likewise; what only stores numbers is left out: QuantizeLinear and its inverse, and
    the Cast and Mul that make INT8 weights float."""
    constants = {tensor.name for tensor in graph.initializer}
    eight_bits = {tensor.name for tensor in graph.initializer if tensor.data_type in ONNX_EIGHT_BITS}
    cast = {node.output[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in eight_bits}
    scaled = {node.output[0] for node in graph.node if node.op_type == "Mul" and node.input[0] in cast}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    found: dict[str, Counter[str]] = {}
    for node in graph.node:
        if node.op_type in ONNX_FLOAT_STORES or node.output[0] in cast | scaled:
            continue
        kind: Kind = "float"
        if any(name in source and source[name] not in constants for name in node.input):
            kind = "static"
        elif any(name in source or name in scaled for name in node.input):
            kind = "weight-only"
        found.setdefault(node.op_type, Counter())[kind] += 1
    return _sorted(found)


def merged(parts: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """The operators of several graphs together."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for name, kinds in part.items():
            total.setdefault(name, Counter()).update(kinds)
    return _sorted(total)


def _sorted(found: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    names = sorted(found, key=lambda name: (-found[name].total(), name))
    return {name: dict(sorted(found[name].items())) for name in names}
