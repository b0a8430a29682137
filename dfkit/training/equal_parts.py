"""Makes the parts that a network's logits are the sum of equally loud, after training.

What a network says over time is trained until it is sure of its training clips, and each of its clip statistics is
fitted under a penalty: left as they are, the first drowns the others, on clips of unknown sources too, where it knows
least. So each part is divided by its deviation over the training clips, and all have the same say.

Source: score normalisation before the sum rule, Jain, Nandakumar and Ross 2005, DOI 10.1016/j.patcog.2005.01.012,
without taking the means off: at 0 each part says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from dfkit.models.clip_statistics import ClipStatistics
from dfkit.models.mmms_ba import MMMSBA, PARTS
from dfkit.training.first_weights import divisors
from dfkit.training.objective import Batch, on_device_of
from dfkit.training.task import ClipNetwork

LEAST_SUM = 0.05
"""Deviation of a sum below which its parts cancel each other, as a share of what it were if they were independent."""


@torch.no_grad()
def equalise_parts(model: ClipNetwork, batches: Iterable[Batch]) -> None:
    """Scales the parts of a network with clip statistics to equal deviation, in place; their sum keeps its own.

    A part that says the same of every clip stays as it is.

    Args:
        model: One without clip statistics stays as it is.
        batches: Training clips as they are, without augmentation.
    """
    network = model.network
    if not network.spec.statistics:
        return
    model.eval()
    told = [model(on_device_of(model, batch)).features[PARTS] for batch in batches]
    parts = torch.cat(told).double()
    margins = parts[..., 1] - parts[..., 0]
    scales = equal_scales(margins)
    for linear, scale in zip(_linears(network), scales.tolist(), strict=True):
        linear.weight.mul_(scale)
        linear.bias.mul_(scale)


def equal_scales(margins: Tensor) -> Tensor:
    """Factors under which all parts that vary have one deviation, and their sum the one that it had.

    Args:
        margins: (N, P) of each part.
    Returns:
        (P,), 1 for a part that does not vary; one that hardly does, and may by rounding alone, stays hardly audible. Of
        parts that cancel each other, as on two clips they may, the sum is as if each were independent.
    """
    deviations = margins.std(0, correction=0)
    varies = deviations > 0
    scales = 1 / divisors(deviations)
    before, after = (parts.sum(1).std(correction=0) for parts in (margins, margins * scales))
    independent = deviations.norm(), varies.sum().sqrt()
    if before < LEAST_SUM * independent[0] or after < LEAST_SUM * independent[1]:
        before, after = independent
    return torch.where(varies, scales * before / after, 1)


def _linears(network: MMMSBA) -> list[nn.Linear]:
    """The last layer of each part, in the parts' order."""
    statistics = [cast(ClipStatistics, part).linear for part in network.statistics.values()]
    return [cast(nn.Linear, network.classifier[0]), *statistics]
