"""Writes checkpoints in the original MMMS-BA format, weights bit for bit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dfkit.files import whole_file
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.original import METRIC_NAMES, WEIGHTS_KEY, refuse_foreign_network

# The original's settings, for the optimizer and schedule states of a network whose training is not known.
LEARNING_RATE, WEIGHT_DECAY, T_MAX, ETA_MIN = 5e-4, 1e-4, 15, 1e-5


def save_original(
    path: str | Path,
    network: MMMSBA,
    *,
    epoch: int = 0,
    metrics: Mapping[str, float] | None = None,
    optimizer_state: dict[str, Any] | None = None,
    scheduler_state: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Writes a checkpoint that the original implementation reads; weights are kept bit for bit.

    Args:
        path: The `.pth`; replaced when the new file is whole.
        network: Audio, face and lip at the original's CNN widths.
        epoch: From 0 on.
        metrics: `acc`, `loss`, `precision`, `recall`, `f1` of the best epoch on validation data; NaN where left out.
        optimizer_state: Of the training; where left out that of a fresh Adam at the original's settings.
        scheduler_state: Likewise, of a fresh cosine schedule.
        config: Under the original's YAML keys; plain values.
    Returns:
        The path.
    Raises:
        CheckpointError: The original cannot build such a network.
    """
    refuse_foreign_network(network.spec)
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=T_MAX, eta_min=ETA_MIN)
    measured = metrics or {}
    content: dict[str, Any] = {
        "epoch": int(epoch),
        WEIGHTS_KEY: OrderedDict((name, value.detach().cpu()) for name, value in network.state_dict().items()),
        "optimizer_state_dict": adam.state_dict() if optimizer_state is None else optimizer_state,
        "scheduler_state_dict": cosine.state_dict() if scheduler_state is None else scheduler_state,
        **{f"best_val_{name}": float(measured.get(name, float("nan"))) for name in METRIC_NAMES},
    }
    if config is not None:
        content["config"] = config
    path = Path(path)
    with whole_file(path) as temporary:
        torch.save(content, temporary)
    return path
