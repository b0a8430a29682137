"""Reads a .tflite's tables without loading its graphs: metadata, and the manifest among them."""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from dfkit.errors import NOT_JSON, BundleError
from dfkit.runtime.manifest import MANIFEST_VERSION, Manifest, validation_faults

MANIFEST_ENTRY = "dfkit_manifest"
"""Name of the metadata entry that holds the manifest as JSON, without `files` and `metrics`."""
FILE_IDENTIFIER = b"TFL3"
FIX_FILE = "copy the file again from where it was exported"
# What the flatbuffers reader raises on offsets that lead nowhere.
_DAMAGED = (struct.error, IndexError, TypeError, ValueError, AttributeError, MemoryError, OverflowError)


def read_tables(content: bytes, *, where: str) -> Any:
    """Parses a file's flatbuffer tables into Python objects.

    Args:
        content: Of a .tflite file.
        where: Named in errors.
    Returns:
        `ModelT` of the TFLite schema.
    Raises:
        BundleError: Not a .tflite file, or damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != FILE_IDENTIFIER:
        raise BundleError(f"{where} is not a .tflite file", fix=FIX_FILE)
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content), 0))
    except _DAMAGED as error:
        raise BundleError(f"{where} is damaged: {type(error).__name__}: {error}", fix=FIX_FILE) from error


@lru_cache(maxsize=2)
def _names_of(enum: str) -> dict[int, str]:
    """Names of the TFLite schema's numbers."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enum)).items() if isinstance(value, int)}


def dtype_name(tensor: Any) -> str:
    """A tensor's type, such as `float32`.

    Raises:
        KeyError: The schema has no type of that number.
    """
    return _names_of("TensorType")[tensor.type].lower()


def operator_name(tables: Any, operator: Any) -> str:
    """An operator's name, such as `FULLY_CONNECTED`; a custom one's own.

    Raises:
        KeyError, IndexError: The schema has no operator of that number, or the file no such entry.
    """
    code = tables.operatorCodes[operator.opcodeIndex]
    # Files of old converters keep the code in the byte that ran out of numbers.
    return text_of(code.customCode) or _names_of("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]


def text_of(value: bytes | str | None) -> str:
    """A name of the tables as text; empty where there is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def buffer_bytes(content: bytes, buffer: Any) -> bytes:
    """Bytes of a constant, kept in the tables or behind them."""
    if buffer.offset > 1:
        return bytes(content[buffer.offset : buffer.offset + buffer.size])
    return b"" if buffer.data is None else bytes(bytearray(buffer.data))


def metadata_of(content: bytes, tables: Any) -> dict[str, bytes]:
    """Content of each metadata entry, by name."""
    entries = {}
    for entry in tables.metadata or []:
        entries[text_of(entry.name)] = buffer_bytes(content, tables.buffers[entry.buffer])
    return entries


def embedded_manifest(content: bytes, *, where: str = "the file") -> Manifest | None:
    """The manifest that a lone .tflite carries.

    Args:
        content: Of a .tflite file.
        where: Named in errors.
    Returns:
        The manifest with no `files` and no `metrics`; None where the file has no such entry.
    Raises:
        BundleError: Not a .tflite file, or its manifest is damaged or newer than this dfkit.
    """
    stored = metadata_of(content, read_tables(content, where=where)).get(MANIFEST_ENTRY)
    if stored is None:
        return None
    try:
        data = json.loads(stored)
        version = data.get("schema_version", MANIFEST_VERSION)
    except (*NOT_JSON, AttributeError) as error:
        raise BundleError(f"{where}: its manifest is not a JSON object", fix=FIX_FILE) from error
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise BundleError(
            f"{where}: its manifest has schema version {version}, this dfkit reads up to {MANIFEST_VERSION}",
            fix=f"install the dfkit that made it ({data.get('dfkit_version', 'a newer one')})",
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first_fault = validation_faults(error)[0]
        raise BundleError(f"{where}: its manifest does not follow the schema: {first_fault}", fix=FIX_FILE) from error
