"""The same two graphs as ONNX, with GRU operators kept and batch and time dynamic.

ONNX Runtime cannot quantize a GRU: its W and R are stored as int8 with DequantizeLinear in front; convolutions get
static QDQ with uint8 weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError, MissingExtraError, ParityError
from dfkit.export.converter import conversion
from dfkit.export.graph import EncodeGraph
from dfkit.export.signature import encode_example, score_example, score_inputs
from dfkit.export.texture import TextureOnnx
from dfkit.export.texture_rounding import ONNX_STEPS, RoundedConv, round_onnx, rounded_convs
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.motion import MotionFrontEnd
from dfkit.runtime.manifest import Backend, Signature, TensorEntry
from dfkit.runtime.proven import SMALLEST

# Apps open these files with runtimes older than ours: the smallest that the exporter gives (asked for 17, it answers
# 18) and that has all the operators. onnxruntime 1.15, the oldest with a wheel for Python 3.11, opens them.
OPSET = 18
IR_VERSION = 8
"""Of ONNX 1.13, which brought opset 18; the exporter writes 10, which onnxruntime before 1.18 refuses."""
EXAMPLE_STEPS = 6
"""T of the inputs that `score` is traced with."""
ENCODE_FILE, SCORE_FILE = "encode.onnx", "score.onnx"
RECIPES = ("fp32", "qdq_int8")
# A DequantizeLinear costs some 150 bytes and 4 per channel: smaller weights save next to nothing.
MIN_QUANTIZED_VALUES = 256
MAX_FOLDED_BYTES = 1 << 26
WEIGHT_INPUTS = {"GRU": (1, 2), "MatMul": (1,), "Gemm": (1,)}
"""Places of the weights among the inputs of each operator."""
MAX_BATCH, MAX_STEPS = 4096, 4096
Shapes = Mapping[str, tuple[str | int, ...]]


class PlainOnnxCnn(nn.Module):
    """The original's three layers: pictures (N, side, side, 3) uint8 to features (N, C)."""

    def __init__(self, cnn: nn.Sequential) -> None:
        super().__init__()
        self.layers = cnn[:8]

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        maps: Tensor = self.layers(pictures.permute(0, 3, 1, 2).float() / 255)
        return maps.mean(dim=(2, 3))


class EncodeOnnx(EncodeGraph):
    """Pictures (N, side, side, 3) uint8 per modality to features (N, C).

    They are cast inside the graph: ONNX Runtime's convolutions are float until quantized.
    """

    plain, texture = PlainOnnxCnn, TextureOnnx


