"""Parity layer by layer: where along the network does a stage begin to depart?

Every stage is built once more with its layers as further outputs: the same modules, rules and clips, so that what
departs in the shipped graph departs here. `score` gets torch's features in all stages: a fault of the CNNs stays with
the CNNs. A layer departs when the root mean square of its differences exceeds a share of that of its values: one
saturated unit of a GRU may turn over under INT8 without the layer being wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.errors import ParityError
from dfkit.export import onnx_graph, tflite
from dfkit.export.converter import GraphPart, convert_graphs
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.onnx_graph import EncodeOnnx, ScoreOnnx
from dfkit.export.parity import ParityClip
from dfkit.export.recipes import Recipe
from dfkit.export.signature import encode_example, score_example, score_inputs
from dfkit.export.straight import StraightEncode, StraightScore
from dfkit.export.texture import TextureGraph
from dfkit.export.texture_rounding import RoundedConv
from dfkit.models.efficientnet_lite import FaceTexture
from dfkit.models.mmms_ba import MMMSBA
from dfkit.native_log import native_log
from dfkit.runtime.backends import picture_table, picture_to_graph, to_graph
from dfkit.runtime.manifest import TensorEntry

NUM_CLIPS = 4
NUM_PICTURES = 4
FLOAT_SHARE = 1e-4
"""Between float stages: float32 sums of another order give 1e-6."""
INT8_SHARE = 0.1
"""Between a float stage and its INT8 form: rounding gives a few hundredths on stressed weights."""
CONVOLUTIONS = {"conv1": 1, "conv2": 4, "conv3": 7}
"""Places of the ReLUs in a CNN."""
MAPS = re.compile(r"(face|lip)_(conv|stem|block)\d*")
"""Names of the layers that are feature maps."""
FRONT_ENDS = ("audio_mfcc", "motion_steps")
MAP_SCALE = 0.5
"""Feature maps leave a graph through a product: an output that is static INT8 itself cannot be read after
ai-edge-quantizer 0.10."""
SMALLEST_VALUE = 1e-12
"""Of a layer that is all zeros: keeps the share defined."""
Values = dict[str, list[np.ndarray]]
"""By layer: an array per picture or clip."""


@dataclass(frozen=True)
class LayerResult:
    """One layer of one stage against the stage before."""

    stage: str
    reference: str
    layer: str
    max_difference: float
    """Largest absolute difference."""
    largest_value: float
    """Of the reference, absolute."""
    share: float
    """Root mean square of the differences over that of the reference's values."""
    limit: float
    """Largest share that passes."""

    @property
    def passed(self) -> bool:
        """Whether the layer follows its reference; False for NaN."""
        return bool(self.share <= self.limit)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a number that is not finite is written as text."""
        values = {**vars(self), "passed": self.passed}
        return {k: (str(v) if isinstance(v, float) and not np.isfinite(v) else v) for k, v in values.items()}


@dataclass(frozen=True)
class LayerReport:
    """All layers of all stages, in the network's order."""

    layers: tuple[LayerResult, ...]

    def first_departures(self) -> list[LayerResult]:
        """The first layer of each stage that departs."""
        found: dict[str, LayerResult] = {}
        for result in self.layers:
            if not result.passed:
                found.setdefault(result.stage, result)
        return list(found.values())

    def summary(self) -> list[str]:
        """One line per layer and stage, then what departs first."""
        lines = [
            f"{r.stage:18} {r.layer:16} {r.max_difference:12.3e} {r.largest_value:12.3e} {r.share:10.2e}  "
            f"{'ok' if r.passed else f'DEPARTS, limit {r.limit:g}'}"
            for r in self.layers
        ]
        head = f"{'stage':18} {'layer':16} {'largest diff':>12} {'of values to':>12} {'rms share':>10}"
        departures = [f"{r.stage}: first departs at {r.layer} from {r.reference}" for r in self.first_departures()]
        return [head, *lines, *(departures or ["no layer departs"])]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        first = {r.stage: r.layer for r in self.first_departures()}
        return {"first_departures": first, "layers": [r.to_json() for r in self.layers]}


