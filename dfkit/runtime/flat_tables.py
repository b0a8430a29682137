"""Reads what a .tflite's tables say about its graphs into plain records, every offset held against the file's end.

`tflite_file.read_tables` unpacks all that the schema knows; this reads only what `graph_check` looks at, in a fifth
of the time: the check stands before a first start. Field numbers are those of the TFLite schema, version 3.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

_BYTE, _BOOL, _INT, _UINT, _ULONG, _FLOAT = (struct.Struct(f"<{code}").unpack_from for code in "b?iIQf")
_VTABLE_HEAD = struct.Struct("<HH").unpack_from
MAX_ITEMS = 100_000
"""Most tensors, operators or buffers of one file; the straight conversion of a teacher has 6,000 operators."""


class MalformedError(ValueError):
    """An offset that leads out of the file, or a table that is none."""


class FlatTable:
    """One table of a flatbuffer."""

    __slots__ = ("_content", "_places", "_vtables", "position")

    def __init__(self, content: bytes, position: int, vtables: dict[int, tuple[int, ...]]) -> None:
        """Looks the fields' places up; tables of one kind share a vtable, which is read once.

        Raises:
            MalformedError: The table or its vtable lies outside of the file.
        """
        self._content, self.position, self._vtables = content, position, vtables
        vtable = position - _INT(content, position)[0]
        places = vtables.get(vtable)
        if places is None:
            if vtable < 0:
                raise MalformedError(f"the table at byte {position} has its field list before the file")
            size, _ = _VTABLE_HEAD(content, vtable)
            places = struct.unpack_from(f"<{max(size - 4, 0) // 2}H", content, vtable + 4)
            vtables[vtable] = places
        self._places = places

    def _place(self, field: int) -> int:
        places = self._places
        place = places[field] if field < len(places) else 0
        return place and self.position + place

    def has(self, field: int) -> bool:
        """Whether the table holds a value of its own for a field."""
        return self._place(field) != 0

    def byte(self, field: int, default: int = 0) -> int:
        place = self._place(field)
        return _BYTE(self._content, place)[0] if place else default

    def flag(self, field: int) -> bool:
        place = self._place(field)
        return _BOOL(self._content, place)[0] if place else False

    def int32(self, field: int, default: int = 0) -> int:
        place = self._place(field)
        return _INT(self._content, place)[0] if place else default

    def uint32(self, field: int) -> int:
        place = self._place(field)
        return _UINT(self._content, place)[0] if place else 0

    def uint64(self, field: int) -> int:
        place = self._place(field)
        return _ULONG(self._content, place)[0] if place else 0

    def float32(self, field: int, default: float = 0.0) -> float:
        place = self._place(field)
        return _FLOAT(self._content, place)[0] if place else default

    def _vector(self, field: int) -> tuple[int, int]:
        """First byte and number of items; (0, 0) where there is none."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = place + _UINT(self._content, place)[0]
        return start + 4, _UINT(self._content, start)[0]

    def numbers(self, field: int, code: str = "i") -> tuple[Any, ...]:
        """A vector of numbers; `code` is that of `struct`."""
        start, count = self._vector(field)
        return struct.unpack_from(f"<{count}{code}", self._content, start) if count else ()

    def span(self, field: int) -> tuple[int, int]:
        """First byte and number of bytes of a vector of bytes.

        Raises:
            MalformedError: It reaches past the file's end.
        """
        start, count = self._vector(field)
        if start + count > len(self._content):
            raise MalformedError(f"{count} bytes from byte {start} on reach past the end")
        return start, count

    def text(self, field: int) -> str:
        start, count = self.span(field)
        return self._content[start : start + count].decode(errors="replace")

    def table(self, field: int) -> FlatTable | None:
        place = self._place(field)
        if not place:
            return None
        return FlatTable(self._content, place + _UINT(self._content, place)[0], self._vtables)

    def tables(self, field: int) -> list[FlatTable]:
        start, count = self._vector(field)
        if count > MAX_ITEMS:
            raise MalformedError(f"a list of {count} tables, {MAX_ITEMS} at most")
        offsets = struct.unpack_from(f"<{count}I", self._content, start) if count else ()
        places = [start + 4 * number + offset for number, offset in enumerate(offsets)]
        return [FlatTable(self._content, place, self._vtables) for place in places]


class TensorRecord(NamedTuple):
    """A tensor as its table states it."""

    shape: tuple[int, ...]
    dtype: int
    """Number in the schema's TensorType."""
    buffer: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    """The one along which `scales` run."""
    unknown: tuple[str, ...]
    """Fields that no export has: variables, sparsity, dynamic shapes and the like."""


