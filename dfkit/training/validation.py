"""Metrics of the validation clips that every epoch logs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dfkit.measures import metrics
from dfkit.measures.decision import p_fake_of
from dfkit.training.losses import mean_logits_by_video

THRESHOLD = 0.5
"""On p_fake, for the logged metrics; the run's own threshold is fixed after its last epoch."""
VIDEO_METRICS = ("auc", "accuracy", "balanced_accuracy", "f1", "mcc", "eer", "ece")


def validation_metrics(
    index: Tensor, logits: Tensor, labels: Tensor, video_index: Tensor, video_labels: Tensor
) -> dict[str, float]:
    """Metrics of one epoch by name; NaN where one has no value.

    Args:
        index: (N,) clip indices; a clip that several processes scored counts once.
        logits: (N, 2) clip logits.
        labels: (N,) of the clips.
        video_index: (N,) index of each clip's video.
        video_labels: (N,) label of each clip's video.
    """
    _, first_rows = np.unique(index.cpu().numpy(), return_index=True)
    rows = torch.from_numpy(first_rows)
    logits, labels = logits.cpu()[rows], labels.cpu()[rows]
    video_index, video_labels = video_index.cpu()[rows], video_labels.cpu()[rows]
    loss = F.cross_entropy(logits.double(), labels)
    means, videos = mean_logits_by_video(logits.double(), video_index)
    label_of = dict(zip(video_index.tolist(), video_labels.tolist(), strict=True))
    truth = np.array([label_of[video] for video in videos.tolist()])
    p_fake = p_fake_of(means.numpy(), calibration_temperature=1.0)
    measured = metrics.measure(truth, p_fake, threshold=THRESHOLD)
    _, false_positives, false_negatives, true_positives = metrics.confusion(truth, p_fake, threshold=THRESHOLD)
    return {
        "val_loss": float(loss),
        # Of the class fake; 0 where nothing is called fake, or nothing is.
        "val_precision": true_positives / max(true_positives + false_positives, 1),
        "val_recall": true_positives / max(true_positives + false_negatives, 1),
        **{f"val_{name}": float(getattr(measured, name)) for name in VIDEO_METRICS},
    }
