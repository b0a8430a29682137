"""What INT8 takes from a texture trunk, given back before it takes it: weights and biases of its convolutions.

A trunk's features are means over space, so that an error which every place shares stays in them whole. Weights are
therefore rounded so that the errors of each output channel sum to zero, which leaves flat regions as they were, and
what is left on average over the calibration pictures goes into the bias (Nagel et al. 2019, arXiv:1906.04721, section
4.2). Channels that are small before a depthwise convolution are made larger and smaller again in it (section 4.1). The
quantizers find the rounded weights on the grid that they would choose, and round nothing any more.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.errors import ConversionError
from dfkit.export.compact import write_tables
from dfkit.export.texture import TextureGraph, TextureOnnx
from dfkit.measures.spacing import evenly_spaced
from dfkit.models.efficientnet_lite import FaceTexture
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.tflite_file import buffer_bytes, operator_name, read_tables

MAX_PICTURES = 96
"""Of the calibration set, spread over it: maps of all of them are held at once."""
TFLITE_STEPS, ONNX_STEPS = 127.0, 127.5
"""Of a weight's grid, from zero to its channel's largest: int8 of TFLite, and uint8 of ONNX around 128."""

LARGEST = 6.0
"""Of what a ReLU6 gives."""
HEADROOM, SMALLEST_TOP = 1.5, 0.5
"""What a channel may reach beyond its largest value over the calibration set; none is taken for smaller than that."""
BIAS_STEPS = 4
"""Of Newton's method."""
SMALLEST_SHARE = 0.05
"""Of a channel's values that a ReLU6 passes on: where hardly any is, no bias is sought far away."""
SMALLEST_WEIGHT = 1e-4
"""A channel's largest weight is at least that: there are such whose weights training took to zero."""


@dataclass(frozen=True)
class RoundedConv:
    """One convolution, in the layout of its format."""

    weight: np.ndarray
    """As the float graph has it."""
    rounded: np.ndarray
    """On the grid, of the same shape."""
    bias: np.ndarray
    """(channels,), corrected."""
    gain: np.ndarray
    """(channels,) by which INT8 holds its outputs larger; 1 but before a depthwise convolution."""


def round_evenly(weight: Tensor, steps: float) -> Tensor:
    """Rounds to the grid of each output channel, with errors that sum to zero as far as whole steps can.

    Args:
        weight: (out, ...) float32.
        steps: From zero to the channel's largest value.
    Returns:
        The same shape; every value lies less than one step from where it was.
    """
    largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scale = largest.clamp(min=SMALLEST_WEIGHT) / steps
    exact = (weight / scale).flatten(1)
    # Half a step beyond the largest value of uint8 stands nothing.
    lowest, highest = -round(steps), int(steps)
    whole = exact.round().clamp(lowest, highest)
    left = exact - whole
    missing = left.sum(1, keepdim=True).round()
    # Those that were rounded away from where they are needed most, as many as there are steps missing.
    moved = whole + missing.sign()
    needed = (left * missing.sign()).masked_fill((moved < lowest) | (moved > highest), -1)
    order = needed.argsort(dim=1, descending=True).argsort(dim=1)
    whole += missing.sign() * (order < missing.abs())
    return (whole.view_as(weight) * scale).to(weight.dtype)


def missing_bias(made: Tensor, target: Tensor, *, activated: bool) -> Tensor:
    """What has to be added to each channel so that its mean is the target's.

    Args:
        made: (N, C, h, w), before an activation.
        target: (C,), behind it.
        activated: Whether a ReLU6 follows. Where much is cut off by it, a channel's mean before it says little.
    Returns:
        (C,).
    """
    if not activated:
        return target - made.mean((0, 2, 3))
    shift = torch.zeros_like(target)
    for _ in range(BIAS_STEPS):
        moved = made + shift[:, None, None]
        inside = ((moved > 0) & (moved < LARGEST)).float().mean((0, 2, 3))
        shift += (target - moved.clamp(0, LARGEST).mean((0, 2, 3))) / inside.clamp(min=SMALLEST_SHARE)
    return shift


class RoundedWeights(NamedTuple):
    """A convolution as torch has it."""

    exact: Tensor
    """Before it was rounded, its channels scaled."""
    weight: Tensor
    bias: Tensor
    gain: Tensor
    """See `RoundedConv`."""


