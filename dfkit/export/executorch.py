"""The export graphs as one ExecuTorch program, `model.pte`, with the methods `encode` and `score`, lowered to XNNPACK.

It is another way out for apps that run ExecuTorch: float32, beside the .tflite, which stays what dfkit's own runtime
and benchmarks run (ExecuTorch's Python bindings need torch). Parity with torch is shown before it is written.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.errors import MissingExtraError
from dfkit.export import program
from dfkit.export.converter import conversion, quiet_converter
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.signature import encode_example, score_example
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.manifest import Backend, Signature

PROGRAM_FILE = "model.pte"
EXTRA = "executorch"


def require_extra() -> None:
    """Asks for the package before minutes go into something else.

    Raises:
        MissingExtraError: executorch is not installed.
    """
    if importlib.util.find_spec("executorch") is None:
        raise MissingExtraError("executorch", EXTRA)


def convert(network: MMMSBA, spec: ClipSpec) -> bytes:
    """Lowers both graphs; takes about a minute, because the recurrence is unrolled.

    Args:
        network: In eval mode; without pictures there is only `score`.
        spec: The clips it takes.
    Returns:
        Content of the .pte.
    Raises:
        MissingExtraError: executorch is not installed.
        ConversionError: The exporter failed.
    """
    require_extra()
    with quiet_converter():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    with conversion("conversion to ExecuTorch"), torch.no_grad():
        programs = {"score": torch.export.export(ScoreGraph(network, spec).eval(), score_example(network, spec))}
        if network.spec.pictures:
            encode = EncodeGraph(network).eval()
            programs["encode"] = torch.export.export(encode, encode_example(network, spec))
        edge = to_edge_transform_and_lower(programs, partitioner=[XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)


def describe(network: MMMSBA, spec: ClipSpec) -> Backend:
    """Methods, inputs and outputs by position; see `program.describe`."""
    return program.describe(network, spec, PROGRAM_FILE, by_position=True)


class ProgramGraphs(program.ProgramGraphs):
    """A .pte, loaded."""

    name = "executorch"

    def __init__(self, backend: Backend, content: bytes) -> None:
        """Loads the program.

        Args:
            backend: From `describe`.
            content: Of the .pte.
        Raises:
            MissingExtraError: executorch is not installed.
        """
        super().__init__(backend)
        require_extra()
        from executorch.runtime import Runtime

        self._program = Runtime.get().load_program(content)
        signatures = [s for s in (backend.encode, backend.score) if s is not None]
        self._methods: dict[str, Any] = {s.key: self._program.load_method(s.key) for s in signatures}

    def _execute(self, signature: Signature, feeds: list[np.ndarray]) -> list[np.ndarray]:
        # The program reuses its memory: what it answered is copied before the next call.
        answers = self._methods[signature.key].execute([torch.from_numpy(feed) for feed in feeds])
        return [answer.numpy().copy() for answer in answers]
