"""Makes a finished .tflite smaller without touching what it computes.

The unrolled recurrence repeats the same small constants (slice begins and sizes) fifty times, and every
tensor carries its module path as a name: together a third of an INT8 file. Signatures refer to tensors by
number, so names can go, but only after quantization, whose rules go by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dfkit.export.flat_writer import pack_tables
from dfkit.runtime.tflite_file import buffer_bytes, read_tables

ALIGNMENT = 16


def compact(model: bytes) -> bytes:
    """Drops names, shares equal constants, and writes the file anew.

    Args:
        model: Content of a .tflite file.
    Returns:
        Content of an equivalent file; constants are 16-byte aligned behind the tables, as kernels need.
    """
    content = read_tables(model, where="the converted model")
    data = [buffer_bytes(model, buffer) for buffer in content.buffers]
    for graph in content.subgraphs:
        _drop_names(graph)
        _share_constants(graph, data)
    used = sorted(
        {0}
        | {tensor.buffer for graph in content.subgraphs for tensor in graph.tensors}
        | {entry.buffer for entry in content.metadata or []}
    )
    number_of = {old: new for new, old in enumerate(used)}
    for graph in content.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = number_of[tensor.buffer]
    for entry in content.metadata or []:
        entry.buffer = number_of[entry.buffer]
    content.metadataBuffer = None
    return write_tables(content, [data[old] for old in used])


def embed(model: bytes, name: str, value: bytes) -> bytes:
    """Puts an entry into a file's metadata; what it computes stays as it is.

    Args:
        model: Content of a .tflite file.
        name: Of the entry; one of that name is replaced.
        value: Its content.
    Returns:
        Content of the new file.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = read_tables(model, where="the converted model")
    data = [buffer_bytes(model, buffer) for buffer in content.buffers]
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(data)
    others = [e for e in content.metadata or [] if e.name not in (name, name.encode())]
    content.metadata = [*others, entry]
    return write_tables(content, [*data, value])


def _drop_names(graph: Any) -> None:
    outside = {int(i) for i in [*graph.inputs, *graph.outputs]}
    for number, tensor in enumerate(graph.tensors):
        if number not in outside:
            tensor.name = None
        _drop_ranges(tensor)


def _drop_ranges(tensor: Any) -> None:
    """Takes away what calibration left: what runs reads scale and zero point alone."""
    quantization = tensor.quantization
    if quantization is None:
        return
    quantization.min = quantization.max = None
    if quantization.scale is None or not len(quantization.scale):
        tensor.quantization = None


def _share_constants(graph: Any, data: list[bytes]) -> None:
    """Lets operators read one tensor where several hold the same constant, and drops those that nothing reads."""
    first_of: dict[Any, int] = {}
    stand_in: dict[int, int] = {}
    for number, tensor in enumerate(graph.tensors):
        content = data[tensor.buffer]
        if not content or tensor.sparsity is not None:
            continue
        scale = tensor.quantization.scale if tensor.quantization is not None else None
        if scale is not None and len(scale) > 0:
            continue  # quantized weights: no two are alike
        shape = () if tensor.shape is None else tuple(int(n) for n in tensor.shape)
        stand_in[number] = first_of.setdefault((tensor.type, shape, content), number)
    for operator in graph.operators:
        operator.inputs = _numbers(stand_in.get(int(i), int(i)) for i in operator.inputs)
    read = {int(i) for op in graph.operators for i in [*op.inputs, *op.outputs]}
    read |= {int(i) for op in graph.operators for i in (op.intermediates if op.intermediates is not None else [])}
    read |= {int(i) for i in [*graph.inputs, *graph.outputs]}
    kept = [number for number in range(len(graph.tensors)) if number in read]
    # Signatures name inputs and outputs by number: only tensors behind the last of those may move.
    fixed = max(int(i) for i in [*graph.inputs, *graph.outputs])
    kept = sorted(set(kept) | set(range(fixed + 1)))
    number_of = {old: new for new, old in enumerate(kept)} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in kept]
    for operator in graph.operators:
        operator.inputs = _numbers(number_of[int(i)] for i in operator.inputs)
        operator.outputs = _numbers(number_of[int(i)] for i in operator.outputs)


def _numbers(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, np.int32)


def write_tables(content: Any, data: list[bytes]) -> bytes:
    """A file of these tables and constants, packed twice: constants start where the tables end."""
    from ai_edge_litert import schema_py_generated as schema

    def pack(base: int) -> tuple[bytes, bytes]:
        tail = bytearray()
        content.buffers = []
        for constant in data:
            buffer = schema.BufferT()
            if constant:
                tail += bytes(-len(tail) % ALIGNMENT)
                buffer.offset, buffer.size = base + len(tail), len(constant)
                tail += constant
            content.buffers.append(buffer)
        tables = pack_tables(content)
        return tables + bytes(-len(tables) % ALIGNMENT), bytes(tail)

    # Offsets of 2 and more are all stored in full, so the second packing has the size of the first.
    tables, _ = pack(ALIGNMENT)
    tables_again, tail = pack(len(tables))
    assert len(tables) == len(tables_again)
    return tables_again + tail
