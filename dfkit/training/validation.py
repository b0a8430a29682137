"""What an epoch logs of the validation clips, by the rule of `dfkit.measures.decision` with the mean of a track's
clips: the aggregation that ships is chosen after the last epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from dfkit.measures import metrics
from dfkit.measures.bootstrap import rows_by_group
from dfkit.measures.decision import (
    Aggregation,
    VideoScores,
    margins_of,
    p_fake_of,
    p_fake_of_margin,
    video_margin,
)
from dfkit.training.losses import classification_loss

THRESHOLD = 0.5
"""On p_fake, for the logged metrics; the run's own threshold is fixed after its last epoch."""
VIDEO_METRICS = ("auc", "accuracy", "balanced_accuracy", "f1", "mcc", "eer", "ece")


@dataclass(frozen=True)
class ValidationRows:
    """The validation clips of an epoch. N clips, T frames."""

    index: Tensor
    """(N,) clip indices; one that several processes scored counts once."""
    mismatched: Tensor
    """(N,) bool, copies with other sound."""
    clip_logits: Tensor
    """(N, 2)."""
    frame_logits: Tensor
    """(N, T, 2)."""
    fake_share: Tensor
    """(N,) share of fake frames, in [0, 1]."""
    frame_labels: Tensor
    """(N, T) 0 or 1."""
    frame_mask: Tensor
    """(N, T) bool, False where a frame is padding."""
    video_index: Tensor
    """(N,) which video a clip is from."""
    track_id: Tensor
    """(N,) which of the video's faces."""
    video_label: Tensor
    """(N,) of those videos."""


def validation_metrics(rows: ValidationRows) -> dict[str, float]:
    """Metrics of one epoch by name; NaN where one has no value.

    `val_loss` is by clip, copies with other sound among them; where there are some, `val_sync_auc` tells those of real
    videos from the clips as they are. `val_frame_*` is by frame of a clip, `val_real_frame_accuracy` by frames labelled
    real; the others are by video: mean over a track's clips, then the most suspicious track.
    """
    keys = torch.stack([rows.index, rows.mismatched.to(rows.index)], dim=1).cpu().numpy()
    _, first = np.unique(keys, axis=0, return_index=True)
    arrays = {field.name: getattr(rows, field.name).cpu()[first] for field in fields(rows)}
    loss = classification_loss(arrays["clip_logits"].double(), arrays["fake_share"].double())
    by_name = {name: value.numpy() for name, value in arrays.items()}
    logged = {"val_loss": float(loss)}
    if by_name["mismatched"].any():
        real = by_name["video_label"] == 0
        wrong, margins = by_name["mismatched"][real], margins_of(by_name["clip_logits"][real])
        logged["val_sync_auc"] = metrics.auc(wrong.astype(np.int64), margins)
    own = {name: value[~by_name["mismatched"]] for name, value in by_name.items()}
    return logged | _video_metrics(own) | _frame_metrics(own)


def _video_metrics(rows: dict[str, np.ndarray]) -> dict[str, float]:
    truth, margins = [], []
    for own in rows_by_group(rows["video_index"]):
        scores = VideoScores(rows["clip_logits"][own], rows["track_id"][own], np.zeros(len(own)))
        margins.append(video_margin(scores, Aggregation()))
        truth.append(int(rows["video_label"][own][0]))
    labels, p_fake = np.array(truth), p_fake_of_margin(np.array(margins), calibration_temperature=1.0)
    measured = metrics.measure(labels, p_fake, threshold=THRESHOLD)
    _, alarms, misses, found = metrics.confusion(labels, p_fake, threshold=THRESHOLD)
    # Of the class fake; 0 where nothing was called fake, or nothing is.
    called = {"val_precision": found / max(found + alarms, 1), "val_recall": found / max(found + misses, 1)}
    return called | {f"val_{name}": float(getattr(measured, name)) for name in VIDEO_METRICS}


def _frame_metrics(rows: dict[str, np.ndarray]) -> dict[str, float]:
    mask = rows["frame_mask"]
    labels = rows["frame_labels"][mask].astype(np.int64)
    logits = rows["frame_logits"][mask]
    p_fake = p_fake_of(logits, calibration_temperature=1.0)
    real = labels == 0
    return {
        "val_frame_accuracy": metrics.accuracy(labels, p_fake, threshold=THRESHOLD),
        "val_real_frame_accuracy": metrics.accuracy(labels[real], p_fake[real], threshold=THRESHOLD),
        "val_frame_auc": metrics.auc(labels, margins_of(logits)),
    }
