"""Several networks of different streams as one: its margin is the sum of theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dfkit.errors import ShapeError
from dfkit.models.mmms_ba import MMMSBA, PREFIX

SHARED = ("gru_hidden", "dense_dim", "attention", "audio_dim")
"""Fields of the networks' specs that have to agree."""


@torch.no_grad()
def join_networks(parts: Sequence[MMMSBA], shares: Sequence[float]) -> MMMSBA:
    """One network that runs the streams of all parts and adds up what each says.

    What was trained apart stays apart: the head reads nothing of blocks that join streams of two parts, until it is
    trained further.

    Args:
        parts: Networks of different modalities and equal widths.
        shares: Factor on the logits of each.
    Returns:
        In eval mode.
    Raises:
        ShapeError: Two parts have a stream in common, or their widths differ.
    """
    specs = [part.spec for part in parts]
    names = [name for spec in specs for name in spec.modalities]
    if len(set(names)) < len(names):
        raise ShapeError(f"networks of {', '.join(names)}: each stream may be in one of them alone")
    for field in SHARED:
        if len({getattr(spec, field) for spec in specs}) > 1:
            raise ShapeError(f"networks of different {field}: {[getattr(spec, field) for spec in specs]}")
    picture = next((spec for spec in specs if "face" in spec.modalities), specs[0])
    lips = next((spec for spec in specs if "lip" in spec.modalities), specs[0])
    joined = MMMSBA(
        picture.model_copy(
            update={
                "modalities": tuple(name for name in PREFIX if name in names),
                "lip_channels": lips.lip_channels,
                "aligned": any(spec.aligned for spec in specs),
                "clip_statistics": any(spec.clip_statistics for spec in specs),
                "sound_deviation": any(spec.sound_deviation for spec in specs),
                "motion_over_time": any("motion" in spec.streams for spec in specs),
            }
        )
    )
    state = joined.state_dict()
    head_weight, head_bias = (torch.zeros_like(state[f"classifier.0.{name}"]) for name in ("weight", "bias"))
    columns = joined.spec.columns
    for part, share in zip(parts, shares, strict=True):
        own = part.state_dict()
        state |= {name: value for name, value in own.items() if not name.startswith("classifier.")}
        for name in part.statistics:
            for key in (f"statistics.{name}.linear.weight", f"statistics.{name}.linear.bias"):
                state[key] = share * own[key]
        for block, place in part.spec.columns.items():
            head_weight[:, columns[block]] = share * own["classifier.0.weight"][:, place]
        head_bias += share * own["classifier.0.bias"]
    joined.load_state_dict({**state, "classifier.0.weight": head_weight, "classifier.0.bias": head_bias})
    return joined.eval()