class AnyLengthFrontEnd(MfccFrontEnd):
    """The MFCC of any number of whole steps: T follows from the waveform, (n - n_fft) / hop_length + 1."""

    def forward(self, waveform: Tensor) -> Tensor:
        """MFCC (B, T, n_mfcc) of PCM (B, (T - 1) * hop_length + n_fft); the length is not checked in the graph."""
        return self.coefficients(waveform)

    def stft_frames(self, waveform: Tensor) -> Tensor:
        """As the parent's, with the number of rows read off the waveform."""
        hop = self.spec.hop_length
        rows_per_frame = -(-self.spec.n_fft // hop)
        padded = torch.nn.functional.pad(waveform, (0, rows_per_frame * hop - self.spec.n_fft))
        rows = padded.view(padded.shape[0], -1, hop)
        steps = rows.shape[1] - (rows_per_frame - 1)
        parts = [rows[:, shift : shift + steps] for shift in range(rows_per_frame)]
        return torch.cat(parts, dim=-1)[:, :, : self.spec.n_fft]


class ScoreOnnx(nn.Module):
    """What `score` takes, each with a batch axis in front, to frame and clip logits."""

    def __init__(self, network: MMMSBA, spec: ClipSpec) -> None:
        super().__init__()
        self.network = network
        modalities = network.spec.modalities
        dense = spec.preset == "clip2s"
        self.front_end = AnyLengthFrontEnd(spec.audio, spec.num_frames) if dense and "audio" in modalities else None
        self.motion = MotionFrontEnd(spec.fps) if "motion" in modalities else None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Frame logits (B, T, 2) and clip logits (B, 2)."""
        steps: dict[str, Tensor] = dict(zip(self.network.spec.modalities, inputs, strict=True))
        if "audio" in steps and self.front_end is not None:
            steps["audio"] = self.front_end(steps["audio"])
        if self.motion is not None:
            steps["motion"] = self.motion(steps["motion"])
        output = self.network.fuse(steps)
        return output.frame_logits, output.clip_logits


def convert(network: MMMSBA, spec: ClipSpec) -> dict[str, bytes]:
    """Exports both graphs as float32 ONNX.

    Returns:
        Content by file name.
    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ConversionError: The exporter failed.
        ParityError: A GRU came out with linear_before_reset = 0: silently wrong (onnxscript below 0.7.1).
    """
    encode = EncodeOnnx(network).eval() if network.spec.pictures else None
    features = {f"{m}_features": ("batch", network.spec.feature_dim(m)) for m in network.spec.pictures}
    logits = {"frame_logits": ("batch", "steps", 2), "clip_logits": ("batch", 2)}
    return export_graphs(network, spec, encode, features, ScoreOnnx(network, spec).eval(), logits)


def export_graphs(
    network: MMMSBA, spec: ClipSpec, encode: nn.Module | None, features: Shapes, score: nn.Module, logits: Shapes
) -> dict[str, bytes]:
    """Exports two modules that take what `EncodeOnnx` and `ScoreOnnx` take.

    Args:
        network: Names and sizes of the inputs.
        spec: Its clips.
        encode: None for a network without pictures.
        features: Outputs of `encode` by name: their axes, `batch` where dynamic.
        score: In eval mode.
        logits: Outputs of `score`, likewise; `steps` is T.
    Returns:
        Content by file name.
    Raises:
        MissingExtraError, ConversionError, ParityError: As `convert`.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnx", "export") from error
    pictures = network.spec.pictures
    taken = score_inputs(network, spec)
    encode_args = tuple((picture * 255).to(torch.uint8).repeat(2, 1, 1, 1) for picture in encode_example(network, spec))
    examples = zip(taken, score_example(network, spec), strict=True)
    shortened = [first_steps(name, value, spec) for name, value in examples]
    score_args = tuple(value.repeat(2, *[1] * (value.ndim - 1)) for value in shortened)
    graphs = {}
    if encode is not None:
        shapes = tuple({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)} for _ in pictures)
        graphs[ENCODE_FILE] = _export(encode, encode_args, shapes, list(pictures), features)
    graphs[SCORE_FILE] = _export(score, score_args, score_shapes(taken, spec), taken, logits)
    for name, content in graphs.items():
        model = onnx.load_from_string(content)
        check_gru(model, where=name)
        onnx.checker.check_model(model, full_check=True)
    return graphs


def example_inputs(network: MMMSBA, spec: ClipSpec) -> dict[str, dict[str, np.ndarray]]:
    """Inputs to run the graphs on, by file and name: two pictures of each kind, two clips of T steps."""
    pictures = zip(network.spec.pictures, encode_example(network, spec), strict=True)
    encode = {name: np.repeat((value.numpy() * 255).astype(np.uint8), 2, axis=0) for name, value in pictures}
    score = {}
    for name, value in zip(score_inputs(network, spec), score_example(network, spec), strict=True):
        clip = value.numpy() if name == "pcm" else value.numpy()[None]
        score[name] = np.repeat(clip, 2, axis=0)
    return {ENCODE_FILE: encode, SCORE_FILE: score}


def first_steps(name: str, value: Tensor, spec: ClipSpec) -> Tensor:
    """A short example of one input of `score`, (1, ...).

    The exporter traces every GRU step by step before it puts the operator back: with T = 50 it took 56 s, and the
    graph is the same for any T.
    """
    if name == "pcm":
        return value[:, : spec.audio.hop_length * (EXAMPLE_STEPS - 1) + spec.audio.n_fft]
    return value[None, :EXAMPLE_STEPS]


