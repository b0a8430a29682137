"""`--simplify`: ONNX graphs through onnxsim, kept where they answer alike and got smaller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfkit.errors import MissingExtraError
from dfkit.export.converter import conversion

TOLERANCE = 1e-5
"""Largest difference of an output; float32 sums in another order stay below, and parity with torch follows anyway."""


@dataclass(frozen=True)
class Simplification:
    """What onnxsim made of one graph."""

    file: str
    content: bytes
    """What goes on: the simplified graph, or the graph as it was."""
    kept: bool
    """Whether it is the simplified one."""
    text: str
    """For people: sizes, and why it was kept or not."""


def simplify(file: str, content: bytes, inputs: Mapping[str, np.ndarray]) -> Simplification:
    """Simplifies a graph and compares the result with the graph as it was.

    Args:
        file: Names it.
        content: ONNX.
        inputs: What both are run on, by name.
    Raises:
        MissingExtraError: onnxsim is not installed.
        ConversionError: onnxsim failed.
    """
    try:
        import onnxsim
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnxsim", "export") from error
    import onnx

    with conversion(f"simplification of {file}"):
        model, _ = onnxsim.simplify(onnx.load_from_string(content))
    simplified: bytes = model.SerializeToString()
    difference = largest_difference(run(content, inputs), run(simplified, inputs))
    sizes = f"{file}: onnxsim made {len(simplified):,} of {len(content):,} bytes"
    # A NaN passes no comparison, so it keeps the graph as it was.
    if not difference <= TOLERANCE:
        return Simplification(file, content, False, f"{sizes} and changed an output by {difference:.2g}; not taken")
    if len(simplified) >= len(content):
        return Simplification(file, content, False, f"{sizes}, which is no smaller; not taken")
    return Simplification(file, simplified, True, f"{sizes}, outputs within {difference:.2g}; taken")


def run(content: bytes, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph, in order, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def largest_difference(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Over all outputs; infinite where their number or shapes differ, NaN where one is no number."""
    if [value.shape for value in before] != [value.shape for value in after]:
        return float("inf")
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))
