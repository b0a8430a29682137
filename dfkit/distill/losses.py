"""Losses of training and distillation. Axes: B clips, T frames; class 1 = fake."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.errors import ShapeError


def classification_loss(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy, weighted per class, smoothed.

    Args:
        logits: (..., 2) float32.
        labels: (...) int64, 0 real, 1 fake.
        class_weights: (2,) float32; the mean is taken over the weights, so that they only shift the balance.
        label_smoothing: Mass moved off the label, in [0, 1).
    Returns:
        Scalar, nats.
    """
    return F.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), weight=class_weights, label_smoothing=label_smoothing
    )


def distill_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Divergence of the student from the teacher's softened answer.

    Args:
        student_logits: (..., 2) float32.
        teacher_logits: (..., 2) float32, detached.
        temperature: Divides both logits; > 0, unitless.
    Returns:
        Scalar KL(teacher || student), mean over all leading axes, in nats, scaled by temperature**2.
    Raises:
        ShapeError: The shapes differ.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ShapeError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} differ"
        )
    teacher = F.log_softmax(teacher_logits.flatten(0, -2) / temperature, dim=-1)
    student = F.log_softmax(student_logits.flatten(0, -2) / temperature, dim=-1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2


def video_means(logits: Tensor, video_index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean clip logits of each video in a batch.

    Args:
        logits: (B, 2).
        video_index: (B,) int64, which video a clip is from.
    Returns:
        (V, 2) means in rising order of the video index, and (V,) those indices.
    """
    videos, place = torch.unique(video_index, return_inverse=True)
    sums = logits.new_zeros(len(videos), logits.shape[-1]).index_add(0, place, logits)
    counts = torch.bincount(place, minlength=len(videos)).to(logits.dtype)
    return sums / counts[:, None], videos


def balanced_class_weights(labels: list[int]) -> Tensor:
    """Weights that give both classes the same total: (2,) float32, n / (2 n_class)."""
    counts = torch.bincount(torch.tensor(labels), minlength=2).clamp(min=1)
    return len(labels) / (2.0 * counts.float())
