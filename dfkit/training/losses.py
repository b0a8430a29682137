"""Losses of training and distillation. Axes: B clips, T frames; class 1 = fake."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.errors import ShapeError

NUM_CLASSES = 2
MIN_ONE_MINUS_P = 1e-6
"""Lower limit of 1 - p in the focal loss."""
SYNC_LAGS = (-15, -12, -9, -6, -3, 3, 6, 9, 12, 15)
"""Steps by which sound is shifted in `sync_loss`: 0.12 to 0.6 s at 25 pictures per second."""
NO_MATCH = -1e4
"""Score of what is no candidate."""
MAX_LOG_P_JUMP = 4.0
"""Limit of a jump in the temporal loss, nats; the source's tau."""


def class_shares(labels: Tensor) -> Tensor:
    """Target distribution over real and fake.

    Args:
        labels: (...) int64, 0 real, 1 fake; or float32, the share of fake in [0, 1].
    Returns:
        (N, 2) float32, flat.
    """
    fake = labels.flatten().float()
    return torch.stack([1 - fake, fake], dim=-1)


def classification_loss(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy, weighted per class, smoothed.

    Args:
        logits: (..., 2) float32.
        labels: (...) int64, 0 real, 1 fake; or float32, the share of fake.
        class_weights: (2,) float32; the mean is taken over the weights, so that they only shift the balance.
        label_smoothing: Mass moved off the label, in [0, 1).
    Returns:
        Scalar, nats.
    """
    return focal_loss(logits, labels, gamma=0.0, class_weights=class_weights, label_smoothing=label_smoothing)


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float,
    alpha: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Focal loss: cross-entropy in which confident right predictions count less.

    Args:
        logits: (..., 2) float32.
        labels: (...) int64, 0 real, 1 fake; or float32, the share of fake.
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
    shares = class_shares(labels).to(log_p)
    terms = -(shares * (1 - label_smoothing) + label_smoothing / NUM_CLASSES) * log_p
    if gamma:
        # Below 1 the power's slope is infinite at an answer that is certainly right.
        one_minus_p = (-torch.expm1(log_p)).clamp(min=MIN_ONE_MINUS_P)
        terms = terms * one_minus_p**gamma
    if alpha is not None:
        terms = terms * alpha
    if class_weights is None:
        return terms.sum(-1).mean()
    return (terms * class_weights).sum() / (shares * class_weights).sum()


def temporal_loss(frame_logits: Tensor, frame_labels: Tensor, frame_mask: Tensor | None = None) -> Tensor:
    """Truncated squared jumps of the log-probabilities between neighbouring frames of the same label.

    Args:
        frame_logits: (B, T, 2) float32.
        frame_labels: (B, T) int, 0 real, 1 fake: where the label changes, the prediction may.
        frame_mask: (B, T) bool, True = valid; all where left out.
    Returns:
        Scalar: mean squared difference of the log-probabilities, each cut off at 4 nats; 0 where no two frames
        are neighbours. Unlike in the source both frames of a pair get the gradient.
    Source: Farha and Gall 2019, arXiv:1903.01945, equations 8 to 10.
    """
    log_p = F.log_softmax(frame_logits, dim=-1)
    jumps = (log_p[:, 1:] - log_p[:, :-1]).abs().clamp(max=MAX_LOG_P_JUMP).square()
    same_label = frame_labels[:, 1:] == frame_labels[:, :-1]
    if frame_mask is not None:
        same_label = same_label & frame_mask[:, 1:] & frame_mask[:, :-1]
    return (jumps * same_label[..., None]).sum() / (NUM_CLASSES * same_label.sum()).clamp(min=1)


def supervised_contrastive_loss(features: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Supervised contrastive loss: pulls features of one class together and pushes the classes apart.

    Args:
        features: (B, D) float32; compared by cosine similarity.
        labels: (B,) int64.
        temperature: Divides the cosines; > 0.
    Returns:
        Scalar, nats: mean over the clips that share their label with another of the batch; 0 where none does.
    Source: Khosla et al. 2020, arXiv:2004.11362, equation 2; mean in place of the sum over anchors.
    """
    unit = F.normalize(features, dim=-1)
    is_self = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarities = (unit @ unit.t() / temperature).masked_fill(is_self, float("-inf"))
    log_p = (similarities - similarities.logsumexp(dim=1, keepdim=True)).masked_fill(is_self, 0.0)
    is_positive = (labels[:, None] == labels[None, :]) & ~is_self
    num_positives = is_positive.sum(1)
    # A batch of one clip has no other: its row is -inf throughout, and is left out.
    is_anchor = num_positives > 0
    if not bool(is_anchor.any()):
        return features.sum() * 0.0
    sum_over_positives = log_p.masked_fill(~is_positive, 0.0).sum(1)
    return -(sum_over_positives[is_anchor] / num_positives[is_anchor]).mean()


def distill_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Divergence of the student from the teacher's softened prediction.

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
    refuse_other_shape("logits", student_logits, teacher_logits)
    teacher = F.log_softmax(teacher_logits.flatten(0, -2) / temperature, dim=-1)
    student = F.log_softmax(student_logits.flatten(0, -2) / temperature, dim=-1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2


def feature_loss(student: Tensor, teacher: Tensor, valid: Tensor, *, variance: Tensor | float) -> Tensor:
    """Share of a teacher layer's variance that the student leaves unexplained: 1 is what the layer's mean reaches.

    Relative to the variance, so that one weight fits layers of any scale.

    Args:
        student: (B, T, C) float32, projected to the teacher's width.
        teacher: (B, T, C) float32, detached.
        valid: (B, T) bool; steps that count.
        variance: Mean over the channels of the teacher's variance over the training clips, > 0.
    Returns:
        Scalar: mean squared difference over variance; 0 where no step is valid.
    Raises:
        ShapeError: The shapes differ.
    Source: Romero et al. 2015, arXiv:1412.6550, equation 3, mean in place of the sum, over the variance.
    """
    refuse_other_shape("features", student, teacher)
    squares = (student - teacher).square().mean(-1)
    return _masked_mean(squares, valid) / variance


def attention_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Divergence of the student's attention map from the teacher's.

    Args:
        student: (B, T_x, T_y) float32, softmax over the last axis.
        teacher: (B, T_x, T_y) float32, detached.
        valid: (B, T_x) bool; rows that count.
    Returns:
        Scalar KL(teacher || student), mean over the valid rows, in nats; 0 where no row is valid.
    Raises:
        ShapeError: The shapes differ.
    Source: Wang et al. 2020 (MiniLM), arXiv:2002.10957, section 3.1.
    """
    refuse_other_shape("attention", student, teacher)
    # A softmax without scaling may underflow to 0; below the smallest normal number the slope 1 / p overflows.
    log_p = student.clamp(min=torch.finfo(student.dtype).tiny).log()
    divergences = (torch.xlogy(teacher, teacher) - teacher * log_p).sum(-1)
    return _masked_mean(divergences, valid)


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid values; 0, with a gradient of zeros, where there is none."""
    weights = valid.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1)


def refuse_other_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    """Refuses tensors of different shape.

    Raises:
        ShapeError: Names both.
    """
    if student.shape != teacher.shape:
        raise ShapeError(f"student {what} {tuple(student.shape)} and teacher {what} {tuple(teacher.shape)} differ")


def sync_loss(sound: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    """Which sound belongs to this face, and when: a clip's own sound in time against itself shifted and other clips'.

    Args:
        sound: (B, T, D) float32, a step per picture; of clips whose sound is their own.
        other: (B, T, D) float32, another stream of the same clips.
        temperature: Divides the mean cosines; > 0.
    Returns:
        Scalar, nats; 0 for no clip.
    Raises:
        ShapeError: The shapes differ.
    Source: van den Oord et al. 2018, arXiv:1807.03748, equation 4; the shifts of a clip as further negatives after
        Chung, Chung and Kang 2019, arXiv:1809.08001, section 2.
    """
    refuse_other_shape("sound and other stream", sound, other)
    if not len(sound):
        return sound.sum()
    sound, other = F.normalize(sound, dim=-1), F.normalize(other, dim=-1)
    steps = sound.shape[1]
    shifted = [
        (sound[:, max(lag, 0) : steps + min(lag, 0)] * other[:, max(-lag, 0) : steps - max(lag, 0)]).sum(-1).mean(1)
        for lag in SYNC_LAGS
        if abs(lag) < steps
    ]
    matches = torch.einsum("btd,ctd->bc", other, sound) / steps
    is_self = torch.eye(len(matches), dtype=torch.bool, device=matches.device)
    others = matches.masked_fill(is_self, NO_MATCH)
    candidates = [matches.diagonal()[:, None], *(each[:, None] for each in shifted), others]
    scores = torch.cat(candidates, dim=1) / temperature
    return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long))


