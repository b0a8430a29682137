"""A network of another one's shape under whose weights every input moves every output.

Parity on weak weights proves nothing: with default-initialised weights, zeroed faces move a logit by 0.004. Random
weights are scaled layer by layer on real inputs until each channel has zero mean and unit deviation there (data-
dependent initialisation; Mishkin and Matas 2015, arXiv:1511.06422, here per channel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.export.parity import ParityClip, torch_logits
from dfkit.models.clip_statistics import ClipStatistics
from dfkit.models.mmms_ba import MMMSBA

DENSE_DEVIATION = 0.5
"""Of the dense layers' outputs: with 1 the attention behind them is all or nothing, and one rounding turns it over."""
LOGIT_DEVIATION = 1.0
"""Of clip logits over the clips."""
SMALLEST_DEVIATION = 1e-3
"""Of a channel: one that hardly varies is raised a thousandfold at most."""


@torch.no_grad()
def stressed_network(
    network: MMMSBA,
    spec: ClipSpec,
    clips: Sequence[ParityClip],
    *,
    seed: int = 0,
    deviation: float = DENSE_DEVIATION,
) -> MMMSBA:
    """A network of the same shape with strong weights.

    Args:
        network: Gives the shape; its weights play no part.
        spec: Its clips.
        clips: What the layers are scaled on; at least two that differ.
        seed: Of the weights before they are scaled.
        deviation: Of the dense layers' outputs.
    Returns:
        In eval mode; the same for the same shape, clips and seed.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        stressed = MMMSBA(network.spec, frame_resampling=network.frame_resampling).eval()
        for part in stressed.statistics.children():
            assert isinstance(part, ClipStatistics)
            nn.init.normal_(part.linear.weight)
    handles = []
    for module in stressed.modules():
        if isinstance(module, ClipStatistics):
            handles.append(module.register_forward_pre_hook(_once(ClipStatistics.set_edges)))
        # Behind a convolution without a bias stands a batch normalization.
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and module.bias is not None:
            handles.append(module.register_forward_pre_hook(_once(partial(_scale_layer, deviation=deviation))))
        elif isinstance(module, nn.GRU):
            handles.append(module.register_forward_pre_hook(_once(_scale_gru)))
    try:
        # In one batch: every layer is scaled on all clips before the next one sees them.
        torch_logits(stressed, spec, clips, batched=True)
    finally:
        for handle in handles:
            handle.remove()
    for value in stressed.classifier.parameters():
        value.mul_(LOGIT_DEVIATION / deviation)
    return stressed


def _once(scale: Callable[[Any, Tensor], None]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that scales a layer by the first input that it meets."""
    met: set[nn.Module] = set()

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module not in met:
            met.add(module)
            scale(module, inputs[0])

    return hook


def _scale_layer(layer: nn.Conv2d | nn.Linear | nn.BatchNorm2d, given: Tensor, *, deviation: float) -> None:
    made = layer.forward(given)
    # Channels first: (C, everything else).
    channels = made.transpose(0, 1).flatten(1) if made.ndim == 4 else made.flatten(0, -2).t()
    _normalise(layer.weight, layer.bias, channels, 1.0 if made.ndim == 4 else deviation)


def _scale_gru(gru: nn.GRU, given: Tensor) -> None:
    steps = given.flatten(0, -2)
    for end in ("", "_reverse"):
        weight, bias = gru.get_parameter(f"weight_ih_l0{end}"), gru.get_parameter(f"bias_ih_l0{end}")
        _normalise(weight, bias, torch.addmm(bias, steps, weight.t()).t(), 1.0)


def _normalise(weight: Tensor, bias: Tensor | None, channels: Tensor, deviation: float) -> None:
    """Scales (C, ...) weights in place so that the channels, (C, n), get zero mean and that deviation."""
    mean = channels.mean(1)
    gain = deviation / channels.std(1).clamp(min=SMALLEST_DEVIATION)
    weight.mul_(gain.view(-1, *[1] * (weight.ndim - 1)))
    assert bias is not None
    bias.copy_((bias - mean) * gain)