def score_shapes(taken: Sequence[str], spec: ClipSpec) -> tuple[dict[int, Any], ...]:
    """Dynamic axes of `score`: batch, and time T, of which the PCM has (T - 1) * hop_length + n_fft samples."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    steps = torch.export.Dim("steps", min=2, max=MAX_STEPS)
    samples = spec.audio.hop_length * steps + (spec.audio.n_fft - spec.audio.hop_length)
    return tuple({0: batch, 1: samples if name == "pcm" else steps} for name in taken)


def _export(
    module: nn.Module,
    args: tuple[Tensor, ...],
    shapes: tuple[dict[int, Any], ...],
    inputs: list[str],
    outputs: Shapes,
) -> bytes:
    import onnx
    import onnxscript.optimizer

    with tempfile.TemporaryDirectory() as folder, conversion("conversion to ONNX"):
        path = Path(folder) / "graph.onnx"
        program = torch.onnx.export(
            module,
            args,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=list(outputs),
            dynamic_shapes=(shapes,),
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
    # The exporter notes the example's T where it is dynamic: the axes are stated here, and inference has to agree.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, outputs[value.name]))
    lower_versions(model)
    return model.SerializeToString()


def lower_versions(model: Any) -> None:
    """States the smallest IR that holds the graph, and the operator sets that it uses, in place.

    ONNX Runtime's quantizer imports all that it knows, and an older runtime refuses a set it does not know.
    """
    model.ir_version = IR_VERSION
    domains = {node.domain for node in model.graph.node}
    used = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(used)


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
    """Static QDQ for the convolutions, with uint8 weights; int8 weights for GRUs and products.

    Args:
        graphs: From `convert`.
        calibration_clips: Pictures by modality, (N, side, side, 3) uint8.
    Raises:
        ConfigError: No calibration clips.
    """
    if not calibration_clips:
        raise ConfigError("the calibration set is empty", fix="prepare training data first, or export without --int8")
    import onnx

    models = {}
    if ENCODE_FILE in graphs:
        convs = trunk_convs(network, calibration_clips)
        rounded = round_onnx(graphs[ENCODE_FILE], convs) if convs else graphs[ENCODE_FILE]
        models[ENCODE_FILE] = _quantize_pictures(rounded, calibration_clips, network.spec.pictures)
    models[SCORE_FILE] = onnx.load_from_string(graphs[SCORE_FILE])
    quantize_weights(models[SCORE_FILE])
    for model in models.values():
        strip_traces(model)
        lower_versions(model)
        onnx.checker.check_model(model, full_check=True)
    return {name: model.SerializeToString() for name, model in models.items()}


def trunk_convs(network: MMMSBA, clips: Sequence[dict[str, np.ndarray]]) -> list[RoundedConv]:
    """The texture trunk's convolutions as INT8 has them; none where there is no such trunk."""
    return rounded_convs(network, clips, TextureOnnx, ONNX_STEPS)


