"""A tiny ONNX graph with the inputs and the output of a VITS voice, laid out as the package lays out its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dfkit.forge.syllables import CODAS, NUCLEI, ONSETS, SPACE, STRESS, WEAK_NUCLEI
from dfkit.forge.tts import END, MODEL, PACKAGE, PAD, START

SAMPLE_RATE = 22_050
SAMPLES_PER_PHONEME = 700
"""Of each number in the input, pads among them; times the length scale."""


def make_package(folder: Path) -> Path:
    """Writes an importable package that holds the stand-in.

    Returns:
        Its model.
    """
    model = Path(folder, PACKAGE, *MODEL)
    model.parent.mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text("raise ImportError('a package of weights is never imported')\n")
    sounds = "".join((*ONSETS, *NUCLEI, *WEAK_NUCLEI, *CODAS, SPACE, STRESS))
    symbols = [PAD, START, END, *sorted(set(sounds))]
    described = {
        "audio": {"sample_rate": SAMPLE_RATE},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_id_map": {symbol: [number] for number, symbol in enumerate(symbols)},
    }
    model.with_name(f"{model.name}.json").write_text(json.dumps(described), encoding="utf-8")
    onnx.save(_graph(), model)
    return model


def _graph() -> onnx.ModelProto:
    """Each number is a tone of its own pitch for `SAMPLES_PER_PHONEME * length_scale` samples, and noise on top."""
    constants = {
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "index_noise": np.array([0], np.int64),
        "samples": np.array([SAMPLES_PER_PHONEME], np.float32),
        "zero": np.array(0, np.int64),
        "step": np.array(1, np.int64),
        "radians": np.array(2 * np.pi / SAMPLE_RATE, np.float32),
        "base_hz": np.array(150, np.float32),
        "hz": np.array(45, np.float32),
        "loud": np.array(0.3, np.float32),
        "soft": np.array(0.05, np.float32),
        "wave_shape": np.array([1, 1, 1, -1], np.int64),
    }
    nodes = [
        ("Gather", ["scales", "one"], "length_scale", {}),
        ("Mul", ["length_scale", "samples"], "count_float", {}),
        ("Cast", ["count_float"], "count", {"to": TensorProto.INT64}),
        ("Squeeze", ["count"], "count_scalar", {}),
        ("Range", ["zero", "count_scalar", "step"], "places", {}),
        ("Cast", ["places"], "places_float", {"to": TensorProto.FLOAT}),
        ("Cast", ["input"], "numbers", {"to": TensorProto.FLOAT}),
        ("Mul", ["numbers", "hz"], "above_hz", {}),
        ("Add", ["above_hz", "base_hz"], "pitch_hz", {}),
        ("Unsqueeze", ["pitch_hz", "two"], "pitch_column", {}),
        ("Mul", ["pitch_column", "places_float"], "turns", {}),
        ("Mul", ["turns", "radians"], "phase", {}),
        ("Sin", ["phase"], "sine", {}),
        ("Mul", ["sine", "loud"], "tone", {}),
        ("RandomNormalLike", ["tone"], "white", {}),
        ("Gather", ["scales", "index_noise"], "noise_scale", {}),
        ("Mul", ["white", "noise_scale"], "scaled", {}),
        ("Mul", ["scaled", "soft"], "noise", {}),
        ("Add", ["tone", "noise"], "sound", {}),
        ("Reshape", ["sound", "wave_shape"], "wave", {}),
        # The lengths are an input as of the real graph; onnxruntime drops inputs that nothing reads.
        ("Cast", ["input_lengths"], "lengths", {"to": TensorProto.FLOAT}),
        ("ReduceMin", ["lengths"], "length", {"keepdims": 0}),
        ("Sub", ["length", "length"], "nothing", {}),
        ("Add", ["wave", "nothing"], "output", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in nodes],
        "stand_in",
        [
            helper.make_tensor_value_info("input", TensorProto.INT64, ["batch_size", "phonemes"]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch_size"]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", 1, 1, "samples"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
