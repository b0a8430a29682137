"""Float32 programs of other runtimes: `encode` and `score` under the manifest's names, beside the .tflite.

dfkit's own runtime and benchmarks do not run them; export proves that they answer as torch does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.errors import ShapeError
from dfkit.export.signature import encode_example, score_example, score_inputs
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.manifest import Backend, Signature, TensorEntry

LOGITS = ("frame_logits", "clip_logits")


def feature_names(network: MMMSBA) -> list[str]:
    """Outputs of `encode`, in order."""
    return [f"{modality}_features" for modality in network.spec.pictures]


def describe(network: MMMSBA, spec: ClipSpec, file: str, *, by_position: bool) -> Backend:
    """The manifest's entry of a program; pictures are (1, side, side, 3) float32 in [0, 1].

    Args:
        network: What was converted.
        spec: The clips it takes.
        file: The program's.
        by_position: Whether its inputs and outputs are called by their place, or by dfkit's names.
    """

    def entries(names: list[str], shapes: list[tuple[int, ...]]) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(name=name, tensor=str(place) if by_position else name, shape=shape, dtype="float32")
            for place, (name, shape) in enumerate(zip(names, shapes, strict=True))
        )

    pictures = list(network.spec.pictures)
    score = Signature(
        file=file,
        key="score",
        inputs=entries(score_inputs(network, spec), [tuple(t.shape) for t in score_example(network, spec)]),
        outputs=entries(list(LOGITS), [(spec.num_frames, 2), (1, 2)]),
    )
    if not pictures:
        return Backend(recipe="fp32", encode=None, score=score)
    encode = Signature(
        file=file,
        key="encode",
        inputs=entries(pictures, [tuple(t.shape) for t in encode_example(network, spec)]),
        outputs=entries(feature_names(network), [(1, network.spec.feature_dim(m)) for m in pictures]),
    )
    return Backend(recipe="fp32", encode=encode, score=score)


class ProgramGraphs:
    """A program, loaded; see `dfkit.runtime.backends.Graphs`. A subclass runs one of its functions."""

    def __init__(self, backend: Backend) -> None:
        """Takes the entry from `describe`."""
        self.recipe, self.num_threads = backend.recipe, 1
        self._backend = backend

    def _execute(self, signature: Signature, feeds: list[np.ndarray]) -> list[np.ndarray]:
        """Answers in the order of the signature's outputs, in memory of their own."""
        raise NotImplementedError

    def _run(self, signature: Signature, feeds: list[np.ndarray]) -> dict[str, np.ndarray]:
        for entry, feed in zip(signature.inputs, feeds, strict=True):
            if tuple(feed.shape) != entry.shape:
                raise ShapeError(f"{signature.key} takes '{entry.name}' as {entry.shape}, got {tuple(feed.shape)}")
        answers = self._execute(signature, [np.ascontiguousarray(feed) for feed in feeds])
        return {e.name: value.reshape(e.shape) for e, value in zip(signature.outputs, answers, strict=True)}

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