@dataclass(frozen=True)
class _Channels:
    """What a convolution gives over the calibration pictures, behind its activation."""

    mean: Tensor
    """(C,)."""
    top: Tensor
    """(C,), the largest value."""


@torch.no_grad()
def round_graph(graph: TextureGraph, pictures: Tensor, steps: float) -> dict[str, RoundedWeights]:
    """A trunk's convolutions as INT8 should have them.

    Args:
        graph: Fresh; it is run, no weight is changed.
        pictures: What it takes.
        steps: See `round_evenly`.
    Returns:
        By their names in `graph`, first to last.
    """
    other = copy.deepcopy(graph)
    wanted: dict[str, _Channels] = {}
    rounded: dict[str, RoundedWeights] = {}

    def note(name: str, made: Tensor) -> None:
        behind = made if _is_last(graph, name) else made.clamp(0, LARGEST)
        wanted[name] = _Channels(behind.mean((0, 2, 3)), behind.amax((0, 2, 3)))

    def correct(name: str, conv: nn.Conv2d, made: Tensor) -> Tensor:
        last = _is_last(other, name)
        shift = missing_bias(made, wanted[name].mean, activated=not last)
        assert conv.bias is not None
        conv.bias += shift
        rounded[name] = RoundedWeights(exact[name], conv.weight.data, conv.bias.data, gains[name])
        moved = made + shift[:, None, None]
        return _round_maps(moved if last else moved.clamp(0, LARGEST))

    for name, conv in graph.named_modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_hook(lambda _conv, _given, made, name=name: note(name, made))
    graph(pictures)
    gains = {name: torch.ones_like(found.mean) for name, found in wanted.items()}
    for first, second in _before_depthwise(other, list(wanted)):
        gain = gains[first] = (LARGEST / (HEADROOM * wanted[first].top).clamp(min=SMALLEST_TOP)).clamp(min=1)
        wanted[first] = _Channels(wanted[first].mean * gain, wanted[first].top * gain)
        _scale_channels(other.get_submodule(first), other.get_submodule(second), gain)
    exact: dict[str, Tensor] = {}
    for name in wanted:
        conv = other.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        exact[name], conv.weight.data = conv.weight.data, round_evenly(conv.weight.data, steps)
        conv.register_forward_hook(lambda conv, _given, made, name=name: correct(name, conv, made))
    for block in other.blocks:
        block.register_forward_hook(lambda _block, _given, made: _round_maps(made))
    other(pictures)
    return rounded


def _is_last(graph: TextureGraph, name: str) -> bool:
    """Whether a convolution is the last one of its block, which no activation follows."""
    return any(block.layers[-1].conv is graph.get_submodule(name) for block in graph.blocks)  # type: ignore[union-attr,index]


def _before_depthwise(graph: TextureGraph, names: Sequence[str]) -> list[tuple[str, str]]:
    """Names of each depthwise convolution, behind that of the one before it."""
    pairs = itertools.pairwise(names)
    return [(first, second) for first, second in pairs if graph.get_submodule(second).groups != 1]


def _scale_channels(first: nn.Module, second: nn.Module, gain: Tensor) -> None:
    """Makes channels between two convolutions larger, in place; what the second gives stays, as far as ReLU6 lets it.

    A depthwise convolution has a grid for each channel, so that it costs nothing there.
    """
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and first.bias is not None
    first.weight.data *= gain[:, None, None, None]
    first.bias.data *= gain
    second.weight.data /= gain[:, None, None, None]


def _round_maps(maps: Tensor) -> Tensor:
    """Rounded to 255 steps over their range, zero one of them."""
    low, high = maps.amin().clamp(max=0), maps.amax().clamp(min=0)
    step = ((high - low) / 255).clamp(min=torch.finfo(maps.dtype).tiny)
    return ((maps / step).round().clamp((low / step).round(), (high / step).round())) * step


