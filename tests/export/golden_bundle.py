"""A folder with what a runtime replays: graphs, manifest entries, and golden vectors whose tolerances have power."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.export.stages import Graph
from dfkit.runtime.manifest import Backend, Signature, TensorEntry
from tests.export.conftest import Converted

PICTURES = (0, 10, 25, 40)
"""Places of the pictures that `encode` gets."""
Arrays = dict[str, np.ndarray]
Case = tuple[str, Arrays, dict[str, Arrays]]
"""Name, inputs, outputs by backend and name."""


def write_stressed(folder: Path, converted: Converted, stages: dict[str, Graph]) -> Path:
    """Writes a bundle of stressed weights in the student's real shape: 50 steps of recurrence are what breaks.

    Args:
        folder: Where to.
        converted: Its clip is what the cases are made of.
        stages: By backend.
    """
    arrays = converted.clip.arrays
    encode: list[Case] = []
    for place in PICTURES:
        given = {m: arrays[m][place : place + 1] for m in ("face", "lip")}
        encode.append((f"picture {place}", given, {name: s.graphs.encode(given) for name, s in stages.items()}))
    features = next(iter(stages.values())).graphs.encode(arrays)
    backwards = {name: np.ascontiguousarray(values[::-1]) for name, values in features.items()}
    clips = {
        "as it is": {**features, "pcm": arrays["pcm"]},
        "sound shifted": {**features, "pcm": np.roll(arrays["pcm"], 8000)},
        "pictures backwards": {**backwards, "pcm": arrays["pcm"]},
        "silence": {**features, "pcm": np.zeros_like(arrays["pcm"])},
    }
    score: list[Case] = []
    for name, given in clips.items():
        logits = {backend: stage.graphs.score(given) for backend, stage in stages.items()}
        score.append((name, given, {b: {"frame_logits": f, "clip_logits": c} for b, (f, c) in logits.items()}))
    files = {name: content for stage in stages.values() for name, content in stage.files.items()}
    backends = {name: stage.backend for name, stage in stages.items()}
    return write_golden(folder, backends, files, {"encode": encode, "score": score})


def write_chain(folder: Path, content: bytes, inputs: Arrays, outputs: Arrays) -> Path:
    """Writes a bundle of one graph with the signature `score`, whose inputs are `args_0` and on; case 0 is golden."""

    def entries(values: Arrays, stem: str) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(name=name, tensor=f"{stem}_{n}", shape=value.shape, dtype="float32")
            for n, (name, value) in enumerate(values.items())
        )

    signature = Signature(
        file="model.tflite", key="score", inputs=entries(inputs, "args"), outputs=entries(outputs, "output")
    )
    backend = Backend(recipe="dynamic_int8", encode=None, score=signature)
    half = {name: value / 2 for name, value in outputs.items()}
    cases: list[Case] = [("chain", inputs, {"tflite": outputs}), ("never run", inputs, {"tflite": half})]
    return write_golden(folder, {"tflite": backend}, {"model.tflite": content}, {"encode": [], "score": cases})


def write_golden(
    folder: Path, backends: dict[str, Backend], files: dict[str, bytes], cases: dict[str, list[Case]]
) -> Path:
    """Writes graphs, manifest entries and golden vectors of version 2."""
    (folder / "golden").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    entries = {name: backend.model_dump(mode="json") for name, backend in backends.items()}
    (folder / "manifest.json").write_text(json.dumps({"backends": entries}), encoding="utf-8")
    number = itertools.count()

    def store(values: Arrays) -> dict[str, Any]:
        stored = {}
        for name, value in values.items():
            file = f"{next(number)}.bin"
            (folder / "golden" / file).write_bytes(np.ascontiguousarray(value).tobytes())
            stored[name] = {"file": file, "shape": list(value.shape), "dtype": value.dtype.name}
        return stored

    golden: dict[str, Any] = {"name": "stressed", "graphs": {}}
    golden["backends"] = {name: {"outputs": limits(cases, name)} for name in backends}
    for part, listed in cases.items():
        golden[part] = [
            {"name": name, "inputs": store(given), "outputs": {b: store(values) for b, values in answers.items()}}
            for name, given, answers in listed
        ]
    index = {"schema_version": 2, "sets": [golden]}
    (folder / "golden" / "golden.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def limits(cases: dict[str, list[Case]], backend: str) -> dict[str, Any]:
    """Tolerance of each output: a tenth of the smallest difference between two cases."""
    found: dict[str, Any] = {}
    for listed in cases.values():
        for output in listed[0][2][backend] if listed else ():
            answers = [outputs[backend][output] for _, _, outputs in listed]
            pairs = [float(np.abs(a - b).max()) for a, b in itertools.combinations(answers, 2)]
            found[output] = {"tolerance": min(pairs) / 10}
    return found
