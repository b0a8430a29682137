"""A folder with what a runtime replays: graphs, manifest entries, and golden vectors whose tolerances have power."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.clip import CLIP2S
from dfkit.export.golden import ArrayStore, choose_inputs, golden_set, has_power
from dfkit.export.golden_clips import base_clips
from dfkit.export.parity import ParityClip
from dfkit.export.stages import Graph, convert_all
from dfkit.export.stress import stressed_network
from dfkit.models import MMMSBA
from dfkit.models.checkpoint import Checkpoint
from dfkit.runtime.golden_index import GOLDEN_FILE, GoldenCase, GoldenIndex, GoldenSet, OutputLimits
from dfkit.runtime.manifest import Backend, Signature, TensorEntry
from tests.export.conftest import STUDENT

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stressed:
    """A student of the real shape, 50 steps of recurrence and all, with weights under which every input counts."""

    checkpoint: Checkpoint
    clips: list[ParityClip]
    calibration: list[Arrays]
    stages: dict[str, Graph]


@functools.lru_cache(maxsize=1)
def stressed_student() -> Stressed:
    """Converted once per process; takes some 40 s."""
    clips = base_clips(CLIP2S)
    network = stressed_network(MMMSBA(STUDENT).eval(), CLIP2S, clips)
    checkpoint = Checkpoint(network, CLIP2S, "student", Path("student.pth"))
    calibration = [{**clip.arrays, **{m: clip.arrays[m][::5] for m in ("face", "lip")}} for clip in clips]
    stages = convert_all(checkpoint, ("tflite", "onnx"), "mixed_int8", calibration)
    return Stressed(checkpoint, clips, calibration, stages)


def write_stressed(folder: Path, stages: Mapping[str, Graph] | None = None) -> Path:
    """Writes a bundle of the stressed student, whose golden vectors have power.

    Args:
        folder: Where to.
        stages: By backend; its INT8 graphs for both runtimes if left out.
    """
    student = stressed_student()
    stages = stages or {name: student.stages[f"{name} int8"] for name in ("tflite", "onnx")}
    store = ArrayStore()
    inputs = choose_inputs(student.checkpoint, stages, student.clips, 0.0)
    vectors = golden_set("shipped", store, CLIP2S, stages, inputs)
    assert has_power(vectors), vectors.limits
    files = {name: content for stage in stages.values() for name, content in stage.files.items()}
    return _write(folder, {name: stage.backend for name, stage in stages.items()}, files, store, vectors)


def write_chain(folder: Path, content: bytes, inputs: Arrays, outputs: Arrays, *, tolerance: float) -> Path:
    """Writes a bundle of one .tflite whose only signature is `score`, with one golden case."""

    def entries(values: Arrays, stem: str) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(name=name, tensor=f"{stem}_{n}", shape=value.shape, dtype="float32")
            for n, (name, value) in enumerate(values.items())
        )

    signature = Signature(
        file="model.tflite", key="score", inputs=entries(inputs, "args"), outputs=entries(outputs, "output")
    )
    backend = Backend(recipe="dynamic_int8", encode=None, score=signature)
    store = ArrayStore()
    stored = [{name: store.add(name, value) for name, value in arrays.items()} for arrays in (inputs, outputs)]
    case = GoldenCase(name="chain", inputs=stored[0], outputs={"tflite": stored[1]})
    limits = OutputLimits(tolerance=tolerance, smallest_difference=10 * tolerance, noise=0, power=True, reason="")
    vectors = GoldenSet(name="shipped", limits={"tflite": dict.fromkeys(outputs, limits)}, score=(case,))
    return _write(folder, {"tflite": backend}, {"model.tflite": content}, store, vectors)


def _write(
    folder: Path, backends: Mapping[str, Backend], graphs: Mapping[str, bytes], store: ArrayStore, vectors: GoldenSet
) -> Path:
    entries = {name: backend.model_dump(mode="json") for name, backend in backends.items()}
    index = GoldenIndex(sets=(vectors,)).model_dump_json()
    files = {**graphs, **store.files, "manifest.json": json.dumps({"backends": entries}).encode()}
    for name, content in {**files, GOLDEN_FILE: index.encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
