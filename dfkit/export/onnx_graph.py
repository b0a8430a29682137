"""The same two graphs as ONNX, with GRU operators kept and batch and time dynamic.

ONNX Runtime cannot quantize a GRU: its W and R are stored as int8 with DequantizeLinear in front, which the
session folds once at load; convolutions get static QDQ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError, MissingExtraError, ParityError
from dfkit.export.tflite import (
    encode_example,
    picture_modalities,
    quiet_converter,
    score_example,
)
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.manifest import Backend, Signature, TensorEntry

OPSET = 20
ENCODE_FILE, SCORE_FILE = "encode.onnx", "score.onnx"
RECIPES = ("fp32", "qdq_int8")
# Smaller weights cost more in operators than int8 saves.
MIN_QUANTIZED_VALUES = 2048
MAX_FOLDED_BYTES = 1 << 26


class EncodeOnnx(nn.Module):
    """Pictures (N, side, side, 3) uint8 per modality to features (N, C)."""

    def __init__(self, network: MMMSBA) -> None:
        super().__init__()
        self.cnns = nn.ModuleList(network.part(m, "feature_extractor")[:8] for m in picture_modalities(network))  # type: ignore[index]

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        """Casts inside the graph: ONNX Runtime's convolutions are float until quantized."""
        scaled = [picture.permute(0, 3, 1, 2).float() / 255 for picture in pictures]
        return tuple(cnn(picture).mean(dim=(2, 3)) for cnn, picture in zip(self.cnns, scaled, strict=True))


class ScoreOnnx(nn.Module):
    """Features (B, T, C) and PCM (B, num_samples), or MFCC (B, T, n_mfcc), to frame and clip logits."""

    def __init__(self, network: MMMSBA, spec: ClipSpec) -> None:
        super().__init__()
        self.network = network
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if spec.preset == "clip2s" else None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Frame logits (B, T, 2) and clip logits (B, 2)."""
        steps: dict[str, Tensor] = dict(zip(self.network.spec.modalities, inputs, strict=True))
        if "audio" in steps and self.front_end is not None:
            steps["audio"] = self.front_end(steps["audio"])
        output = self.network.fuse(steps)
        return output.frame_logits, output.clip_logits


def convert(network: MMMSBA, spec: ClipSpec) -> dict[str, bytes]:
    """Exports both graphs as float32 ONNX.

    Returns:
        Content by file name.
    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ParityError: A GRU came out with linear_before_reset = 0: silently wrong (onnxscript below 0.7.1).
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnx", "export") from error
    pictures = picture_modalities(network)
    features = [f"{m}_features" for m in pictures]
    sound = "pcm" if spec.preset == "clip2s" else "mfcc"
    score_inputs = [sound if m == "audio" else f"{m}_features" for m in network.spec.modalities]
    encode_args = tuple((picture * 255).to(torch.uint8).repeat(2, 1, 1, 1) for picture in encode_example(network, spec))
    score_args = tuple(
        (value if name == "pcm" else value[None]).repeat(2, *[1] * (value.ndim - (name == "pcm")))
        for name, value in zip(score_inputs, score_example(network, spec), strict=True)
    )
    graphs = {
        ENCODE_FILE: _export(EncodeOnnx(network).eval(), encode_args, list(pictures), features),
        SCORE_FILE: _export(ScoreOnnx(network, spec).eval(), score_args, score_inputs, ["frame_logits", "clip_logits"]),
    }
    for name, content in graphs.items():
        model = onnx.load_from_string(content)
        check_gru(model, where=name)
        onnx.checker.check_model(model, full_check=True)
    return graphs


def _export(module: nn.Module, args: tuple[Tensor, ...], inputs: list[str], outputs: list[str]) -> bytes:
    import onnx
    import onnxscript.optimizer

    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = (tuple({0: batch} for _ in args),)
    with tempfile.TemporaryDirectory() as folder, quiet_converter():
        path = Path(folder) / "graph.onnx"
        program = torch.onnx.export(
            module,
            args,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            external_data=False,
            optimize=True,
            verbose=False,
        )
        assert program is not None
        # The exporter reorders the GRU's gates by Slice and Concat of weights: folded into initializers here,
        # since only those can be stored as int8.
        onnxscript.optimizer.optimize_ir(
            program.model, input_size_limit=MAX_FOLDED_BYTES, output_size_limit=MAX_FOLDED_BYTES
        )
        program.save(str(path))
        model = onnx.load(str(path))
    strip_traces(model)
    return model.SerializeToString()


