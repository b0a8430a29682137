"""Quantization-aware training: the network computes as the INT8 graph will, while its weights stay float.

What is rounded is what `mixed_int8` rounds: weights of convolutions, dense layers and GRUs to symmetric int8 per
output channel, and the outputs of the CNNs' activations to int8 with one range each. The recurrence is exported as one
batched product, so all directions of all modalities share the scales of its columns, here too. Activations of dense
and recurrent layers are rounded by ranges found at run time, row by row; that costs little and is left out.

The gradient passes the rounding straight through inside the range and is zero outside (Bengio et al. 2013,
arXiv:1308.3432, section 4). Saved are the rounded weights: they lie on the grid that the exporter finds again, so
that its rounding of weights changes nothing any more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfkit.models.mmms_ba import MMMSBA, PREFIX

LEVELS = 127
"""Of symmetric int8 on either side of zero; -128 is not used."""
LOW, HIGH = -128, 127
RANGE_MEMORY = 0.95
"""Share of the old range that a training batch leaves; its own largest value makes up the rest."""
SMALLEST_SCALE = 1e-12
"""A channel of zeros has no scale of its own."""


class RoundToGrid(torch.autograd.Function):
    """Rounds to (q - zero_point) * scale with whole q from low to high; half goes to the even one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor, zero_point: int, low: int, high: int) -> Tensor:
        """See the class."""
        steps = torch.round(value / scale) + zero_point
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return (steps.clamp(low, high) - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient as it is where nothing was clipped, else zero."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


def round_weight(weight: Tensor, axis: int = 0) -> Tensor:
    """Symmetric int8 by channel, on float values.

    Args:
        weight: Any shape; `axis` counts the channels, each of which gets the scale largest |w| / 127.
        axis: Which one that is.
    Returns:
        The same shape; the gradient passes straight through.
    """
    others = [dim for dim in range(weight.ndim) if dim != axis]
    largest = weight.detach().abs().amax(dim=others, keepdim=True)
    return grid(weight, (largest / LEVELS).clamp(min=SMALLEST_SCALE), 0, -LEVELS, LEVELS)


def round_positive(value: Tensor, top: Tensor) -> Tensor:
    """int8 of what a ReLU gives: 0 to `top` in 255 steps, zero point -128.

    Args:
        value: Any shape, >= 0.
        top: Scalar; larger values are clipped and get no gradient.
    """
    return grid(value, (top / (HIGH - LOW)).clamp(min=SMALLEST_SCALE), LOW, LOW, HIGH)


def grid(value: Tensor, scale: Tensor, zero_point: int, low: int, high: int) -> Tensor:
    """`RoundToGrid` with a type."""
    rounded: Tensor = RoundToGrid.apply(value, scale, zero_point, low, high)
    return rounded


def rounded_weights(network: MMMSBA) -> dict[str, Tensor]:
    """Every weight that the INT8 graph rounds, by parameter name, rounded as there; biases stay, but one.

    The candidate gate's hidden bias stands inside the reset product and is rounded with it.
    """
    rounded: dict[str, Tensor] = {}
    recurrent: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            rounded[f"{name}.weight"] = round_weight(module.weight)
        elif isinstance(module, nn.GRU):
            for end in ("", "_reverse"):
                rounded[f"{name}.weight_ih_l0{end}"] = round_weight(getattr(module, f"weight_ih_l0{end}"))
                recurrent[f"{name}.{{}}_hh_l0{end}"] = getattr(module, f"weight_hh_l0{end}")
    names = list(recurrent)
    products = round_weight(torch.stack(list(recurrent.values())), axis=1)
    rounded |= {name.format("weight"): value for name, value in zip(names, products, strict=True)}
    hidden = network.spec.gru_hidden
    biases = torch.stack([network.get_parameter(name.format("bias")) for name in names])
    candidates = round_weight(biases[:, 2 * hidden :], axis=1)
    for name, whole, candidate in zip(names, biases, candidates, strict=True):
        rounded[name.format("bias")] = torch.cat([whole[: 2 * hidden], candidate])
    return rounded


class Int8Rounding:
    """Runs a network under the rounding of its INT8 graph."""

    def __init__(self, network: MMMSBA, tops: dict[str, float] | None = None) -> None:
        """Watches the activations of a network's CNNs.

        Args:
            network: Its weights stay as they are.
            tops: Ranges to start from, by activation; else those of the first training batch.
        """
        self.network = network
        self.tops = dict(tops or {})
        self.active = False
        for modality in network.spec.pictures:
            cnn = network.part(modality, "feature_extractor")
            for place, layer in cnn.named_children():
                if isinstance(layer, nn.ReLU):
                    layer.register_forward_hook(self._hook(f"{PREFIX[modality]}.{place}"))

    def _hook(self, name: str) -> Any:
        def round_output(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            if not self.active:
                return None
            if module.training or name not in self.tops:
                largest = float(output.detach().amax())
                self.tops[name] = RANGE_MEMORY * self.tops.get(name, largest) + (1 - RANGE_MEMORY) * largest
            return round_positive(output, torch.tensor(self.tops[name]).to(output))

        return round_output

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """What the model answers under rounding.

        Args:
            model: Holds the network as `network`.
            batch: As the model takes it.
        """
        weights = {f"network.{name}": value for name, value in rounded_weights(self.network).items()}
        self.active = True
        try:
            return functional_call(model, weights, (batch,))
        finally:
            self.active = False

    @torch.no_grad()
    def rounded_network(self) -> MMMSBA:
        """A copy of the network whose weights lie on the grid; without the hooks of this object."""
        clean = MMMSBA(self.network.spec, frame_resampling=self.network.frame_resampling)
        state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        state |= {name: value.detach().clone() for name, value in rounded_weights(self.network).items()}
        clean.load_state_dict(state)
        return clean.eval()