class Probe(nn.Module):
    """A graph that gives its layers, too: its own outputs first, then the layers in `names`."""

    def __init__(self, graph: nn.Module, points: Mapping[str, nn.Module | None], network: MMMSBA) -> None:
        """Wraps a graph.

        Args:
            graph: Any of the export's modules.
            points: Modules whose outputs are wanted; `recurrence` gives one per stream, `head` its input, block by
                block. None is left out.
            network: Names modalities and blocks.
        """
        super().__init__()
        # Not `graph`: torch's own graph modules have an attribute of that name.
        self.wrapped = graph
        self.points = {name: module for name, module in points.items() if module is not None}
        self.spec = network.spec
        self.names: list[str] = []

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs, then the layers'; fills `names` on the way."""
        found: dict[str, Tensor] = {}
        handles = [
            module.register_forward_hook(
                lambda _, given, made, name=name: found.update(self._tensors(name, given[0], made))
            )
            for name, module in self.points.items()
        ]
        try:
            outputs = self.wrapped(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        self.names = list(found)
        return (*outputs, *found.values())

    def _tensors(self, name: str, given: Tensor, made: Any) -> dict[str, Tensor]:
        if name == "recurrence":
            return {f"{m}_encoder": value for m, value in zip(self.spec.streams, made, strict=True)}
        if name == "head":
            widths = self.spec.block_dims
            parts = zip(widths, given.split(list(widths.values()), dim=-1), strict=True)
            return {block: part for block, part in parts if block not in self.spec.streams}
        if name in FRONT_ENDS and isinstance(self.wrapped, ScoreGraph):
            # As the graph goes on with it: the converter would make the product twice for two shapes of one result,
            # on shared weights, which ai-edge-quantizer 0.10 cannot cast to float16.
            return {name: made[0]}
        # Feature maps as TFLite holds them, channels last: no transposing for the sake of looking.
        return {name: made.permute(0, 2, 3, 1) * MAP_SCALE if MAPS.fullmatch(name) else made}


def encode_probe(graph: EncodeGraph | StraightEncode, network: MMMSBA) -> Probe:
    """The CNNs with their feature maps; slices of a plain CNN hold the network's own modules."""
    points: dict[str, nn.Module | None] = {}
    for name in network.spec.pictures:
        found = network.picture_network(name) if isinstance(graph, StraightEncode) else graph.cnns[name]
        if isinstance(found, FaceTexture | TextureGraph):
            trunk = found.trunk if isinstance(found, FaceTexture) else found
            blocks = {f"{name}_block{number}": block for number, block in enumerate(trunk.blocks)}
            points |= {f"{name}_stem": trunk.stem, **blocks}
        else:
            points |= {f"{name}_{layer}": network.cnn(name)[place] for layer, place in CONVOLUTIONS.items()}
    return Probe(graph, points, network).eval()


def score_probe(graph: ScoreGraph | ScoreOnnx | StraightScore, network: MMMSBA) -> Probe:
    """`score` with front ends, GRUs, dense layers and fused blocks."""
    streams = network.spec.streams
    points: dict[str, nn.Module | None] = {"audio_mfcc": graph.front_end, "motion_steps": graph.motion}
    if isinstance(graph, ScoreGraph):
        points |= {"recurrence": graph.recurrence} | {f"{m}_dense": graph.dense[m] for m in streams}
    else:
        points |= {f"{m}_encoder": network.encoder(m) for m in streams}
        points |= {f"{m}_dense": network.dense(m) for m in streams}
    points |= {f"{m}_statistics": part for m, part in network.statistics.items()}
    return Probe(graph, {**points, "head": network.classifier}, network).eval()


def compare_layers(
    network: MMMSBA,
    spec: ClipSpec,
    formats: Sequence[Literal["tflite", "onnx"]],
    recipe: Recipe,
    calibration: Sequence[dict[str, np.ndarray]],
    clips: Sequence[ParityClip],
) -> LayerReport:
    """Builds every stage with its layers as outputs and compares them on the first clips.

    Args:
        network: In eval mode.
        spec: Its clips.
        formats: Which runtimes.
        recipe: Of the INT8 stages; a float recipe has none.
        calibration: As for `tflite.quantize`.
        clips: The first few are taken.
    Returns:
        fused and float stages against torch, INT8 stages against their float form.
    Raises:
        ParityError: There are no clips.
        ConversionError: A converter failed.
    """
    if not clips:
        raise ParityError("the layers need clips and got none", fix="prepare data, or give a data set with --data")
    chosen = list(clips[:NUM_CLIPS])
    inputs = _Inputs.of(network, spec, chosen)
    torch_values = inputs.through_torch(StraightEncode(network), StraightScore(network, spec))
    fused = inputs.through_torch(EncodeGraph(network), ScoreGraph(network, spec))
    results = _compare("fused", "torch", fused, torch_values, FLOAT_SHARE)
    if "tflite" in formats:
        plain, names = _tflite_probes(network, spec)
        float_values = inputs.through_tflite(plain, names)
        results += _compare("tflite fp32", "torch", float_values, torch_values, FLOAT_SHARE)
        if recipe.rules:
            quantized = tflite.quantize(plain, recipe, network, spec, calibration)
            convs = tflite.trunk_convs(recipe, network, calibration)
            values = _undo_gains(inputs.through_tflite(quantized, names), convs)
            results += _compare(f"tflite {recipe.name}", "tflite fp32", values, float_values, INT8_SHARE)
    if "onnx" in formats:
        graphs, names = _onnx_probes(network, spec)
        float_values = inputs.through_onnx(graphs, names)
        results += _compare("onnx fp32", "torch", float_values, torch_values, FLOAT_SHARE)
        if recipe.name not in ("fp32", "fp16"):
            values = inputs.through_onnx(onnx_graph.quantize(graphs, calibration, network), names)
            values = _undo_gains(values, onnx_graph.trunk_convs(network, calibration))
            results += _compare("onnx qdq_int8", "onnx fp32", values, float_values, INT8_SHARE)
    place = {name: number for number, name in enumerate(layer_order(network))}
    stages = list(dict.fromkeys(r.stage for r in results))
    return LayerReport(tuple(sorted(results, key=lambda r: (stages.index(r.stage), place[r.layer]))))


def _undo_gains(values: Values, convs: Sequence[RoundedConv]) -> Values:
    """A trunk's stem as the float graph holds it: the only layer looked at that INT8 holds enlarged."""
    return values | {"face_stem": [value / convs[0].gain for value in values["face_stem"]]} if convs else values


def _tflite_probes(network: MMMSBA, spec: ClipSpec) -> tuple[bytes, dict[str, list[str]]]:
    score = score_probe(ScoreGraph(network, spec), network)
    parts: list[GraphPart] = [("score", score, score_example(network, spec))]
    names = {"score": ["frame_logits", "clip_logits"]}
    if network.spec.pictures:
        encode = encode_probe(EncodeGraph(network), network)
        parts.insert(0, ("encode", encode, encode_example(network, spec)))
        names["encode"] = [f"{m}_features" for m in network.spec.pictures]
    for key, probe, example in parts:
        with torch.no_grad():
            probe(*example)
        names[key] += probe.names  # type: ignore[arg-type]
    return convert_graphs(parts), names


def _onnx_probes(network: MMMSBA, spec: ClipSpec) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    score = score_probe(ScoreOnnx(network, spec), network)
    with torch.no_grad():
        example = score_example(network, spec)
        batched = [v if n == "pcm" else v[None] for n, v in zip(score_inputs(network, spec), example, strict=True)]
        made = score(*batched)
    names = {onnx_graph.SCORE_FILE: ["frame_logits", "clip_logits", *score.names]}
    logits = {
        name: (
            "batch",
            *("steps" if value.ndim == 3 and place == 1 else size for place, size in enumerate(value.shape) if place),
        )
        for name, value in zip(names[onnx_graph.SCORE_FILE], made, strict=True)
    }
    encode, features = None, {}
    if network.spec.pictures:
        encode = encode_probe(EncodeOnnx(network), network)
        with torch.no_grad():
            made = encode(*((picture * 255).to(torch.uint8) for picture in encode_example(network, spec)))
        names[onnx_graph.ENCODE_FILE] = [*(f"{m}_features" for m in network.spec.pictures), *encode.names]
        features = {
            name: ("batch", *value.shape[1:]) for name, value in zip(names[onnx_graph.ENCODE_FILE], made, strict=True)
        }
    return onnx_graph.export_graphs(network, spec, encode, features, score, logits), names


@dataclass(frozen=True)
class _Inputs:
    """The same pictures and clips for all stages."""

    network: MMMSBA
    spec: ClipSpec
    pictures: list[dict[str, np.ndarray]]
    """(1, side, side, 3) uint8 by modality."""
    clips: list[dict[str, np.ndarray]]
    """What `score` takes, by dfkit's names, without batch but for PCM."""

    @classmethod
    def of(cls, network: MMMSBA, spec: ClipSpec, clips: Sequence[ParityClip]) -> _Inputs:
        kinds = network.spec.pictures
        places = [n % spec.num_frames for n in range(0, NUM_PICTURES * 13, 13)] if kinds else []
        pictures = [{m: c.arrays[m][n : n + 1] for m in kinds} for c, n in zip(clips, places, strict=False)]
        encode = EncodeGraph(network).eval()
        scored = []
        for clip in clips:
            with torch.no_grad():
                features = encode(*(torch.from_numpy(clip.arrays[m]).float() / 255 for m in kinds)) if kinds else ()
            named = {f"{m}_features": value.numpy() for m, value in zip(kinds, features, strict=True)}
            arrays = {**clip.arrays, **named}
            taken = {name: arrays[name] for name in score_inputs(network, spec)}
            scored.append({n: v[None] if n == "pcm" else v for n, v in taken.items()})
        return cls(network, spec, pictures, scored)

    def through_torch(self, encode: EncodeGraph | StraightEncode, score: ScoreGraph | StraightScore) -> Values:
        """Layers of torch modules."""
        values: Values = {}
        with torch.no_grad():
            if self.pictures:
                probe = encode_probe(encode, self.network)
                for picture in self.pictures:
                    made = probe(*(torch.from_numpy(p).float() / 255 for p in picture.values()))
                    _add(values, [*(f"{m}_features" for m in picture), *probe.names], [v.numpy() for v in made])
            probe = score_probe(score, self.network)
            for clip in self.clips:
                made = probe(*(torch.from_numpy(value) for value in clip.values()))
                _add(values, ["frame_logits", "clip_logits", *probe.names], [v.numpy() for v in made])
        return values

    def through_tflite(self, model: bytes, names: dict[str, list[str]]) -> Values:
        """Layers of a .tflite whose signatures give them as outputs."""
        from ai_edge_litert.interpreter import Interpreter

        backend = tflite.describe(model, self.network, self.spec, "fp32")
        with native_log():
            interpreter = Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
        values: Values = {}
        for key, signature, cases in (("encode", backend.encode, self.pictures), ("score", backend.score, self.clips)):
            if signature is None:
                continue
            runner = interpreter.get_signature_runner(key)
            for case in cases:
                made = runner(**{entry.tensor: _feed(entry, case[entry.name]) for entry in signature.inputs})
                _add(values, names[key], [made[f"output_{place}"] for place in range(len(names[key]))])
        return values

    def through_onnx(self, graphs: dict[str, bytes], names: dict[str, list[str]]) -> Values:
        """Layers of ONNX graphs that give them as outputs."""
        import onnxruntime

        values: Values = {}
        batched = [{n: v if n == "pcm" else v[None] for n, v in clip.items()} for clip in self.clips]
        for file, cases in ((onnx_graph.ENCODE_FILE, self.pictures), (onnx_graph.SCORE_FILE, batched)):
            if file not in graphs:
                continue
            session = onnxruntime.InferenceSession(graphs[file], providers=["CPUExecutionProvider"])
            for case in cases:
                _add(values, names[file], session.run(names[file], case))
        return values


def _feed(entry: TensorEntry, value: np.ndarray) -> np.ndarray:
    if value.dtype == np.uint8:
        return picture_to_graph(value, entry, picture_table(entry))
    return to_graph(value, entry)


def _add(values: Values, names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    for name, array in zip(names, arrays, strict=True):
        # Batches of one: some stages have that axis, some not.
        scale = MAP_SCALE if MAPS.fullmatch(name) else 1.0
        values.setdefault(name, []).append(np.asarray(array, np.float64).squeeze() / scale)


def layer_order(network: MMMSBA) -> list[str]:
    """Names of all layers, first to last."""
    spec = network.spec
    trunk = ("stem", *(f"block{number}" for number in range(spec.face_blocks)))
    maps = {m: tuple(CONVOLUTIONS) if m in spec.plain_cnns else trunk for m in spec.pictures}
    cnns = [f"{m}_{name}" for m in spec.pictures for name in (*maps[m], "features")]
    steps = ["audio_mfcc", "motion_steps", *(f"{m}_{kind}" for kind in ("encoder", "dense") for m in spec.streams)]
    blocks = [block for block in spec.blocks if block not in spec.streams]
    statistics = [f"{m}_statistics" for m in spec.statistics]
    return [*cnns, *steps, *blocks, *statistics, "frame_logits", "clip_logits"]


def _compare(stage: str, reference: str, got: Values, expected: Values, limit: float) -> list[LayerResult]:
    """Names, then shapes, then values.

    Raises:
        ParityError: A layer is missing or has another shape.
    """
    if set(got) != set(expected):
        raise ParityError(f"{stage} has the layers {sorted(got)}, {reference} {sorted(expected)}")
    results = []
    for name, values in expected.items():
        for mine, theirs in zip(got[name], values, strict=True):
            if mine.shape != theirs.shape:
                raise ParityError(f"{stage}: {name} has shape {mine.shape}, {reference} gives {theirs.shape}")
        theirs = np.concatenate([value.ravel() for value in values])
        difference = np.concatenate([value.ravel() for value in got[name]]) - theirs
        # A NaN survives all of these, and no comparison with it passes.
        scale = max(float(np.sqrt(np.mean(theirs**2))), SMALLEST_VALUE)
        share = float(np.sqrt(np.mean(difference**2))) / scale
        largest = float(np.abs(difference).max()), float(np.abs(theirs).max())
        results.append(LayerResult(stage, reference, name, *largest, share, limit))
    return results
