"""What a converted model consists of, and whether that is what its recipe promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dfkit.errors import ConversionError
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.manifest import Backend
from dfkit.runtime.operators import (
    constants_by_dtype,
    merged,
    onnx_operators,
    shared_dynamic_products,
    tflite_operators,
)
from dfkit.runtime.tflite_file import read_tables

INT8_SUFFIX = "int8"
"""Ends the name of every recipe that promises INT8."""
LEAST_INT8_SHARE = 0.9
"""Of the trained parameters; the rest are biases, and weights too small to be worth a scale of their own."""


@dataclass(frozen=True)
class Contents:
    """Operators and constants of a backend's files."""

    operators: dict[str, dict[str, int]]
    """Count by name, then by kind, see `dfkit.runtime.operators`."""
    constant_bytes: dict[str, int]
    """By type."""


def tflite_contents(model: bytes) -> Contents:
    """Contents of a .tflite.

    Raises:
        ConversionError: It has a form that other runtimes answer at random.
    """
    tables = read_tables(model, where="the converted model")
    shared = shared_dynamic_products(tables)
    if shared:
        raise ConversionError(
            f"{shared} BATCH_MATMULs of dynamic INT8 share their weights: TensorFlow 2.21 and LiteRT before 2.3 answer "
            "at random there",
            log="",
            fix="use the recipe mixed_int8, whose recurrence is made of FULLY_CONNECTED",
        )
    operators = merged([tflite_operators(tables, graph) for graph in tables.subgraphs])
    return Contents(operators, constants_by_dtype(model, tables))


def onnx_contents(files: Mapping[str, bytes]) -> Contents:
    """Contents of a backend's .onnx files."""
    import onnx

    sizes: Counter[str] = Counter()
    operators = []
    for content in files.values():
        graph = onnx.load_from_string(content).graph
        operators.append(onnx_operators(graph))
        for tensor in graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            sizes[values.dtype.name] += values.nbytes
    return Contents(merged(operators), {dtype: size for dtype, size in sizes.most_common() if size})


def with_contents(backend: Backend, contents: Contents, network: MMMSBA) -> Backend:
    """The manifest's entry with what its files consist of.

    Raises:
        ConversionError: An INT8 recipe stored less than `LEAST_INT8_SHARE` of the trained parameters in 8 bits.
    """
    share = None
    if backend.recipe.endswith(INT8_SUFFIX):
        stored = sum(contents.constant_bytes.get(dtype, 0) for dtype in ("int8", "uint8"))
        share = stored / sum(weight.numel() for weight in network.parameters())
        if share < LEAST_INT8_SHARE:
            raise ConversionError(
                f"{backend.recipe} stored {share:.1%} of the trained parameters in 8 bits, {LEAST_INT8_SHARE:.0%} at "
                f"least are expected; bytes by type: {contents.constant_bytes}",
                log="",
                fix="use another recipe, such as mixed_int8, or report the network's widths",
            )
        share = round(share, 4)
    changes = {"operators": contents.operators, "constant_bytes": contents.constant_bytes, "int8_share": share}
    return backend.model_copy(update=changes)