class OperatorRecord(NamedTuple):
    """An operator as its table states it."""

    code: int
    """Place among the operator codes."""
    inputs: tuple[int, ...]
    """Tensors by number; -1 for one that is left out."""
    outputs: tuple[int, ...]
    options_type: int
    options: FlatTable | None
    unknown: tuple[str, ...]


class GraphRecord(NamedTuple):
    """A subgraph."""

    tensors: list[TensorRecord]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[OperatorRecord]


class SignatureRecord(NamedTuple):
    """A signature: its key, its graph, and the tensors behind its names."""

    key: str
    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


class CodeRecord(NamedTuple):
    """An operator code."""

    builtin: int
    custom: str


class ModelRecord(NamedTuple):
    """All graphs of a file."""

    version: int
    codes: list[CodeRecord]
    graphs: list[GraphRecord]
    buffers: list[tuple[int, int]]
    """First byte and number of bytes in the file."""
    metadata: list[int]
    """Buffer of each entry."""
    signatures: list[SignatureRecord]
    unknown: tuple[str, ...]


_TENSOR_UNKNOWN = {5: "is_variable", 6: "sparsity", 9: "variant_tensors", 10: "external_buffer"}
_OPERATOR_UNKNOWN = {
    5: "custom_options",
    7: "mutating_variable_inputs",
    8: "intermediates",
    9: "large_custom_options_offset",
    10: "large_custom_options_size",
    12: "builtin_options_2",
}
_MODEL_UNKNOWN = {8: "external_buffer_groups", 9: "external_buffers"}
_QUANTIZATION_DETAILS = 5


def read_graphs(content: bytes) -> ModelRecord:
    """Reads a .tflite's graphs.

    Raises:
        MalformedError, struct.error: An offset or a list leads out of the file.
    """
    model = FlatTable(content, _UINT(content, 0)[0], {})
    return ModelRecord(
        version=model.uint32(0),
        codes=[_code(table) for table in model.tables(1)],
        graphs=[_graph(table) for table in model.tables(2)],
        buffers=[_buffer(table, len(content)) for table in model.tables(4)],
        metadata=[table.uint32(1) for table in model.tables(6)],
        signatures=[_signature(table) for table in model.tables(7)],
        unknown=_present(model, _MODEL_UNKNOWN),
    )


def _present(table: FlatTable, names: dict[int, str]) -> tuple[str, ...]:
    return tuple([name for field, name in names.items() if table.has(field)])


def _code(table: FlatTable) -> CodeRecord:
    # Files of old converters keep the code in the byte that ran out of numbers.
    return CodeRecord(max(table.int32(3), table.byte(0)), table.text(1))


def _buffer(table: FlatTable, file_bytes: int) -> tuple[int, int]:
    """Constants lie in the table, or behind all tables at an offset above 1."""
    offset, size = table.uint64(1), table.uint64(2)
    if offset <= 1:
        return table.span(0)
    if table.has(0):
        raise MalformedError("a buffer has content inside and outside of the tables")
    if offset + size > file_bytes:
        raise MalformedError(f"a buffer of {size} bytes from byte {offset} on reaches past the file's {file_bytes}")
    return offset, size


def _graph(table: FlatTable) -> GraphRecord:
    return GraphRecord(
        [_tensor(each) for each in table.tables(0)],
        table.numbers(1),
        table.numbers(2),
        [_operator(each) for each in table.tables(3)],
    )


def _tensor(table: FlatTable) -> TensorRecord:
    shape = table.numbers(0)
    unknown = _present(table, _TENSOR_UNKNOWN)
    if table.has(7) and table.numbers(7) != shape:
        unknown = (*unknown, "shape_signature")
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis = 0
    quantization = table.table(4)
    if quantization is not None:
        scales, zero_points, axis = quantization.numbers(2, "f"), quantization.numbers(3, "q"), quantization.int32(6)
        if quantization.has(_QUANTIZATION_DETAILS):
            unknown = (*unknown, "quantization details")
    return TensorRecord(shape, table.byte(1), table.uint32(2), scales, zero_points, axis, unknown)


def _operator(table: FlatTable) -> OperatorRecord:
    return OperatorRecord(
        code=table.uint32(0),
        inputs=table.numbers(1),
        outputs=table.numbers(2),
        options_type=table.byte(3),
        options=table.table(4),
        unknown=_present(table, _OPERATOR_UNKNOWN),
    )


def _signature(table: FlatTable) -> SignatureRecord:
    def tensors(field: int) -> dict[str, int]:
        entries = table.tables(field)
        named = {entry.text(0): entry.uint32(1) for entry in entries}
        if len(named) != len(entries):
            raise MalformedError("a signature has a name twice")
        return named

    return SignatureRecord(table.text(2), table.uint32(4), tensors(0), tensors(1))
