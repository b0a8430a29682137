"""Logits of a network on prepared clips, and what follows from them: metrics, temperature, threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dfkit.data.catalog import HASH_LENGTH
from dfkit.data.label_words import FAKE, family_of_method
from dfkit.data.protocols import protocol_of
from dfkit.data.storage import PreparedData
from dfkit.measures import metrics
from dfkit.measures.bootstrap import rows_by_group
from dfkit.measures.decision import (
    Aggregation,
    Decision,
    OperatingTarget,
    VideoScores,
    fit_decision,
    margins_of,
    p_fake_of_margin,
    video_margin,
)
from dfkit.training.objective import Batch, on_device_of
from dfkit.training.task import ClipNetwork


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
    indices, clips, frames = [], [], []
    for batch in batches:
        output = model(on_device_of(model, batch))
        indices.append(batch["index"].numpy())
        clips.append(output.clip_logits.cpu().numpy())
        # A uniform50 batch of short videos has fewer frames: the rest are zeros, which every mask excludes.
        num_missing = model.spec.num_frames - output.frame_logits.shape[1]
        frames.append(np.pad(output.frame_logits.cpu().numpy(), ((0, 0), (0, num_missing), (0, 0))))
    if not indices:
        # A split that was configured to be empty.
        return ClipLogits(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros((0, 0, 2), np.float32))
    return ClipLogits(np.concatenate(indices), np.concatenate(clips), np.concatenate(frames))


def scores_by_video(data: PreparedData, logits: ClipLogits) -> dict[int, VideoScores]:
    """The scored clips of each video, by video index in rising order.

    Args:
        data: What the clips are from.
        logits: Of some of its clips.
    """
    clips = [data.clips[i] for i in logits.indices]
    owners = np.array([clip.video_index for clip in clips], np.int64)
    tracks = np.array([clip.track_id for clip in clips], np.int64)
    starts = np.array([clip.start_s for clip in clips], np.float64)
    return {
        int(owners[rows[0]]): VideoScores(logits.clip[rows], tracks[rows], starts[rows])
        for rows in rows_by_group(owners)
    }


def video_margins(
    data: PreparedData, logits: ClipLogits, aggregation: Aggregation | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Margin of each video by the rule of `dfkit.measures.decision`.

    Args:
        data: What the clips are from.
        logits: Of some of its clips.
        aggregation: Of a track's clips; their mean where left out.
    Returns:
        (V,) video indices in rising order, and (V,) margins.
    """
    scores = scores_by_video(data, logits)
    rule = aggregation or Aggregation()
    return np.array(list(scores), np.int64), np.array([video_margin(each, rule) for each in scores.values()])


def summarize(
    data: PreparedData, logits: ClipLogits, decision: Decision | None = None, *, part: str | None = None
) -> dict[str, Any]:
    """Metrics of one split at clip and video level, with their protocol; NaN becomes None.

    Args:
        data: Prepared data that the clips are from.
        logits: Of the split's clips.
        decision: Calibration, threshold and aggregation; the default one where left out.
        part: The split's name, for the protocol.
    """
    if len(logits.indices) == 0:
        return {"clips": 0, "videos": 0}
    rule = decision or Decision()
    labels = np.array([data.clips[i].label for i in logits.indices])
    videos, margins = video_margins(data, logits, rule.aggregation)
    video_labels = np.array([data.videos[v].label for v in videos])
    result: dict[str, Any] = {"clips": len(labels), "videos": len(videos)}
    for level, truth, values in (("clip", labels, margins_of(logits.clip)), ("video", video_labels, margins)):
        p_fake = p_fake_of_margin(values, calibration_temperature=rule.temperature)
        result[level] = metrics.measure(truth, p_fake, threshold=rule.threshold).to_json()
    result["groups"] = len({data.clips[i].group for i in logits.indices})
    result["protocol"] = protocol_of(data, videos.tolist(), part=part, aggregation=rule.aggregation).to_json()
    if not data.groups_known:
        result["warning"] = "groups unknown: persons may leak"
    if result["video"]["answers_one_class"]:
        result["warning_one_class"] = "the model gives every video the same answer"
    return result


def decide(data: PreparedData, validation: ClipLogits, target: OperatingTarget | None = None) -> Decision:
    """The decision from validation videos, see `fit_decision`."""
    scores = scores_by_video(data, validation)
    videos = [data.videos[v] for v in scores]
    return fit_decision(
        list(scores.values()),
        np.array([video.label for video in videos], np.int64),
        target=target,
        groups=[str(data.groups[v]) for v in scores],
        partly_fake=np.array([is_partly_fake(data, v) for v in scores], bool),
    )


def is_partly_fake(data: PreparedData, video: int) -> bool:
    """Whether a video is fake in some of its clips and real in others, as its labels have it."""
    row = data.videos[video]
    has_fake = [clip.fake_frames > 0 for clip in row.clips]
    return row.label == 1 and any(has_fake) and not all(has_fake)


def split_facts(data: PreparedData, splits: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Sizes of each split, its groups, and what tells its videos and persons apart in other data, too.

    `group_ids` are the persons, sources and sounds as the labels name them, of which a group may join several;
    `file_hashes` are beginnings of the files' SHA-256, `families` the generators of the fakes.

    Args:
        data: Prepared data.
        splits: Clip indices by split.
    """
    facts = {}
    for name, indices in splits.items():
        videos = sorted({data.clips[index].video_index for index in indices})
        labels = [data.videos[index].label for index in videos]
        fakes = [data.videos[index] for index in videos if data.videos[index].label == FAKE]
        facts[name] = {
            "clips": len(indices),
            "videos": len(videos),
            "real": labels.count(0),
            "fake": labels.count(1),
            "groups": sorted({str(data.clips[index].group) for index in indices}),
            "group_ids": sorted({each for v in videos for each in data.videos[v].groups}),
            "file_hashes": sorted({data.videos[v].sha256[:HASH_LENGTH] for v in videos}),
            "families": sorted({family_of_method(row.method) for row in fakes if row.method}),
        }
    return facts
