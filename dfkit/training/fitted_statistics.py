"""Fits the clip statistics of a new network to its training clips, before anything else is trained.

What few clips tell of few hundred ramps has a best answer, a regression with a penalty; an optimizer that trains them
beside the rest for some epochs comes to a worse one. Every video counts the same, however long it is, and both classes:
of clips that count the same, those of the longest videos decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.config import DistillConfig, TrainConfig
from dfkit.data.datasets import ClipDataset, RecordAugmenter, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.measures.spacing import evenly_spaced
from dfkit.models.clip_statistics import ClipStatistics
from dfkit.models.mmms_ba import clip_values
from dfkit.models.pictures import to_unit_range
from dfkit.training.objective import Batch, fake_share, on_device_of
from dfkit.training.task import ClipNetwork

MAX_CLIPS = 2000
"""Training clips that are looked at, spread over all; each as it is and augmented."""
STRENGTH = 0.15
"""Inverse of the L2 penalty for a loss that is summed over videos; scikit-learn's C."""
MAX_STEPS = 200
"""Of L-BFGS."""


def fit_statistics(
    model: ClipNetwork, data: PreparedData, clips: Sequence[int], section: TrainConfig | DistillConfig
) -> None:
    """Puts the ramps between quantiles of training clips, and fits what adds them up, in place.

    Each part is a regression of its own; of the sum over all, and what the network says over time, each is an even
    share. Clips of one class alone fit nothing: then statistics say nothing.

    Args:
        model: Of fresh weights; one without clip statistics stays as it is.
        data: Prepared data.
        clips: Training clips with labels.
        section: Of the run; its augmentation is used.
    """
    network = model.network
    if not network.spec.statistics:
        return
    chosen = [clips[place] for place in evenly_spaced(len(clips), MAX_CLIPS)]
    values, labels = _values(model, data, chosen, section)
    videos = torch.tensor([data.clips[clip].video_index for clip in chosen]).repeat(len(labels) // len(chosen))
    weights = video_weights(videos, labels)
    for name, part in network.statistics.items():
        statistics = cast(ClipStatistics, part)
        clips_values = values[name].to(statistics.edges.device)
        statistics.set_edges(clips_values)
        if weights is not None:
            ramps = statistics.ramps(clips_values).detach().cpu()
            margin, bias = fit_regression(ramps, labels, weights, strength=STRENGTH)
            half_share = 0.5 / (1 + len(network.statistics))
            with torch.no_grad():
                statistics.linear.weight.copy_(torch.stack([-margin, margin]) * half_share)
                statistics.linear.bias.copy_(torch.stack([-bias, bias]) * half_share)


@torch.no_grad()
def _values(
    model: ClipNetwork, data: PreparedData, clips: list[int], section: TrainConfig | DistillConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Values of the clips as they are, then augmented, (N, S) by part, and the share of fake frames, (N,)."""
    spec = model.network.spec
    pictures = "face" in spec.statistics
    copies: list[RecordAugmenter | None] = [None]
    if pictures and section.augment.active():
        from dfkit.training.augment import Augmenter

        copies.append(Augmenter(section.augment, section.seed, data.spec))
    found: dict[str, list[Tensor]] = {name: [] for name in spec.statistics}
    labels = []
    for augmenter in copies:
        dataset = ClipDataset(data, clips, augmenter=augmenter, pictures=pictures)
        for place in range(len(dataset)):
            batch = cast(Batch, collate_padded([dataset[0, place]]))
            steps = fixed_steps(model, batch)
            masks = {name: batch.get("audio_mask" if name == "audio" else "frame_mask") for name in steps}
            for part, rows in found.items():
                rows.append(clip_values(part, steps, masks))
            labels.append(fake_share(batch))
    return {name: torch.cat(rows) for name, rows in found.items()}, torch.cat(labels)


def fixed_steps(model: ClipNetwork, batch: Batch) -> dict[str, Tensor]:
    """What training does not change of a batch's steps, (B, T, C) by modality, on the CPU: sound, motion, and a trunk's
    features.

    Args:
        model: Of any network, on any device.
        batch: As the model takes it, on the CPU.
    """
    network = model.network
    batch = on_device_of(model, batch)
    steps = {}
    if "audio" in network.spec.modalities:
        steps["audio"] = batch["mfcc"] if model.front_end is None else model.front_end(batch["waveform"])
    if model.motion is not None:
        steps["motion"] = model.motion(batch["landmarks"])
    if network.trunk_parameters():
        steps["face"] = network.frame_features("face", to_unit_range(batch["face"]))
    return {name: each.cpu() for name, each in steps.items()}


def video_weights(videos: Tensor, labels: Tensor) -> Tensor | None:
    """Weights under which every video counts the same, and both classes; None where one class is missing.

    Args:
        videos: (N,) which video each row is of.
        labels: (N,) share of fake frames.
    Returns:
        (N,) float32; their sum is the number of videos.
    """
    _, place, counts = torch.unique(videos, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[place].float()
    fake = (weights * labels).sum()
    real = weights.sum() - fake
    if not (fake > 0 and real > 0):
        return None
    return weights * len(counts) / 2 * (labels / fake + (1 - labels) / real)


def fit_regression(features: Tensor, labels: Tensor, weights: Tensor, *, strength: float) -> tuple[Tensor, Tensor]:
    """A logistic regression with an L2 penalty on all but its bias, by L-BFGS in float64.

    Args:
        features: (N, F).
        labels: (N,) in [0, 1].
        weights: (N,) of the rows.
        strength: Inverse of the penalty, scikit-learn's C.
    Returns:
        Weights (F,) and bias (), float32, of the log odds.
    """
    rows, targets, shares = features.double(), labels.double(), weights.double()
    weight = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = F.binary_cross_entropy_with_logits(rows @ weight + bias, targets, weight=shares, reduction="sum")
        total: Tensor = strength * errors + 0.5 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weight.detach().float(), bias.detach().float()
