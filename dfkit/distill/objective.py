"""What a batch's labels and the teacher's answers ask of a network: the losses put together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfkit.config import DistillConfig, LossConfig
from dfkit.distill.losses import (
    classification_loss,
    distill_loss,
    focal_loss,
    supervised_contrastive_loss,
    temporal_loss,
    video_means,
)
from dfkit.models.mmms_ba import NetworkOutput

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class TeacherAnswers:
    """Logits of the teacher, computed once on the clips as they are stored."""

    clip_logits: Tensor
    """(N, 2) by clip index; for another view than the student's by video index."""
    frame_logits: Tensor | None
    """(N, T, 2) by clip index; None where teacher and student see different views."""
    by_video: bool
    """Whether rows are videos."""

    def to(self, device: torch.device) -> TeacherAnswers:
        """The same on another device."""
        frames = None if self.frame_logits is None else self.frame_logits.to(device)
        return TeacherAnswers(self.clip_logits.to(device), frames, self.by_video)


def label_loss(output: NetworkOutput, batch: Batch, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    """All terms that labels decide.

    Args:
        output: Of the batch; float32 logits.
        batch: `label` (B,), `frame_labels` (B, T), and `frame_mask` (B, T) where clips differ in length.
        config: Which terms, and their weights.
        class_weights: (2,) of real and fake; None for equal ones.
    Returns:
        Scalar, nats.
    """
    mask = batch.get("frame_mask")
    labels, frame_labels = batch["label"], batch["frame_labels"].long()
    loss = _against_labels(output.clip_logits, labels, config, class_weights)
    if config.frame_weight:
        # Padded frames have label 0 and no picture: they would teach that black means real.
        frames, truth = (
            (output.frame_logits, frame_labels)
            if mask is None
            else (
                output.frame_logits[mask],
                frame_labels[mask],
            )
        )
        loss = loss + config.frame_weight * _against_labels(frames, truth, config, class_weights)
    if config.temporal_weight:
        loss = loss + config.temporal_weight * temporal_loss(output.frame_logits, frame_labels, mask)
    if config.contrastive_weight:
        merged = output.features["merged"].float()
        contrast = supervised_contrastive_loss(merged, labels, temperature=config.contrastive_temperature)
        loss = loss + config.contrastive_weight * contrast
    return loss


def _against_labels(logits: Tensor, labels: Tensor, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    smoothing = config.label_smoothing
    if config.type == "cross_entropy":
        return classification_loss(logits, labels, class_weights=class_weights, label_smoothing=smoothing)
    alpha = None if config.focal_alpha is None else torch.tensor(config.focal_alpha).to(logits)
    return focal_loss(
        logits,
        labels,
        gamma=config.focal_gamma,
        alpha=alpha,
        class_weights=class_weights,
        label_smoothing=smoothing,
    )


def teacher_loss(output: NetworkOutput, batch: Batch, teacher: TeacherAnswers, config: DistillConfig) -> Tensor:
    """Divergence from the teacher per clip and frame, or per video where the views differ."""
    if teacher.by_video:
        means, videos = video_means(output.clip_logits, batch["video_index"])
        return distill_loss(means, teacher.clip_logits[videos], temperature=config.temperature)
    index = batch["index"]
    loss = distill_loss(output.clip_logits, teacher.clip_logits[index], temperature=config.temperature)
    if teacher.frame_logits is not None and config.frame_weight:
        taught, told = output.frame_logits, teacher.frame_logits[index][:, : output.frame_logits.shape[1]]
        if "frame_mask" in batch:
            taught, told = taught[batch["frame_mask"]], told[batch["frame_mask"]]
        loss = loss + config.frame_weight * distill_loss(taught, told, temperature=config.temperature)
    return loss
