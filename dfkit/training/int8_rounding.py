"""Quantization-aware training: the network computes as the INT8 graph will, while its weights stay float.

What is rounded is what `mixed_int8` rounds: weights of convolutions, dense layers and GRUs to symmetric int8 per
output channel, and the feature maps of the CNNs to int8 with one range each; biases stay float. Activations of
dense and recurrent layers are rounded by ranges found at run time, row by row; that costs little and is left out.
A batch normalization scales whole channels: rounded before it or folded into it, weights are the same.

The gradient passes the rounding straight through inside the range and is zero outside (Bengio et al. 2013,
arXiv:1308.3432, section 4). Saved are the rounded weights: they lie on the grid that the exporter finds again, so
that its rounding of weights changes nothing any more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfkit.models.efficientnet_lite import ConvNorm, InvertedBottleneck
from dfkit.models.mmms_ba import MMMSBA, PREFIX

LEVELS = 127
"""Steps of symmetric int8 on either side of zero; -128 is not used."""
LOW, HIGH = -128, 127
"""Range of asymmetric int8."""
RANGE_DECAY = 0.95
"""Decay of the moving average over training batches by which an activation's range follows its largest value."""
BELOW_ZERO = ", below zero"
"""Behind the name of an activation of either sign: the largest value of its negative."""
SMALLEST_SCALE = 1e-12
"""Lower limit of a scale: a channel of zeros has none."""
STATISTICS = "statistics."
"""Begins the names of what the clip's statistics weigh, which the graph keeps in float."""


class RoundToGrid(torch.autograd.Function):
    """Rounds to (q - zero_point) * scale with whole q from low to high; half goes to the even one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor, zero_point: int, low: int, high: int) -> Tensor:
        """The rounded value, clipped to the steps from low to high."""
        steps = torch.round(value / scale) + zero_point
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return (steps.clamp(low, high) - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Straight-through gradient: unchanged where nothing was clipped, else zero."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


def round_weight(weight: Tensor) -> Tensor:
    """Fake quantization to symmetric int8 per output channel.

    Args:
        weight: (out, ...) float32; each channel gets the scale largest |w| / 127.
    Returns:
        The same shape, on the grid of each channel; the gradient passes straight through.
    """
    largest = weight.detach().abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    return round_to_grid(weight, (largest / LEVELS).clamp(min=SMALLEST_SCALE), 0, -LEVELS, LEVELS)


def round_positive(value: Tensor, top: Tensor) -> Tensor:
    """Fake quantization of a ReLU's output to int8: 0 to `top` in 255 steps, zero point -128.

    Args:
        value: Any shape, >= 0.
        top: Scalar; larger values are clipped and get no gradient.
    Returns:
        The same shape.
    """
    return round_to_grid(value, (top / (HIGH - LOW)).clamp(min=SMALLEST_SCALE), LOW, LOW, HIGH)


def round_signed(value: Tensor, low: Tensor, top: Tensor) -> Tensor:
    """Fake quantization of maps of either sign to int8: 255 steps from -`low` to `top`, zero one of them.

    Args:
        value: Any shape.
        low: Scalar >= 0; smaller values than its negative are clipped and get no gradient.
        top: Scalar >= 0, likewise.
    Returns:
        The same shape.
    """
    scale = ((low + top) / (HIGH - LOW)).clamp(min=SMALLEST_SCALE)
    return round_to_grid(value, scale, LOW + round(float(low / scale)), LOW, HIGH)


def round_to_grid(value: Tensor, scale: Tensor, zero_point: int, low: int, high: int) -> Tensor:
    """Applies `RoundToGrid`.

    Args:
        value: Any shape.
        scale: Step of the grid; broadcast to `value`.
        zero_point: Step that stands for 0.
        low: Smallest step.
        high: Largest step.
    """
    rounded: Tensor = RoundToGrid.apply(value, scale, zero_point, low, high)
    return rounded


def rounded_weights(network: MMMSBA) -> dict[str, Tensor]:
    """Every weight that the INT8 graph rounds, by parameter name, rounded as there."""
    rounded: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith(STATISTICS):
            rounded[f"{name}.weight"] = round_weight(module.weight)
        elif isinstance(module, nn.GRU):
            weights = [key for key, _ in module.named_parameters() if key.startswith("weight_")]
            rounded |= {f"{name}.{key}": round_weight(module.get_parameter(key)) for key in weights}
    return rounded


class Int8Rounding:
    """Runs a network under the rounding of its INT8 graph."""

    def __init__(self, network: MMMSBA, activation_maxima: dict[str, float] | None = None) -> None:
        """Hooks into the activations of a network's CNNs.

        Args:
            network: Its weights stay as they are.
            activation_maxima: Largest value of each activation to start from; else that of the first training batch.
        """
        self.network = network
        self.activation_maxima = dict(activation_maxima or {})
        self.active = False
        for modality in network.spec.pictures:
            for place, layer in network.picture_network(modality).named_modules():
                if isinstance(layer, nn.ReLU | ConvNorm) or (isinstance(layer, InvertedBottleneck) and layer.shortcut):
                    positive = isinstance(layer, nn.ReLU) or (isinstance(layer, ConvNorm) and layer.activate)
                    layer.register_forward_hook(self._hook(f"{PREFIX[modality]}.{place}", positive=positive))

    def _hook(self, name: str, *, positive: bool) -> Any:
        def round_output(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            if not self.active:
                return None
            top = self._largest(name, output, module.training)
            if positive:
                return round_positive(output, top)
            return round_signed(output, self._largest(f"{name}{BELOW_ZERO}", -output, module.training), top)

        return round_output

    def _largest(self, name: str, value: Tensor, training: bool) -> Tensor:
        """The largest value of an activation so far, as a scalar of its type; a batch in training moves it."""
        if training or name not in self.activation_maxima:
            largest = max(float(value.detach().amax()), 0.0)
            before = self.activation_maxima.get(name, largest)
            self.activation_maxima[name] = RANGE_DECAY * before + (1 - RANGE_DECAY) * largest
        return torch.tensor(self.activation_maxima[name]).to(value)

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """Forward pass of a model under rounding.

        Args:
            model: Holds the network as its attribute `network`.
            batch: Input of the model.
        Returns:
            Output of the model.
        """
        weights = {f"network.{name}": value for name, value in rounded_weights(self.network).items()}
        self.active = True
        try:
            return functional_call(model, weights, (batch,))
        finally:
            self.active = False

    @torch.no_grad()
    def rounded_network(self) -> MMMSBA:
        """A copy of the network with rounded weights and without hooks, in eval mode."""
        clean = MMMSBA(self.network.spec, frame_resampling=self.network.frame_resampling)
        state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        state |= {name: value.detach().clone() for name, value in rounded_weights(self.network).items()}
        clean.load_state_dict(state)
        return clean.eval()