def video_logits(logits: Tensor, video_index: Tensor, track_id: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of each video in a batch: the mean over a track's clips, of the track with the largest margin.

    As `dfkit.measures.decision` decides, and with a gradient: a fake of two faces, one of them untouched, must not
    teach the student that the untouched one is fake.

    Args:
        logits: (B, 2).
        video_index: (B,) int64, which video a clip is from.
        track_id: (B,) int64, which of the video's faces.
    Returns:
        (V, 2) in rising order of the video index, and (V,) those indices.
    """
    tracks, place = torch.unique(torch.stack([video_index, track_id], dim=1), dim=0, return_inverse=True)
    members = F.one_hot(place, len(tracks)).to(logits.dtype)
    means = members.t() @ logits / members.sum(0)[:, None]
    videos = torch.unique(video_index)
    margins = means[:, 1] - means[:, 0]
    elsewhere = tracks[None, :, 0] != videos[:, None]
    suspects = margins.detach().expand(len(videos), -1).masked_fill(elsewhere, float("-inf")).argmax(dim=1)
    return means[suspects], videos


def balanced_class_weights(labels: list[int]) -> Tensor:
    """Class weights that give both classes the same total.

    Args:
        labels: 0 or 1.
    Returns:
        (2,) float32, n / (2 n_class).
    """
    counts = torch.bincount(torch.tensor(labels), minlength=2).clamp(min=1)
    return len(labels) / (2.0 * counts.float())


def effective_number_weights(labels: list[int], *, beta: float) -> Tensor:
    """Class weights by the effective number of samples.

    Args:
        labels: 0 or 1.
        beta: In [0, 1); 0 weighs both classes alike, towards 1 by the inverse of the count.
    Returns:
        (2,) float32, proportional to (1 - beta) / (1 - beta^n_class), with sum 2.
    Source: Cui et al. 2019, arXiv:1901.05555, equation 2 and section 4.
    """
    counts = torch.bincount(torch.tensor(labels), minlength=NUM_CLASSES).clamp(min=1).double()
    weights = (1 - beta) / (1 - beta**counts)
    return (NUM_CLASSES * weights / weights.sum()).float()
