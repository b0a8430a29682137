"""Packs a .tflite's tables so that what is there twice is stored once.

In a flatbuffer an offset may lead anywhere behind it: tensors of one shape and type are one table that many places of
the list point to, and so are options, quantization parameters, and vectors of equal numbers.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from dfkit.runtime.tflite_file import FILE_IDENTIFIER


def pack_tables(tables: Any) -> bytes:
    """A file of these tables.

    Args:
        tables: `ModelT` of the TFLite schema; left as it is.
    """
    builder = _SharingBuilder(1024)
    builder.Finish(_Shared(tables, {}).Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors of numbers and equal texts once."""

    def __init__(self, initial_size: int) -> None:
        super().__init__(initial_size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 (flatbuffers' name)
        return self._once(x.dtype.str, x.tobytes(), lambda: super(_SharingBuilder, self).CreateNumpyVector(x))

    def CreateString(self, s: Any, *options: Any) -> int:  # noqa: N802 (flatbuffers' name)
        content = s.encode() if isinstance(s, str) else bytes(s)
        return self._once("text", content, lambda: super(_SharingBuilder, self).CreateString(s, *options))

    def _once(self, kind: str, content: bytes, write: Any) -> int:
        if (kind, content) not in self._written:
            self._written[kind, content] = write()
        return self._written[kind, content]


class _Shared:
    """Stands for an object of the schema where its owner packs it: an equal one that was packed before serves again."""

    def __init__(self, packed: Any, offsets: dict[Any, int]) -> None:
        self._packed, self._offsets = packed, offsets

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 (the schema's name)
        key = _content(self._packed)
        if key not in self._offsets:
            copy = type(self._packed)()
            vars(copy).update({name: self._inside(value) for name, value in vars(self._packed).items()})
            self._offsets[key] = copy.Pack(builder)
        return self._offsets[key]

    def _inside(self, value: Any) -> Any:
        if hasattr(value, "Pack"):
            return _Shared(value, self._offsets)
        if isinstance(value, list) and value and hasattr(value[0], "Pack"):
            return [_Shared(each, self._offsets) for each in value]
        return value


def _content(value: Any) -> Any:
    """What two equal objects have in common, as a key."""
    if hasattr(value, "Pack"):
        return (type(value), *(_content(each) for each in vars(value).values()))
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tobytes())
    return tuple(_content(each) for each in value) if isinstance(value, list) else value
