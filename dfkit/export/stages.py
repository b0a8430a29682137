"""Every stage of an export: the same network as TFLite and ONNX, float and quantized, loaded and described."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfkit.export import coreai, executorch, onnx_graph, tflite
from dfkit.export.compact import compact
from dfkit.export.contents import onnx_contents, tflite_contents, with_contents
from dfkit.export.recipes import recipe_named
from dfkit.export.simplify import Simplification, simplify
from dfkit.models.checkpoint import Checkpoint
from dfkit.runtime.backends import Graphs, OnnxGraphs, TfliteGraphs
from dfkit.runtime.manifest import Backend

PROGRAM_STAGES = {"executorch": "executorch fp32", "coreai": "coreai fp32"}
"""Stages of formats that are no backend of dfkit's runtime, by format."""


@dataclass(frozen=True)
class Graph:
    """One converted runtime: files, their description, and the loaded graphs."""

    files: dict[str, bytes]
    backend: Backend
    graphs: Graphs
    seconds: float = 0.0
    """Time that the stage took, converting or quantizing."""
    notes: tuple[str, ...] = ()
    """What was tried on the way, for people."""


def convert_all(
    checkpoint: Checkpoint,
    formats: Sequence[str],
    recipe_name: str,
    calibration: list[dict[str, np.ndarray]],
    simplify_onnx: bool = False,
) -> dict[str, Graph]:
    """Every stage of the chosen formats, by name: `tflite fp32`, `tflite int8`, `onnx fp32`, `onnx int8`,
    `executorch fp32`, `coreai fp32`.

    Args:
        checkpoint: The student.
        formats: Of `tflite`, `onnx`, `executorch` and `coreai`.
        recipe_name: Of the quantized stages.
        calibration: Clips for static ranges, see `tflite.quantize`.
        simplify_onnx: Whether the float ONNX graphs go through onnxsim before anything else is made of them.
    Raises:
        ConfigError: Unknown recipe, or one that needs clips and got none.
        MissingExtraError: A converter is not installed.
        ConversionError: A converter failed.
    """
    network, spec = checkpoint.network, checkpoint.clip_spec
    recipe = recipe_named(recipe_name)
    if "executorch" in formats:
        executorch.require_extra()
    if "coreai" in formats:
        coreai.require_extra()
    stages: dict[str, Graph] = {}
    if "tflite" in formats:
        start = time.perf_counter()
        plain = tflite.convert(network, spec, calibration)
        stages["tflite fp32"] = tflite_stage(compact(plain), checkpoint, "fp32", start)
        if recipe.rules:
            start = time.perf_counter()
            quantized = tflite.quantize(plain, recipe, network, spec, calibration)
            stages["tflite int8"] = tflite_stage(compact(quantized), checkpoint, recipe.name, start)
    if "onnx" in formats:
        start = time.perf_counter()
        graphs = onnx_graph.convert(network, spec)
        tried: list[Simplification] = []
        if simplify_onnx:
            inputs = onnx_graph.example_inputs(network, spec)
            tried = [simplify(name, content, inputs[name]) for name, content in graphs.items()]
            graphs = {each.file: each.content for each in tried}
        stages["onnx fp32"] = onnx_stage(graphs, checkpoint, "fp32", start, notes=tuple(each.text for each in tried))
        if recipe.name not in ("fp32", "fp16"):
            start = time.perf_counter()
            quantized_graphs = onnx_graph.quantize(graphs, calibration, network)
            stages["onnx int8"] = onnx_stage(quantized_graphs, checkpoint, "qdq_int8", start)
    if "executorch" in formats:
        stages[PROGRAM_STAGES["executorch"]] = executorch_stage(checkpoint)
    if "coreai" in formats:
        stages[PROGRAM_STAGES["coreai"]] = coreai_stage(checkpoint)
    return stages


def executorch_stage(checkpoint: Checkpoint) -> Graph:
    """Converts and loads an ExecuTorch program."""
    start = time.perf_counter()
    program = executorch.convert(checkpoint.network, checkpoint.clip_spec)
    seconds = time.perf_counter() - start
    backend = executorch.describe(checkpoint.network, checkpoint.clip_spec)
    # Answers like a runtime backend, but is none: Python's runtime has no torch.
    graphs: Graphs = executorch.ProgramGraphs(backend, program)  # type: ignore[assignment]
    return Graph({executorch.PROGRAM_FILE: program}, backend, graphs, seconds)


def coreai_stage(checkpoint: Checkpoint) -> Graph:
    """Converts and loads a Core AI asset, likewise."""
    start = time.perf_counter()
    files = coreai.convert(checkpoint.network, checkpoint.clip_spec)
    seconds = time.perf_counter() - start
    backend = coreai.describe(checkpoint.network, checkpoint.clip_spec)
    graphs: Graphs = coreai.ProgramGraphs(backend, files)  # type: ignore[assignment]
    return Graph(files, backend, graphs, seconds)


def tflite_stage(model: bytes, checkpoint: Checkpoint, recipe: str, start_s: float) -> Graph:
    """Describes and loads a .tflite; `start_s` is when its stage began, on `time.perf_counter`."""
    files = {tflite.MODEL_FILE: model}
    seconds = time.perf_counter() - start_s
    backend = tflite.describe(model, checkpoint.network, checkpoint.clip_spec, recipe)
    backend = with_contents(backend, tflite_contents(model), checkpoint.network)
    return Graph(files, backend, TfliteGraphs(backend, files, num_threads=1, where="export"), seconds)


def onnx_stage(
    files: dict[str, bytes], checkpoint: Checkpoint, recipe: str, start_s: float, *, notes: tuple[str, ...] = ()
) -> Graph:
    """Describes and loads ONNX graphs, likewise."""
    seconds = time.perf_counter() - start_s
    backend = onnx_graph.describe(files, checkpoint.network, checkpoint.clip_spec, recipe)
    backend = with_contents(backend, onnx_contents(files), checkpoint.network)
    return Graph(files, backend, OnnxGraphs(backend, files, num_threads=1, where="export"), seconds, notes)
