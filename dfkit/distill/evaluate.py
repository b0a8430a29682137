"""Logits of a network on prepared clips, and what is decided from them: metrics, temperature, threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfkit.benchmarks import metrics
from dfkit.benchmarks.review import review_band
from dfkit.data.storage import PreparedData
from dfkit.distill.task import Batch, ClipNetwork
from dfkit.runtime.manifest import Calibration, OperatingPoint
from dfkit.runtime.results import p_fake_of

# Below this many validation videos of each class a fitted temperature or threshold is noise.
MIN_VIDEOS_PER_CLASS = 10


@dataclass(frozen=True)
class ClipLogits:
    """Logits of some prepared clips. N clips, T frames."""

    indices: np.ndarray
    """(N,) clip index in the prepared data."""
    clip: np.ndarray
    """(N, 2) float32."""
    frame: np.ndarray
    """(N, T, 2) float32."""


@torch.no_grad()
def clip_logits(model: ClipNetwork, batches: Iterable[Batch]) -> ClipLogits:
    """Runs a network over batches, in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    indices, clips, frames = [], [], []
    for batch in batches:
        output = model({name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)})
        indices.append(batch["index"].numpy())
        clips.append(output.clip_logits.cpu().numpy())
        missing = model.spec.num_frames - output.frame_logits.shape[1]
        # A uniform50 batch of short videos has fewer frames: the rest are zeros, which no mask lets through.
        frames.append(np.pad(output.frame_logits.cpu().numpy(), ((0, 0), (0, missing), (0, 0))))
    if not indices:
        # A part that was left out of the split on purpose.
        return ClipLogits(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros((0, 0, 2), np.float32))
    return ClipLogits(np.concatenate(indices), np.concatenate(clips), np.concatenate(frames))


def video_logits(data: PreparedData, logits: ClipLogits) -> tuple[np.ndarray, np.ndarray]:
    """Logits of each video as the detector joins them: the mean over a track's clips, of the most suspicious track.

    Returns:
        (V,) video indices in rising order, and (V, 2).
    """
    owners = np.array([(data.clips[i].video_index, data.clips[i].track_id) for i in logits.indices])
    tracks, place = np.unique(owners, axis=0, return_inverse=True)
    sums = np.zeros((len(tracks), 2))
    np.add.at(sums, place.reshape(-1), logits.clip)
    means = sums / np.bincount(place.reshape(-1))[:, None]
    # By video, then by how suspicious: the last of each video is taken.
    order = np.lexsort((means[:, 1] - means[:, 0], tracks[:, 0]))
    videos, first = np.unique(tracks[order, 0][::-1], return_index=True)
    return videos, means[order][::-1][first]


def summarize(
    data: PreparedData, logits: ClipLogits, *, threshold: float = 0.5, calibration_temperature: float = 1.0
) -> dict[str, Any]:
    """Metrics of one split at clip and video level; NaN becomes None.

    Args:
        data: What the clips are from.
        logits: Of the split's clips.
        threshold: On the calibrated p_fake.
        calibration_temperature: Of the decision that the threshold belongs to.
    """
    if len(logits.indices) == 0:
        return {"clips": 0, "videos": 0}
    labels = np.array([data.clips[i].label for i in logits.indices])
    videos, means = video_logits(data, logits)
    video_labels = np.array([data.videos[v].label for v in videos])
    result: dict[str, Any] = {"clips": len(labels), "videos": len(videos)}
    for level, truth, scores in (
        ("clip", labels, p_fake_of(logits.clip, calibration_temperature=calibration_temperature)),
        ("video", video_labels, p_fake_of(means, calibration_temperature=calibration_temperature)),
    ):
        result[level] = metrics.measure(truth, scores, threshold=threshold).to_json()
    result["groups"] = len({data.clips[i].group for i in logits.indices})
    if not data.groups_known:
        result["warning"] = "groups unknown: persons may leak"
    if result["video"]["answers_one_class"]:
        result["warning_one_class"] = "the model gives every video the same answer"
    return result


@dataclass(frozen=True)
class Decision:
    """How logits become a verdict."""

    calibration: Calibration = field(default_factory=Calibration)
    operating_point: OperatingPoint = field(
        default_factory=lambda: OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="0.5, not fitted")
    )


def decide(data: PreparedData, validation: ClipLogits) -> Decision:
    """Temperature, threshold and review band from validation videos, where there are enough to mean anything.

    The temperature minimises the cross-entropy of the video logits; the threshold is the EER point; the band is
    the smallest outside of which at most 5 % of the verdicts are wrong (`dfkit.benchmarks.review`).
    """
    if len(validation.indices):
        videos, means = video_logits(data, validation)
        labels = np.array([data.videos[v].label for v in videos])
    else:
        means, labels = np.zeros((0, 2)), np.zeros(0, np.int64)
    return decide_on(labels, means)


def decide_on(labels: np.ndarray, means: np.ndarray) -> Decision:
    """`decide` from video logits.

    Args:
        labels: (V,) 0 or 1.
        means: (V, 2) logits.
    """
    counts = np.bincount(labels, minlength=2)
    seen = f"{counts[0]} real and {counts[1]} fake validation videos"
    if counts.min() < MIN_VIDEOS_PER_CLASS:
        reason = f"0.5, not fitted: {seen}, at least {MIN_VIDEOS_PER_CLASS} of each are needed"
        point = OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name=reason)
        return Decision(Calibration(fitted_on=f"not fitted: {seen}"), point)
    temperature = fit_temperature(means, labels)
    scores = p_fake_of(means, calibration_temperature=temperature)
    threshold = metrics.operating_threshold(labels, scores, point="eer")
    band = review_band(labels, scores, threshold=threshold)
    name = f"EER on {seen}; {band.said}"
    point = OperatingPoint(threshold=threshold, review_low=band.low, review_high=band.high, name=name)
    return Decision(Calibration(calibration_temperature=temperature, fitted_on=seen), point)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature that minimises cross-entropy, between 0.05 and 20.

    Args:
        logits: (N, 2).
        labels: (N,) 0 or 1.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2, by golden-section search over its logarithm.
    """
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) * np.where(labels == 1, 1, -1)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -margin / np.exp(log_temperature)).mean())

    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def split_facts(data: PreparedData, splits: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Sizes and groups of each split, for checkpoints and reports."""
    facts = {}
    for name, indices in splits.items():
        videos = sorted({data.clips[i].video_index for i in indices})
        labels = [data.videos[v].label for v in videos]
        facts[name] = {
            "clips": len(indices),
            "videos": len(videos),
            "real": labels.count(0),
            "fake": labels.count(1),
            "groups": sorted({str(data.clips[i].group) for i in indices}),
        }
    return facts