def strip_traces(model: Any) -> None:
    """Takes source traces out of the nodes: they hold paths of the machine that exported, and cost size."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]


def check_gru(model: Any, *, where: str) -> int:
    """Counts the GRU operators and refuses one whose reset gate is applied before the product.

    Raises:
        ParityError: linear_before_reset is not 1.
    """
    count = 0
    for node in model.graph.node:
        if node.op_type == "GRU":
            count += 1
            attributes = {a.name: a.i for a in node.attribute}
            if attributes.get("linear_before_reset") != 1:
                raise ParityError(
                    f"{where}: a GRU was exported with linear_before_reset = 0, which computes something else",
                    fix="install onnxscript 0.7.1 or newer",
                )
    return count


def quantize(
    graphs: dict[str, bytes], calibration_clips: Sequence[dict[str, np.ndarray]], network: MMMSBA
) -> dict[str, bytes]:
    """Static QDQ for the convolutions, int8 weights for GRUs and products.

    Args:
        graphs: From `convert`.
        calibration_clips: Pictures by modality, (N, side, side, 3) uint8.
    Raises:
        ConfigError: No calibration clips.
    """
    if not calibration_clips:
        raise ConfigError("the calibration set is empty", fix="prepare training data first, or export without --int8")
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Feeds the calibration pictures, some frames of each clip."""

        def __init__(self) -> None:
            names = picture_modalities(network)
            self.feeds = iter([{m: clip[m] for m in names} for clip in calibration_clips])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder, quiet_converter():
        source, prepared, target = (Path(folder) / name for name in ("in.onnx", "prepared.onnx", "out.onnx"))
        source.write_bytes(graphs[ENCODE_FILE])
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MaxPool"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        encode = onnx.load(str(target))
    score = onnx.load_from_string(graphs[SCORE_FILE])
    quantize_weights(score)
    for model in (encode, score):
        strip_traces(model)
        onnx.checker.check_model(model)
    return {ENCODE_FILE: encode.SerializeToString(), SCORE_FILE: score.SerializeToString()}


def quantize_weights(model: Any) -> int:
    """Stores the weights of GRU, MatMul and Gemm as int8 behind DequantizeLinear, in place.

    Scales are symmetric, one per output: axis 1 of a GRU's W and R (shared by its directions), the last axis
    of a product's right side.
    Returns:
        How many tensors were stored so.
    """
    from onnx import helper, numpy_helper

    values = {tensor.name: tensor for tensor in model.graph.initializer}
    # The MFCC's own matrices stay float32: they are what meets PCM before the first GRU.
    readers = [
        (n, (1, 2) if n.op_type == "GRU" else (1,)) for n in model.graph.node if n.op_type in ("GRU", "MatMul", "Gemm")
    ]
    sound = _fed_by(model, "pcm", until="GRU")
    added = []
    for node, places in readers:
        if node.name in sound and node.op_type != "GRU":
            continue
        for place in places:
            name = node.input[place]
            weight = values.get(name)
            if weight is None or np.prod(weight.dims) < MIN_QUANTIZED_VALUES:
                continue
            array = numpy_helper.to_array(weight)
            axis = (
                1
                if node.op_type == "GRU" or _gemm_transposed(node) is False
                else (0 if _gemm_transposed(node) else array.ndim - 1)
            )
            others = tuple(a for a in range(array.ndim) if a != axis)
            scale = np.maximum(np.abs(array).max(axis=others), 1e-12) / 127
            shape = [1] * array.ndim
            shape[axis] = -1
            stored = np.clip(np.rint(array / scale.reshape(shape)), -127, 127).astype(np.int8)
            model.graph.initializer.remove(weight)
            model.graph.initializer.extend(
                [
                    numpy_helper.from_array(stored, f"{name}_int8"),
                    numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
                ]
            )
            added.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}_int8", f"{name}_scale"],
                    [name],
                    name=f"{name}_dq",
                    axis=axis,
                )
            )
            values.pop(name)
    nodes = [*added, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(added)


def _gemm_transposed(node: Any) -> bool | None:
    if node.op_type != "Gemm":
        return None
    return any(a.name == "transB" and a.i == 1 for a in node.attribute)


def _fed_by(model: Any, start: str, *, until: str) -> set[str]:
    """Names of the nodes that the input reaches before a node of type `until`."""
    reached, names = {start}, set()
    for node in model.graph.node:  # in topological order, as ONNX requires
        if node.op_type != until and reached.intersection(node.input):
            reached.update(node.output)
            names.add(node.name)
    return names


def describe(graphs: dict[str, bytes], network: MMMSBA, spec: ClipSpec, recipe: str) -> Backend:
    """The manifest's entry of the two graphs; a batch of one clip, one picture."""
    import onnx

    dtypes = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.UINT8: "uint8",
        onnx.TensorProto.INT8: "int8",
    }

    def entries(values: Any) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(
                name=value.name,
                tensor=value.name,
                shape=tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim),
                dtype=dtypes[value.type.tensor_type.elem_type],  # type: ignore[arg-type]
            )
            for value in values
        )

    signatures = {}
    for key, name in (("encode", ENCODE_FILE), ("score", SCORE_FILE)):
        graph = onnx.load_from_string(graphs[name]).graph
        signatures[key] = Signature(file=name, key=key, inputs=entries(graph.input), outputs=entries(graph.output))
    return Backend(recipe=recipe, encode=signatures["encode"], score=signatures["score"])
