"""Training objectives: the weighted sum of label losses, and the divergence from a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfkit.config import DistillConfig, LossConfig
from dfkit.models.mmms_ba import PARTS, NetworkOutput
from dfkit.training.losses import (
    classification_loss,
    distill_loss,
    focal_loss,
    supervised_contrastive_loss,
    temporal_loss,
    video_logits,
)

Batch = dict[str, Tensor]


def on_device_of(model: nn.Module, batch: Mapping[str, object]) -> Batch:
    """A batch's tensors on the device of a network's weights; what else a batch holds is left out."""
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class TeacherLogits:
    """Logits of the teacher, computed once on clips without augmentation."""

    clip_logits: Tensor
    """(N, 2) by clip index; (V, 2) by video index where teacher and student were prepared under different presets."""
    frame_logits: Tensor | None
    """(N, T, 2) by clip index; None where rows of `clip_logits` are videos."""
    by_video: bool
    """Whether rows of `clip_logits` are videos."""

    def to(self, device: torch.device) -> TeacherLogits:
        """A copy on another device."""
        frame_logits = None if self.frame_logits is None else self.frame_logits.to(device)
        return TeacherLogits(self.clip_logits.to(device), frame_logits, self.by_video)


def label_loss(output: NetworkOutput, batch: Batch, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    """Weighted sum of all losses against the labels.

    Args:
        output: Of the network for the batch; float32 logits.
        batch: `label` (B,), `frame_labels` (B, T), and `frame_mask` (B, T) where clips differ in length.
        config: Terms and their weights.
        class_weights: (2,) of real and fake; None for equal ones.
    Returns:
        Scalar, nats.
    """
    frame_mask = batch.get("frame_mask")
    labels, frame_labels = batch["label"], batch["frame_labels"].long()
    loss = _supervised_loss(output.clip_logits, fake_share(batch), config, class_weights)
    if config.frame_weight:
        # Padded frames have label 0 and no picture: the network would learn that black means real.
        valid_logits = _valid_frames(output.frame_logits, frame_mask)
        valid_labels = _valid_frames(frame_labels, frame_mask)
        loss = loss + config.frame_weight * _supervised_loss(valid_logits, valid_labels, config, class_weights)
    if config.parts_weight and PARTS in output.features:
        loss = loss + config.parts_weight * _part_loss(output, batch, config, class_weights)
    if config.temporal_weight:
        loss = loss + config.temporal_weight * temporal_loss(output.frame_logits, frame_labels, frame_mask)
    if config.contrastive_weight:
        merged = output.features["merged"].float()
        contrastive = supervised_contrastive_loss(merged, labels, temperature=config.contrastive_temperature)
        loss = loss + config.contrastive_weight * contrastive
    return loss


def _part_loss(output: NetworkOutput, batch: Batch, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    """Clip-level loss of the network beside its clip statistics, as if it spoke for all parts: their sum is then the
    mean of what they would say alone, and no surer."""
    parts = output.features[PARTS].float()
    return _supervised_loss(parts[:, 0] * parts.shape[1], fake_share(batch), config, class_weights)


def fake_share(batch: Batch) -> Tensor:
    """Share of each clip's frames that are fake, (B,) float32 in [0, 1]: what its clip logits are to say.

    A clip's logits are the mean of its frames'. Called fake for one fake frame of fifty, it would push the other
    forty-nine towards fake while their own labels say real.
    """
    frame_labels = batch["frame_labels"].float()
    if "frame_mask" not in batch:
        return frame_labels.mean(dim=1)
    mask = batch["frame_mask"].float()
    return (frame_labels * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _valid_frames(values: Tensor, frame_mask: Tensor | None) -> Tensor:
    """(B, T, ...) without its padded frames: (frames, ...); unchanged where no clip is padded."""
    return values if frame_mask is None else values[frame_mask]


def _supervised_loss(logits: Tensor, labels: Tensor, config: LossConfig, class_weights: Tensor | None) -> Tensor:
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


def teacher_loss(output: NetworkOutput, batch: Batch, teacher: TeacherLogits, config: DistillConfig) -> Tensor:
    """Divergence from the teacher per clip and frame, or per video where the teacher's logits are by video.

    Args:
        output: Of the student for the batch; float32 logits.
        batch: `index` (B,), `video_index` (B,), `track_id` (B,), and `frame_mask` (B, T) where clips differ in length.
        teacher: Logits on the same device.
        config: Temperature, and the weight of the frame-level divergence.
    Returns:
        Scalar, nats.
    """
    if teacher.by_video:
        student, videos = video_logits(output.clip_logits, batch["video_index"], batch["track_id"])
        return distill_loss(student, teacher.clip_logits[videos], temperature=config.temperature)
    index = batch["index"]
    loss = distill_loss(output.clip_logits, teacher.clip_logits[index], temperature=config.temperature)
    if teacher.frame_logits is not None and config.frame_distillation_weight:
        frame_mask = batch.get("frame_mask")
        num_frames = output.frame_logits.shape[1]
        teacher_frames = _valid_frames(teacher.frame_logits[index][:, :num_frames], frame_mask)
        student_frames = _valid_frames(output.frame_logits, frame_mask)
        frame_loss = distill_loss(student_frames, teacher_frames, temperature=config.temperature)
        loss = loss + config.frame_distillation_weight * frame_loss
    return loss
