"""From the export graphs to one .tflite file with two signatures, and its quantized forms."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError, MissingExtraError
from dfkit.export.converter import GraphPart, conversion, convert_graphs
from dfkit.export.graph import EncodeGraph, ScoreGates, ScoreGraph, ScoreLogits, ScoreStep, StepScale
from dfkit.export.recipes import Recipe
from dfkit.export.recurrence import GATES, LOGITS, STEP, join_recurrence
from dfkit.export.signature import calibration_inputs, encode_example, score_example, score_inputs
from dfkit.export.texture import TextureGraph
from dfkit.export.texture_rounding import TFLITE_STEPS, RoundedConv, round_tflite, rounded_convs
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.motion import MotionFrontEnd
from dfkit.native_log import native_log
from dfkit.runtime.manifest import Backend, Signature, TensorEntry
from dfkit.runtime.proven import SMALLEST

MODEL_FILE = "model.tflite"
PICTURE_STEP, PICTURES_AT_ONCE = 5, 50
PICTURE_TENSORS = re.compile(r"encode_args_\d+|[\w./]*\.FoldedConv_\w+;\d+")
"""Names of tensors that hold a picture: the inputs, and what `FoldedConv` makes of them before it multiplies."""


def convert(network: MMMSBA, spec: ClipSpec, calibration_clips: Sequence[dict[str, np.ndarray]] = ()) -> bytes:
    """Converts a network to a float32 .tflite with the signatures `encode` and `score`.

    Args:
        network: In eval mode; without pictures there is only `score`.
        spec: The clips it takes.
        calibration_clips: Scale MFCC and motion inside the graph, so that INT8 keeps them; see `StepScale`.
    Returns:
        Content of the file.
    Raises:
        MissingExtraError: litert-torch is not installed.
        ConversionError: The converter failed.
    """
    scales = step_scales(network, spec, calibration_clips)
    parts = score_parts(network, spec, scales)
    if network.spec.pictures:
        parts.insert(0, ("encode", EncodeGraph(network).eval(), encode_example(network, spec)))
    return join_recurrence(convert_graphs(parts))


def convert_score(network: MMMSBA, spec: ClipSpec) -> bytes:
    """Converts `score` alone, with unscaled steps; see `convert`."""
    return join_recurrence(convert_graphs(score_parts(network, spec, {})))


def score_parts(network: MMMSBA, spec: ClipSpec, scales: Mapping[str, StepScale]) -> list[GraphPart]:
    """What comes before the recurrence, one step of it, and what comes behind it, for `join_recurrence`."""
    graph = ScoreGraph(network, spec, scales).eval()
    rows, hidden = 2 * len(network.spec.streams), network.spec.gru_hidden
    past = (torch.zeros(1, 2),) if network.spec.statistics else ()
    return [
        (GATES, ScoreGates(graph).eval(), score_example(network, spec)),
        (STEP, ScoreStep(graph).eval(), (torch.zeros(1, rows * 3 * hidden), torch.zeros(rows, hidden))),
        (LOGITS, ScoreLogits(graph).eval(), (torch.zeros(spec.num_frames * rows, hidden), *past)),
    ]


def step_scales(network: MMMSBA, spec: ClipSpec, clips: Sequence[dict[str, np.ndarray]]) -> dict[str, StepScale]:
    """Scales of the steps that no CNN of the network's own made, from what some clips bring of them.

    A trunk that came with weights gives means and deviations whose ranges differ as MFCC's do.
    """

    def stacked(name: str) -> torch.Tensor | None:
        arrays = [torch.from_numpy(clip[name]) for clip in clips if name in clip]
        return torch.stack(arrays) if arrays else None

    steps = {"audio": stacked("pcm" if spec.preset == "clip2s" else "mfcc"), "motion": stacked("landmarks")}
    front_ends: dict[str, torch.nn.Module] = {"motion": MotionFrontEnd(spec.fps)}
    if spec.preset == "clip2s":
        front_ends["audio"] = MfccFrontEnd(spec.audio, spec.num_frames)
    scales: dict[str, StepScale] = {}
    for name, value in steps.items():
        if value is not None and name in network.spec.streams:
            made = front_ends[name](value) if name in front_ends else value
            scales[name] = StepScale.of(made.flatten(0, -2))
    if network.trunk_parameters() and clips:
        scales["face"] = StepScale.of(trunk_features(network, clips))
    return scales


@torch.no_grad()
def trunk_features(network: MMMSBA, clips: Sequence[dict[str, np.ndarray]]) -> torch.Tensor:
    """Features that a face trunk which came with weights makes of some clips: (N, C), of every fifth picture."""
    faces = np.concatenate([clip["face"][::PICTURE_STEP] for clip in clips])
    parts = torch.from_numpy(faces).permute(0, 3, 1, 2).split(PICTURES_AT_ONCE)
    return torch.cat([network.picture_network("face")(part.float() / 255) for part in parts])


def quantize(
    model: bytes,
    recipe: Recipe,
    network: MMMSBA,
    spec: ClipSpec,
    calibration_clips: Sequence[dict[str, np.ndarray]],
) -> bytes:
    """Applies a recipe to a float32 model.

    Args:
        model: From `convert`.
        recipe: The plan; `fp32` returns the model as it is.
        network: Its network, for the names of the inputs.
        spec: Its clips.
        calibration_clips: For static ranges: per clip the inputs of both graphs by dfkit's names, pictures
            (N, side, side, 3) uint8, features (T, C) float32, `pcm` (num_samples,) float32.
    Raises:
        ConfigError: The recipe needs calibration and there is none.
        MissingExtraError: ai-edge-quantizer is not installed.
        ConversionError: The quantizer failed.
    """
    if not network.spec.pictures:
        recipe = recipe.without_pictures()
    if not recipe.rules:
        return model
    if recipe.needs_calibration and not calibration_clips:
        raise ConfigError(
            f"recipe {recipe.name} needs calibration clips and the set is empty",
            fix="prepare training data first, or use --recipe dynamic_int8",
        )
    try:
        from ai_edge_quantizer import quantizer
    except ModuleNotFoundError as error:
        raise MissingExtraError("ai-edge-quantizer", "export") from error

    with tempfile.TemporaryDirectory() as folder, conversion(f"quantization by {recipe.name}"):
        path = Path(folder) / MODEL_FILE
        path.write_bytes(_with_rounded_trunk(model, recipe, network, calibration_clips))
        plan = quantizer.Quantizer(str(path))
        for rule in recipe.rules:
            _add_rule(plan, rule.scope, rule.operators, rule.mode)
        if recipe.int8_pictures:
            _add_rule(plan, "encode_args_.*", ("INPUT",), "static")
        ranges = None
        if recipe.needs_calibration:
            data = calibration_inputs(network, recipe, calibration_clips)
            ranges = plan.calibrate(data, num_threads=1)
            _pin_picture_ranges(ranges)
        out = Path(folder) / "quantized.tflite"
        plan.quantize(ranges, enable_progress_report=False).export_model(str(out), overwrite=True)
        return out.read_bytes()


def _with_rounded_trunk(model: bytes, recipe: Recipe, network: MMMSBA, clips: Sequence[dict[str, np.ndarray]]) -> bytes:
    """The model as the quantizer gets it."""
    convs = trunk_convs(recipe, network, clips)
    return round_tflite(model, convs) if convs else model


def trunk_convs(recipe: Recipe, network: MMMSBA, clips: Sequence[dict[str, np.ndarray]]) -> list[RoundedConv]:
    """The texture trunk's convolutions as a recipe has them; none where it leaves them or there is no such trunk."""
    return rounded_convs(network, clips, TextureGraph, TFLITE_STEPS) if recipe.int8_pictures else []


