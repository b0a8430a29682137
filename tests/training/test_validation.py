"""Metrics of an epoch: by video, each clip once however many processes scored it."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from dfkit.config import LOGGED_METRICS
from dfkit.training.validation import validation_metrics


def test_metrics_are_by_video_and_count_clips_once() -> None:
    # Three videos; the first's two clips disagree, its mean margin is -1: called real, which it is.
    margins, labels = torch.tensor([2.0, -4.0, 3.0, -0.5]), torch.tensor([0, 0, 1, 1])
    logits = torch.stack([torch.zeros(4), margins], dim=1)
    videos, video_labels = torch.tensor([5, 5, 6, 8]), torch.tensor([0, 0, 1, 1])
    index = torch.tensor([10, 11, 12, 13])
    got = validation_metrics(index, logits, labels, videos, video_labels)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert got["val_loss"] == pytest.approx(float(torch.log1p(torch.exp(signs * margins)).mean()))
    truth, scores = [0, 1, 1], [-1.0, 3.0, -0.5]
    assert got["val_auc"] == roc_auc_score(truth, scores) == 1.0
    assert got["val_accuracy"] == pytest.approx(2 / 3)
    assert got["val_balanced_accuracy"] == balanced_accuracy_score(truth, [s > 0 for s in scores]) == 0.75
    assert (got["val_precision"], got["val_recall"]) == (1.0, 0.5)
    twice = validation_metrics(*(torch.cat([x, x[:2]]) for x in (index, logits, labels, videos, video_labels)))
    assert twice == got


def test_what_is_logged_is_what_can_be_monitored() -> None:
    zeros = torch.zeros(2, dtype=torch.long)
    got = validation_metrics(torch.arange(2), torch.zeros(2, 2), zeros, torch.arange(2), zeros)
    assert {"train_loss", *got} == set(LOGGED_METRICS)
    assert math.isnan(got["val_auc"])
