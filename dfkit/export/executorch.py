"""The export graphs as one ExecuTorch program, `model.pte`, with the methods `encode` and `score`, lowered to XNNPACK.

It is another way out for apps that run ExecuTorch: float32, beside the .tflite, which stays what dfkit's own runtime
and benchmarks run (ExecuTorch's Python bindings need torch). Parity with torch is shown before it is written.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.errors import MissingExtraError, ShapeError
from dfkit.export.converter import conversion, quiet_converter
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.signature import encode_example, score_example, score_inputs
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.manifest import Backend, Signature, TensorEntry

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
    """Methods, inputs and outputs by position: pictures (1, side, side, 3) float32 in [0, 1]."""

    def entries(names: list[str], shapes: list[tuple[int, ...]]) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(name=name, tensor=str(place), shape=shape, dtype="float32")
            for place, (name, shape) in enumerate(zip(names, shapes, strict=True))
        )

    pictures = list(network.spec.pictures)
    score = Signature(
        file=PROGRAM_FILE,
        key="score",
        inputs=entries(score_inputs(network, spec), [tuple(t.shape) for t in score_example(network, spec)]),
        outputs=entries(["frame_logits", "clip_logits"], [(spec.num_frames, 2), (1, 2)]),
    )
    if not pictures:
        return Backend(recipe="fp32", encode=None, score=score)
    encode = Signature(
        file=PROGRAM_FILE,
        key="encode",
        inputs=entries(pictures, [tuple(t.shape) for t in encode_example(network, spec)]),
        outputs=entries([f"{m}_features" for m in pictures], [(1, network.spec.feature_dim(m)) for m in pictures]),
    )
    return Backend(recipe="fp32", encode=encode, score=score)


class ProgramGraphs:
    """A .pte, loaded; see `dfkit.runtime.backends.Graphs`."""

    name = "executorch"

    def __init__(self, backend: Backend, content: bytes) -> None:
        """Loads the program.

        Args:
            backend: From `describe`.
            content: Of the .pte.
        Raises:
            MissingExtraError: executorch is not installed.
        """
        require_extra()
        from executorch.runtime import Runtime

        self.recipe, self.num_threads = backend.recipe, 1
        self._backend = backend
        self._program = Runtime.get().load_program(content)
        signatures = [s for s in (backend.encode, backend.score) if s is not None]
        self._methods: dict[str, Any] = {s.key: self._program.load_method(s.key) for s in signatures}

    def _run(self, signature: Signature, feeds: list[np.ndarray]) -> dict[str, np.ndarray]:
        for entry, feed in zip(signature.inputs, feeds, strict=True):
            if tuple(feed.shape) != entry.shape:
                raise ShapeError(f"{signature.key} takes '{entry.name}' as {entry.shape}, got {tuple(feed.shape)}")
        answer = self._methods[signature.key].execute([torch.from_numpy(np.ascontiguousarray(f)) for f in feeds])
        # The program reuses its memory: what it answered is copied before the next call.
        pairs = zip(signature.outputs, answer, strict=True)
        return {entry.name: value.numpy().copy().reshape(entry.shape) for entry, value in pairs}

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Graphs.encode`."""
        signature = self._backend.encode
        if signature is None:
            return {}
        kinds = [entry.name for entry in signature.inputs]
        rows = [
            self._run(signature, [pictures[m][n : n + 1].astype(np.float32) / 255 for m in kinds])
            for n in range(len(pictures[kinds[0]]))
        ]
        return {e.name: np.concatenate([row[e.name] for row in rows]) for e in signature.outputs}

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See `Graphs.score`."""
        signature = self._backend.score
        logits = self._run(signature, [inputs[e.name].reshape(e.shape) for e in signature.inputs])
        return logits["frame_logits"], logits["clip_logits"].reshape(2)