def _add_rule(plan: Any, scope: str, operators: tuple[str, ...], mode: str) -> None:
    from ai_edge_quantizer import qtyping

    for operator in operators:
        name = qtyping.TFLOperationName(operator)
        if mode == "dynamic":
            plan.add_dynamic_config(regex=scope, operation_name=name, num_bits=8)
        elif mode == "static":
            plan.add_static_config(regex=scope, operation_name=name, activation_num_bits=8, weight_num_bits=8)
        elif mode == "float32":
            plan.update_quantization_recipe(regex=scope, operation_name=name, algorithm_key="no_quantize")
        else:
            half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            config = qtyping.OpQuantizationConfig(
                weight_tensor_config=half,
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            )
            plan.update_quantization_recipe(
                regex=scope, operation_name=name, op_config=config, algorithm_key="float_casting"
            )


def _pin_picture_ranges(ranges: dict[str, Any]) -> None:
    """Pictures are 0 to 255 whatever the calibration set held: scale 1/255, zero point -128, no requantizing."""
    full = {"min": np.zeros((1, 1, 1, 1), np.float32), "max": np.ones((1, 1, 1, 1), np.float32)}
    for name in ranges:
        if PICTURE_TENSORS.fullmatch(name):
            ranges[name] = dict(full)


def describe(model: bytes, network: MMMSBA, spec: ClipSpec, recipe: str) -> Backend:
    """The manifest's entry of a converted model, read off its own signatures."""
    encode = describe_signature(model, network, spec, "encode") if network.spec.pictures else None
    score = describe_signature(model, network, spec, "score")
    return Backend(recipe=recipe, encode=encode, score=score, runtimes=SMALLEST["tflite"])


def describe_signature(
    model: bytes, network: MMMSBA, spec: ClipSpec, key: Literal["encode", "score"], *, file: str = MODEL_FILE
) -> Signature:
    """The manifest's entry of one signature, read off the model itself.

    Args:
        model: Content of a .tflite that has it.
        network: What was converted.
        spec: The clips it takes.
        key: Which signature.
        file: The name that the content goes by.
    """
    from ai_edge_litert.interpreter import Interpreter

    with native_log():
        interpreter = Interpreter(model_content=model, num_threads=1)
    pictures = list(network.spec.pictures)
    names = {
        "encode": (pictures, [f"{m}_features" for m in pictures]),
        "score": (score_inputs(network, spec), ["frame_logits", "clip_logits"]),
    }
    inputs, outputs = names[key]
    runner = interpreter.get_signature_runner(key)
    return Signature(
        file=file,
        key=key,
        inputs=_entries(inputs, "args", runner.get_input_details()),
        outputs=_entries(outputs, "output", runner.get_output_details()),
    )


def _entries(names: list[str], stem: str, details: dict[str, Any]) -> tuple[TensorEntry, ...]:
    entries = []
    for place, name in enumerate(names):
        detail = details[f"{stem}_{place}"]
        scale, zero_point = detail["quantization"]
        entries.append(
            TensorEntry(
                name=name,
                tensor=f"{stem}_{place}",
                shape=tuple(int(n) for n in detail["shape"]),
                dtype=np.dtype(detail["dtype"]).name,
                scale=float(scale) or 1.0,
                zero_point=int(zero_point),
            )
        )
    return tuple(entries)
