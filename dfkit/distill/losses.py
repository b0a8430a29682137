"""Losses of training and distillation. Axes: B clips, T frames; class 1 = fake."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.errors import ShapeError

NUM_CLASSES = 2
SMALLEST_DOUBT = 1e-6
LARGEST_JUMP = 4.0
"""Nats; the source's tau."""


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


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float,
    alpha: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy that counts an answer less the surer it is right.

    Args:
        logits: (..., 2) float32.
        labels: (...) int64, 0 real, 1 fake.
        gamma: Exponent of (1 - p of the right class), >= 0; 0 gives `classification_loss`.
        alpha: (2,) float32, a factor per class. One number for both would re-balance nothing.
        class_weights: (2,) float32; the mean is taken over them, as in `classification_loss`; not over alpha.
        label_smoothing: Mass moved off the label, in [0, 1); the sum then runs over both classes.
    Returns:
        Scalar, nats.
    Raises:
        ShapeError: `alpha` is not one number per class.
    Source: Lin et al. 2017, arXiv:1708.02002, equation 5.
    """
    if alpha is not None and tuple(alpha.shape) != (NUM_CLASSES,):
        raise ShapeError(f"focal alpha has shape {tuple(alpha.shape)}, expected one number per class, (2,)")
    log_p = F.log_softmax(logits.flatten(0, -2), dim=-1)
    labels = labels.flatten()
    target = F.one_hot(labels, NUM_CLASSES).to(log_p.dtype) * (1 - label_smoothing) + label_smoothing / NUM_CLASSES
    # Below 1 the power's slope is infinite at an answer that is certainly right.
    unsure = (-torch.expm1(log_p)).clamp(min=SMALLEST_DOUBT)
    terms = -target * unsure**gamma * log_p
    if alpha is not None:
        terms = terms * alpha
    if class_weights is None:
        return terms.sum(-1).mean()
    return (terms * class_weights).sum() / class_weights[labels].sum()


def temporal_loss(frame_logits: Tensor, frame_labels: Tensor, frame_mask: Tensor | None = None) -> Tensor:
    """Jumps of the answer between neighbouring frames that have the same label.

    Args:
        frame_logits: (B, T, 2) float32.
        frame_labels: (B, T) int, 0 real, 1 fake: where the label changes, the answer may.
        frame_mask: (B, T) bool, True = valid; all where left out.
    Returns:
        Scalar: mean squared difference of the log-probabilities, each cut off at 4 nats; 0 where no two frames
        are neighbours. Unlike in the source both frames of a pair get the gradient.
    Source: Farha and Gall 2019, arXiv:1903.01945, equations 8 to 10.
    """
    log_p = F.log_softmax(frame_logits, dim=-1)
    jumps = (log_p[:, 1:] - log_p[:, :-1]).abs().clamp(max=LARGEST_JUMP).square()
    pairs = frame_labels[:, 1:] == frame_labels[:, :-1]
    if frame_mask is not None:
        pairs = pairs & frame_mask[:, 1:] & frame_mask[:, :-1]
    return (jumps * pairs[..., None]).sum() / (NUM_CLASSES * pairs.sum()).clamp(min=1)


def supervised_contrastive_loss(features: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Draws clips of one class together, and the classes apart.

    Args:
        features: (B, D) float32; compared by direction alone.
        labels: (B,) int64.
        temperature: Divides the cosines; > 0.
    Returns:
        Scalar, nats: mean over the clips that share their label with another of the batch; 0 where none does.
    Source: Khosla et al. 2020, arXiv:2004.11362, equation 2; mean in place of the sum over anchors.
    """
    unit = F.normalize(features, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.t() / temperature).masked_fill(itself, float("-inf"))
    log_share = (cosines - cosines.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0.0)
    positives = (labels[:, None] == labels[None, :]) & ~itself
    counts = positives.sum(1)
    # A batch of one clip has no other: its row is -inf throughout, and is left out.
    anchors = counts > 0
    if not bool(anchors.any()):
        return features.sum() * 0.0
    per_anchor = -(log_share.masked_fill(~positives, 0.0)).sum(1)[anchors] / counts[anchors]
    return per_anchor.mean()


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


def effective_number_weights(labels: list[int], *, beta: float) -> Tensor:
    """Weights by how much new a class's clips say: (2,) float32, (1 - beta) / (1 - beta^n), sum 2.

    Args:
        labels: 0 or 1.
        beta: In [0, 1); 0 weighs both alike, towards 1 by the inverse of the count.
    Source: Cui et al. 2019, arXiv:1901.05555, equation 2 and section 4.
    """
    counts = torch.bincount(torch.tensor(labels), minlength=NUM_CLASSES).clamp(min=1).double()
    weights = (1 - beta) / (1 - beta**counts)
    return (NUM_CLASSES * weights / weights.sum()).float()