def _quantize_pictures(
    content: bytes, calibration_clips: Sequence[dict[str, np.ndarray]], pictures: Sequence[str]
) -> Any:
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Feeds the calibration pictures, some frames of each clip."""

        def __init__(self) -> None:
            self.feeds = iter([{m: clip[m] for m in pictures} for clip in calibration_clips])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder, conversion("quantization of encode.onnx"):
        source, prepared, target = (Path(folder) / name for name in ("in.onnx", "prepared.onnx", "out.onnx"))
        source.write_bytes(content)
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            # Relu with its Conv: the range needs no negative half, and no two QuantizeLinears stand in a row, which
            # onnxruntime below 1.19 merges into one, and answers otherwise.
            op_types_to_quantize=["Conv", "Relu", "Clip", "Add", "MaxPool"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            # uint8 times int8 saturates on x86 without VNNI: features were 10 % of their range off on Haswell
            # (onnxruntime #5849, #6004). QLinearConv wants one zero point for all channels: 128, symmetric.
            weight_type=quantization.QuantType.QUInt8,
            extra_options={"WeightSymmetric": True},
        )
        return onnx.load(str(target))


def quantize_weights(model: Any) -> int:
    """Stores the weights of GRU, MatMul and Gemm as int8, made float again in the graph, in place.

    Scales are symmetric, one per output channel.

    Returns:
        How many tensors were stored so.
    """
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    recurrent = {name for node in model.graph.node if node.op_type == "GRU" for name in node.input[1:3]}
    found = quantizable_weights(model, weights)
    expanders = []
    for name, axis in found.items():
        stored, scale = quantize_symmetric(numpy_helper.to_array(weights[name]), axis)
        if name in recurrent:
            expanders += _dequantized(name, axis)
        else:
            scale = scale.reshape([-1 if each == axis else 1 for each in range(stored.ndim)])
            expanders += _cast_and_scaled(name)
        model.graph.initializer.remove(weights[name])
        model.graph.initializer.append(numpy_helper.from_array(stored, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    nodes = [*expanders, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(found)


def _dequantized(name: str, axis: int) -> list[Any]:
    from onnx import helper

    inputs = [f"{name}_int8", f"{name}_scale"]
    return [helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_dq", axis=axis)]


def _cast_and_scaled(name: str) -> list[Any]:
    """For products: ONNX Runtime 1.25, 1.31 and 1.32 fuse a DequantizeLinear with the MatMul or Gemm behind it into
    MatMulNBits, which rounds the activations, too: logits of stressed weights 0.017 away from those of 1.24. Cast and
    Mul of constants they fold."""
    from onnx import TensorProto, helper

    cast = f"{name}_cast"
    return [
        helper.make_node("Cast", [f"{name}_int8"], [cast], name=cast, to=TensorProto.FLOAT),
        helper.make_node("Mul", [cast, f"{name}_scale"], [name], name=f"{name}_mul"),
    ]


def quantizable_weights(model: Any, weights: Mapping[str, Any]) -> dict[str, int]:
    """The weights to store as int8, by name, with the axis of their output channels.

    Args:
        model: The graph.
        weights: Its initializers by name; an input that is none of them is no weight.
    """
    # The MFCC's own matrices and those of the clip's statistics stay float32: no GRU is before them.
    behind = _reached_from(model, "GRU")
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type not in WEIGHT_INPUTS or (node.op_type != "GRU" and node.name not in behind):
            continue
        for place in WEIGHT_INPUTS[node.op_type]:
            weight = weights.get(node.input[place])
            if weight is not None and np.prod(weight.dims) >= MIN_QUANTIZED_VALUES:
                found.setdefault(weight.name, _output_axis(node, num_axes=len(weight.dims)))
    return found


def _output_axis(node: Any, *, num_axes: int) -> int:
    """The axis of a weight that its outputs lie along: 1 of a GRU's W and R, shared by its two directions."""
    if node.op_type == "GRU":
        return 1
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i == 1 for attribute in node.attribute)
        return 0 if transposed else 1
    return num_axes - 1


def quantize_symmetric(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight as int8 in [-127, 127], zero point 0, with one scale per place along `axis`.

    Args:
        weight: float32 of any shape.
        axis: That the outputs lie along.
    Returns:
        Stored values of the weight's shape, int8, and scales, (weight.shape[axis],) float32.
    """
    others = tuple(each for each in range(weight.ndim) if each != axis)
    scale = np.maximum(np.abs(weight).max(axis=others), 1e-12) / 127
    stored = np.rint(weight / np.expand_dims(scale, others))
    return np.clip(stored, -127, 127).astype(np.int8), scale.astype(np.float32)


def _reached_from(model: Any, kind: str) -> set[str]:
    """Names of the nodes that have a node of this type before them, and of those nodes."""
    reached: set[str] = set()
    names = set()
    for node in model.graph.node:  # in topological order, as ONNX requires
        if node.op_type == kind or reached.intersection(node.input):
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

    # What is dynamic in the graph, at a bundle's size: one clip, one picture.
    samples = score_shapes(["pcm"], spec)[0][1]
    sizes = {"batch": 1, "steps": spec.num_frames, samples.__name__: spec.num_samples}

    def entries(values: Any) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(
                name=value.name,
                tensor=value.name,
                shape=tuple(dim.dim_value or sizes[dim.dim_param] for dim in value.type.tensor_type.shape.dim),
                dtype=dtypes[value.type.tensor_type.elem_type],  # type: ignore[arg-type]
            )
            for value in values
        )

    signatures = {}
    for key, name in (("encode", ENCODE_FILE), ("score", SCORE_FILE)):
        if name in graphs:
            graph = onnx.load_from_string(graphs[name]).graph
            signatures[key] = Signature(file=name, key=key, inputs=entries(graph.input), outputs=entries(graph.output))
    models = [onnx.load_from_string(content) for content in graphs.values()]
    return Backend(
        recipe=recipe,
        encode=signatures.get("encode"),
        score=signatures["score"],
        opset=max(entry.version for model in models for entry in model.opset_import if entry.domain == ""),
        ir_version=max(model.ir_version for model in models),
        runtimes=SMALLEST["onnx"],
    )
