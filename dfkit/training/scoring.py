"""Logits of a network on prepared clips, and what follows from them: metrics, temperature, threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfkit.data.storage import PreparedData
from dfkit.measures import metrics
from dfkit.measures.decision import Decision, decide_on, p_fake_of
from dfkit.training.task import Batch, ClipNetwork


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
    """Runs a network over batches, in eval mode and without gradients.

    Args:
        model: Stays in eval mode.
        batches: Of prepared clips; may be empty.
    Returns:
        In the order of the batches; frames of clips shorter than T are zeros.
    """
    model.eval()
    device = next(model.parameters()).device
    indices, clips, frames = [], [], []
    for batch in batches:
        output = model({name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)})
        indices.append(batch["index"].numpy())
        clips.append(output.clip_logits.cpu().numpy())
        # A uniform50 batch of short videos has fewer frames: the rest are zeros, which every mask excludes.
        num_missing = model.spec.num_frames - output.frame_logits.shape[1]
        frames.append(np.pad(output.frame_logits.cpu().numpy(), ((0, 0), (0, num_missing), (0, 0))))
    if not indices:
        # A split that was configured to be empty.
        return ClipLogits(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros((0, 0, 2), np.float32))
    return ClipLogits(np.concatenate(indices), np.concatenate(clips), np.concatenate(frames))


def video_logits(data: PreparedData, logits: ClipLogits) -> tuple[np.ndarray, np.ndarray]:
    """Logits of each video as the detector aggregates them: mean over a track's clips, of the most suspicious track.

    Args:
        data: Prepared data that the clips are from.
        logits: Of some of its clips; at least one.
    Returns:
        (V,) video indices in rising order, and (V, 2).
    """
    clips = [data.clips[index] for index in logits.indices]
    track_of_clip = np.array([(clip.video_index, clip.track_id) for clip in clips])
    tracks, row_of_clip = np.unique(track_of_clip, axis=0, return_inverse=True)
    row_of_clip = row_of_clip.reshape(-1)
    sums = np.zeros((len(tracks), 2))
    np.add.at(sums, row_of_clip, logits.clip)
    means = sums / np.bincount(row_of_clip)[:, None]
    # Sorted by video and, within one, from the most to the least suspicious track: the first of each video is taken.
    margins = means[:, 1] - means[:, 0]
    order = np.lexsort((margins, tracks[:, 0]))[::-1]
    videos, first_rows = np.unique(tracks[order, 0], return_index=True)
    return videos, means[order][first_rows]


def summarize(
    data: PreparedData, logits: ClipLogits, *, threshold: float = 0.5, calibration_temperature: float = 1.0
) -> dict[str, Any]:
    """Metrics of one split at clip and video level; NaN becomes None.

    Args:
        data: Prepared data that the clips are from.
        logits: Of the split's clips.
        threshold: On the calibrated p_fake.
        calibration_temperature: Of the decision that the threshold belongs to.
    """
    if len(logits.indices) == 0:
        return {"clips": 0, "videos": 0}
    clip_labels = np.array([data.clips[index].label for index in logits.indices])
    clip_p_fake = p_fake_of(logits.clip, calibration_temperature=calibration_temperature)
    videos, means = video_logits(data, logits)
    video_labels = np.array([data.videos[index].label for index in videos])
    video_p_fake = p_fake_of(means, calibration_temperature=calibration_temperature)
    result: dict[str, Any] = {
        "clips": len(clip_labels),
        "videos": len(videos),
        "clip": metrics.measure(clip_labels, clip_p_fake, threshold=threshold).to_json(),
        "video": metrics.measure(video_labels, video_p_fake, threshold=threshold).to_json(),
        "groups": len({data.clips[index].group for index in logits.indices}),
    }
    if not data.groups_known:
        result["warning"] = "groups unknown: persons may leak"
    if result["video"]["answers_one_class"]:
        result["warning_one_class"] = "the model gives every video the same answer"
    return result


def decide(data: PreparedData, validation: ClipLogits) -> Decision:
    """Temperature, threshold and review band from validation videos, where there are enough to mean anything.

    The temperature minimises the cross-entropy of the video logits; the threshold is the EER point; the band is
    the smallest outside of which at most 5 % of the verdicts are wrong (`dfkit.measures.review`).

    Args:
        data: Prepared data that the clips are from.
        validation: Logits of the validation clips; may be empty.
    """
    if len(validation.indices):
        videos, means = video_logits(data, validation)
        labels = np.array([data.videos[index].label for index in videos])
    else:
        means, labels = np.zeros((0, 2)), np.zeros(0, np.int64)
    return decide_on(labels, means)


def split_facts(data: PreparedData, splits: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Sizes and groups of each split, as checkpoints and reports store them.

    Args:
        data: Prepared data.
        splits: Clip indices by split.
    """
    facts = {}
    for name, indices in splits.items():
        videos = sorted({data.clips[index].video_index for index in indices})
        labels = [data.videos[index].label for index in videos]
        facts[name] = {
            "clips": len(indices),
            "videos": len(videos),
            "real": labels.count(0),
            "fake": labels.count(1),
            "groups": sorted({str(data.clips[index].group) for index in indices}),
        }
    return facts
