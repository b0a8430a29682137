"""From the export graphs to one .tflite file with two signatures, and its quantized forms."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError, DfkitError, MissingExtraError
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.recipes import Recipe
from dfkit.models.mmms_ba import MMMSBA
from dfkit.native_log import native_log
from dfkit.runtime.manifest import Backend, Signature, TensorEntry

logger = logging.getLogger(__name__)
MODEL_FILE = "model.tflite"
SIDE_PX = {"face": "face_px", "lip": "lip_px"}


def picture_modalities(network: MMMSBA) -> tuple[str, ...]:
    """Modalities that pass through a CNN, in order."""
    return tuple(m for m in network.spec.modalities if m != "audio")


def encode_example(network: MMMSBA, spec: ClipSpec) -> tuple[torch.Tensor, ...]:
    """Example inputs of `encode`: one picture per modality, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    sides = [getattr(spec.picture, SIDE_PX[m]) for m in picture_modalities(network)]
    return tuple(torch.rand(1, side, side, 3, generator=generator) for side in sides)


def score_example(network: MMMSBA, spec: ClipSpec) -> tuple[torch.Tensor, ...]:
    """Example inputs of `score`, one per modality, in order."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for name in network.spec.modalities:
        if name != "audio":
            shape: tuple[int, ...] = (spec.num_frames, network.spec.feature_dim(name))
        elif spec.preset == "clip2s":
            shape = (1, spec.num_samples)
        else:
            shape = (spec.num_frames, spec.audio.n_mfcc)
        inputs.append(torch.rand(*shape, generator=generator) * 0.1)
    return tuple(inputs)


@contextlib.contextmanager
def quiet_converter() -> Iterator[io.StringIO]:
    """Keeps the converter's own progress out of the terminal; what it said can be read afterwards."""
    said = io.StringIO()
    with (
        warnings.catch_warnings(),
        native_log(everything=True),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        warnings.simplefilter("ignore")
        yield said


def convert(network: MMMSBA, spec: ClipSpec) -> bytes:
    """Converts a network to a float32 .tflite with the signatures `encode` and `score`.

    Args:
        network: In eval mode, with at least one picture modality.
        spec: The clips it takes.
    Returns:
        Content of the file.
    Raises:
        MissingExtraError: litert-torch is not installed.
        DfkitError: The converter failed; its last line is in the message, the rest in the log.
    """
    try:
        with quiet_converter():
            import litert_torch
    except ModuleNotFoundError as error:
        raise MissingExtraError("litert-torch", "export") from error
    if not picture_modalities(network):
        raise ConfigError(f"no export for modalities {network.spec.modalities}: at least one of face, lip is needed")
    score = ScoreGraph(network, spec).eval()
    encode = EncodeGraph(network).eval()
    with tempfile.TemporaryDirectory() as folder, quiet_converter() as said:
        path = Path(folder) / MODEL_FILE
        try:
            chain = litert_torch.signature("encode", encode, encode_example(network, spec))
            model = chain.signature("score", score, score_example(network, spec)).convert(strict_export=False)
            model.export(str(path))
        except Exception as error:  # the converter raises whatever its passes raise
            logger.error("converter output:\n%s", said.getvalue())
            raise DfkitError(f"conversion to TFLite failed: {str(error).splitlines()[0]}") from error
        return path.read_bytes()


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
    """
    if not recipe.rules:
        return model
    if recipe.needs_calibration and not calibration_clips:
        raise ConfigError(
            f"recipe {recipe.name} needs calibration clips and the set is empty",
            fix="prepare training data first, or use --recipe dynamic_int8",
        )
    from ai_edge_quantizer import quantizer

    with tempfile.TemporaryDirectory() as folder, quiet_converter():
        path = Path(folder) / MODEL_FILE
        path.write_bytes(model)
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


def calibration_inputs(
    network: MMMSBA, recipe: Recipe, clips: Sequence[dict[str, np.ndarray]]
) -> dict[str, list[dict[str, np.ndarray]]]:
    """Calibration clips under the graphs' own argument names."""
    pictures = picture_modalities(network)
    encode = [
        {f"args_{place}": clip[m][n : n + 1].astype(np.float32) / 255 for place, m in enumerate(pictures)}
        for clip in clips
        for n in range(len(clip[pictures[0]]))
    ]
    data = {"encode": encode}
    if any(rule.scope == ALL_SCOPE and rule.mode == "static" for rule in recipe.rules):
        data["score"] = [
            {f"args_{place}": score_input(name, clip) for place, name in enumerate(network.spec.modalities)}
            for clip in clips
        ]
    return data


ALL_SCOPE = ".*"


def score_input(modality: str, clip: dict[str, np.ndarray]) -> np.ndarray:
    """The array that `score` takes for a modality, out of a clip's arrays by dfkit's names."""
    if modality != "audio":
        return clip[f"{modality}_features"]
    return clip["pcm"][None] if "pcm" in clip else clip["mfcc"]


def _pin_picture_ranges(ranges: dict[str, Any]) -> None:
    """Pictures are 0 to 255 whatever the calibration set held: scale 1/255, zero point -128, no requantizing."""
    full = {"min": np.zeros((1, 1, 1, 1), np.float32), "max": np.ones((1, 1, 1, 1), np.float32)}
    for name in ranges:
        # The first padding of each CNN only adds zeros to its input.
        padded_input = name.endswith("conv.Conv2d_0;1") and "activation" not in name
        if name.startswith("encode_args_") or padded_input:
            ranges[name] = dict(full)


def describe(model: bytes, network: MMMSBA, recipe: str) -> Backend:
    """The manifest's entry of a converted model, read off its own signatures."""
    from ai_edge_litert.interpreter import Interpreter

    with native_log():
        interpreter = Interpreter(model_content=model, num_threads=1)
    pictures = picture_modalities(network)
    sound = (
        "pcm" if interpreter.get_signature_runner("score").get_input_details()["args_0"]["shape"][0] == 1 else "mfcc"
    )
    names = {
        "encode": (list(pictures), [f"{m}_features" for m in pictures]),
        "score": (
            [sound if m == "audio" else f"{m}_features" for m in network.spec.modalities],
            ["frame_logits", "clip_logits"],
        ),
    }
    signatures = {}
    for key, (inputs, outputs) in names.items():
        runner = interpreter.get_signature_runner(key)
        signatures[key] = Signature(
            file=MODEL_FILE,
            key=key,
            inputs=_entries(inputs, "args", runner.get_input_details()),
            outputs=_entries(outputs, "output", runner.get_output_details()),
        )
    return Backend(recipe=recipe, encode=signatures["encode"], score=signatures["score"])


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
