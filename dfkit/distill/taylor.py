"""Gradients of a teacher's weights, by which first-order Taylor importance chooses what is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch

from dfkit.clip import ClipSpec
from dfkit.distill.prune import Weights
from dfkit.models.mmms_ba import MMMSBA
from dfkit.training.losses import classification_loss
from dfkit.training.objective import Batch, fake_share, on_device_of
from dfkit.training.task import ClipNetwork


def minibatch_gradients(
    teacher: MMMSBA, spec: ClipSpec, batches: Iterable[Batch], *, device: torch.device, num_batches: int = 8
) -> tuple[Weights, ...]:
    """Gradients of the clip loss by parameter name, on the CPU, one set for each of some training batches.

    Args:
        teacher: In eval mode, so without dropout; its weights stay.
        spec: Clips it takes.
        batches: Of the training clips.
        device: Where the gradients are computed.
        num_batches: How many, at most.
    """
    model = ClipNetwork(teacher, spec).eval().to(device)
    gradients: list[Weights] = []
    # cuDNN refuses the backward pass of a GRU that is not in training mode; torch's own kernels do it.
    with torch.backends.cudnn.flags(enabled=False):
        for batch in itertools.islice(batches, num_batches):
            on_device = on_device_of(model, batch)
            model.zero_grad()
            classification_loss(model(on_device).clip_logits, fake_share(on_device)).backward()
            gradients.append(
                {
                    name: torch.zeros_like(p, device="cpu") if p.grad is None else p.grad.cpu().clone()
                    for name, p in teacher.named_parameters()
                }
            )
    model.zero_grad()
    model.to("cpu")
    return tuple(gradients)
