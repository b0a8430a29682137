"""What an epoch logs of the validation clips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dfkit.benchmarks import metrics
from dfkit.distill.losses import video_means
from dfkit.runtime.results import p_fake_of

THRESHOLD = 0.5
"""Of the logged decisions; the run's own threshold is fixed when it is over."""
VIDEO_METRICS = ("auc", "accuracy", "balanced_accuracy", "f1", "mcc", "eer", "ece")


def validation_metrics(
    index: Tensor, logits: Tensor, labels: Tensor, video_index: Tensor, video_labels: Tensor
) -> dict[str, float]:
    """Metrics of one epoch by name; NaN where one has no value.

    Args:
        index: (N,) clip indices; one that several processes scored counts once.
        logits: (N, 2) clip logits.
        labels: (N,) of the clips.
        video_index: (N,) which video a clip is from.
        video_labels: (N,) of those videos.
    """
    _, first = np.unique(index.cpu().numpy(), return_index=True)
    places = torch.from_numpy(first)
    logits, labels, video_index, video_labels = (
        value.cpu()[places] for value in (logits, labels, video_index, video_labels)
    )
    loss = F.cross_entropy(logits.double(), labels)
    means, videos = video_means(logits.double(), video_index)
    label_of = dict(zip(video_index.tolist(), video_labels.tolist(), strict=True))
    truth = np.array([label_of[video] for video in videos.tolist()])
    p_fake = p_fake_of(means.numpy(), calibration_temperature=1.0)
    measured = metrics.measure(truth, p_fake, threshold=THRESHOLD)
    _, alarms, misses, found = metrics.confusion(truth, p_fake, threshold=THRESHOLD)
    # Of the class fake; 0 where nothing was called fake, or nothing is.
    called = {"val_precision": found / max(found + alarms, 1), "val_recall": found / max(found + misses, 1)}
    logged = {f"val_{name}": float(getattr(measured, name)) for name in VIDEO_METRICS}
    return {"val_loss": float(loss)} | called | logged