def rounded_convs(
    network: MMMSBA, clips: Sequence[Mapping[str, np.ndarray]], part: type[TextureGraph], steps: float
) -> list[RoundedConv]:
    """Every convolution of a network's texture trunk, rounded on calibration clips; none where it has no such trunk.

    Args:
        network: In eval mode.
        clips: `face`, (N, side, side, 3) uint8.
        part: The graph that the format is made of.
        steps: Of its grid.
    """
    found = network.picture_network("face") if "face" in network.spec.pictures else None
    if not isinstance(found, FaceTexture):
        return []
    every = np.concatenate([clip["face"] for clip in clips])
    chosen = torch.from_numpy(every[evenly_spaced(len(every), MAX_PICTURES)])
    graph = part(found).eval()
    plain = {name: conv for name, conv in copy.deepcopy(graph).named_modules() if isinstance(conv, nn.Conv2d)}
    rounded = round_graph(graph, chosen if part is TextureOnnx else chosen.float() / 255, steps)
    return [_rounded_conv(plain[name].weight.detach(), found) for name, found in rounded.items()]


def _rounded_conv(weight: Tensor, found: RoundedWeights) -> RoundedConv:
    # The largest value stays what it was, beyond uint8's last step, too: quantizers take the grid from it.
    largest = found.exact.abs().amax(dim=(1, 2, 3), keepdim=True)
    rounded = torch.where(found.exact.abs() == largest, found.exact, found.weight)
    # Such a channel's grid would be too fine for its bias in int32, and one of zeros alone would get another zero point
    # than the others, which QLinearConv does not take.
    rounded[(largest < SMALLEST_WEIGHT).flatten(), 0, 0, 0] = SMALLEST_WEIGHT
    return RoundedConv(weight.numpy(), rounded.numpy(), found.bias.numpy(), found.gain.numpy())


def round_tflite(model: bytes, convs: Sequence[RoundedConv]) -> bytes:
    """A float32 .tflite with rounded convolutions in place of its own.

    Raises:
        ConversionError: It does not have one of them as the trunk has it.
    """
    tables = read_tables(model, where="the converted model")
    data = [buffer_bytes(model, buffer) for buffer in tables.buffers]
    waiting = {_channels_last(conv.weight).tobytes(): conv for conv in convs}
    for graph in tables.subgraphs:
        for operator in graph.operators:
            if operator_name(tables, operator) not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                continue
            conv = waiting.pop(data[graph.tensors[operator.inputs[1]].buffer], None)
            if conv is not None:
                _give(graph, operator, 1, _channels_last(conv.rounded), data)
                _give(graph, operator, 2, conv.bias, data)
    _refuse_left(len(waiting), "the .tflite")
    return write_tables(tables, data)


def _channels_last(weight: np.ndarray) -> np.ndarray:
    """TFLite's layout: (out, rows, columns, in), of a depthwise convolution (1, rows, columns, out)."""
    return np.ascontiguousarray(weight.transpose((1, 2, 3, 0) if weight.shape[1] == 1 else (0, 2, 3, 1)))


def _give(graph: Any, operator: Any, place: int, values: np.ndarray, data: list[bytes]) -> None:
    """Another constant for one operator; where others read the one that it had, a tensor of its own with it."""
    number = int(operator.inputs[place])
    if sum(number in each.inputs for each in graph.operators) > 1:
        graph.tensors.append(copy.copy(graph.tensors[number]))
        graph.tensors[-1].name = f"rounded_constant_{len(data)}"
        number = operator.inputs[place] = len(graph.tensors) - 1
    graph.tensors[number].buffer = len(data)
    data.append(values.tobytes())


def round_onnx(content: bytes, convs: Sequence[RoundedConv]) -> bytes:
    """A float32 graph with rounded convolutions, likewise."""
    import onnx

    model = onnx.load_from_string(content)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    waiting = {conv.weight.tobytes(): conv for conv in convs}
    for number, node in enumerate(model.graph.node):
        weight = constants.get(node.input[1]) if node.op_type == "Conv" else None
        conv = None if weight is None else waiting.pop(weight.tobytes(), None)
        if conv is not None:
            # A bias of zeros may have been left out by the exporter.
            del node.input[1:]
            for name, values in (("weight", conv.rounded), ("bias", conv.bias)):
                node.input.append(f"rounded_{name}_{number}")
                model.graph.initializer.append(onnx.numpy_helper.from_array(values, node.input[-1]))
    _refuse_left(len(waiting), "encode.onnx")
    return model.SerializeToString()


def _refuse_left(count: int, where: str) -> None:
    if count:
        raise ConversionError(
            f"{where} does not hold {count} of the face trunk's convolutions as dfkit gave them to the converter",
            log="",
            fix="install the converters that constraints.txt names",
        )
