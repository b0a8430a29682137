"""What Lightning trains: a network on clips, by labels, by a teacher's logits, or by both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.clip import ClipSpec
from dfkit.config import DistillConfig, LossConfig, OptimizerConfig, TrainConfig
from dfkit.distill.losses import classification_loss, distill_loss, video_means
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA, NetworkOutput

Batch = dict[str, Tensor]


def to_unit_range(pictures: Tensor) -> Tensor:
    """(B, T, h, w, 3) uint8 to (B, T, 3, h, w) float32 in [0, 1], kept channels-last in memory."""
    return pictures.permute(0, 1, 4, 2, 3).float() / 255


class ClipNetwork(torch.nn.Module):
    """A network with its front end: prepared clips in, logits out. What `export` turns into two graphs."""

    def __init__(self, network: MMMSBA, spec: ClipSpec, *, pool_sound: bool = False) -> None:
        """Joins the two.

        Args:
            network: Teacher or student.
            spec: The clips it takes.
            pool_sound: For a `uniform50` student: average-pool each video's MFCC onto its pictures, since the
                exported graph has one time grid. A teacher takes them as they are.
        """
        super().__init__()
        self.network, self.spec, self.pool_sound = network, spec, pool_sound
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if spec.preset == "clip2s" else None

    def forward(self, batch: Batch) -> NetworkOutput:
        """Scores prepared clips.

        Args:
            batch: `face` and `lip` (B, T, side, side, 3) uint8; `waveform` (B, num_samples) float32 for
                `clip2s`; for `uniform50` `mfcc` (B, T_a, n_mfcc) float32, `audio_mask` and `frame_mask`.
        """
        pictures = to_unit_range(batch["face"]), to_unit_range(batch["lip"])
        if self.front_end is not None:
            return self.network(self.front_end(batch["waveform"]), *pictures)
        audio, audio_mask, frame_mask = batch["mfcc"], batch["audio_mask"], batch["frame_mask"]
        if self.pool_sound:
            audio, audio_mask = pool_valid(audio, audio_mask, frame_mask), frame_mask
        return self.network(audio, *pictures, audio_mask, frame_mask)


def pool_valid(steps: Tensor, mask: Tensor, frame_mask: Tensor) -> Tensor:
    """Average-pools each clip's valid steps onto its valid pictures.

    Args:
        steps: (B, T_a, C).
        mask: (B, T_a) bool.
        frame_mask: (B, T) bool.
    Returns:
        (B, T, C), zeros where a picture is padding.
    """
    out = steps.new_zeros(len(steps), frame_mask.shape[1], steps.shape[2])
    for row, (length, frames) in enumerate(zip(mask.sum(1).tolist(), frame_mask.sum(1).tolist(), strict=True)):
        out[row, :frames] = F.adaptive_avg_pool1d(steps[row, :length].t()[None], frames)[0].t()
    return out


@dataclass(frozen=True)
class TeacherAnswers:
    """Logits of the teacher, computed once."""

    clip_logits: Tensor
    """(N, 2) by clip index; for another view than the student's by video index."""
    frame_logits: Tensor | None
    """(N, T, 2) by clip index; None where teacher and student see different views."""
    by_video: bool
    """Whether rows are videos."""


class ClipTask(lightning.LightningModule):
    """One optimisation task over prepared clips."""

    def __init__(
        self,
        model: ClipNetwork,
        *,
        config: TrainConfig | DistillConfig,
        class_weights: Tensor | None,
        teacher: TeacherAnswers | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.teacher = model, config, teacher
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.validated: list[dict[str, Any]] = []

    @property
    def loss_config(self) -> LossConfig:
        """Terms of the label loss."""
        return self.config.loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout depends on (seed, epoch, batch) alone, so that a resumed run equals an unbroken one.

        Per batch and not per epoch: loaders draw from the same generator, at other times in a resumed run.
        """
        torch.manual_seed((self.config.seed * 100_003 + self.current_epoch) * 1_000_003 + batch_idx)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        output = self.model(batch)
        loss = self.label_loss(output, batch)
        if self.teacher is not None and isinstance(self.config, DistillConfig):
            taught = self.teacher_loss(output, batch, self.teacher, self.config)
            loss = self.config.alpha * taught + (1 - self.config.alpha) * loss
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["label"]))
        return loss

    def label_loss(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Clip-level cross-entropy, and frame-level where a clip says which of its frames are fake."""
        smoothing = self.loss_config.label_smoothing
        weights: Tensor | None = self.class_weights  # type: ignore[assignment]
        loss = classification_loss(output.clip_logits, batch["label"], class_weights=weights, label_smoothing=smoothing)
        if self.loss_config.frame_weight:
            frames = classification_loss(
                output.frame_logits,
                batch["frame_labels"].long(),
                class_weights=weights,
                label_smoothing=smoothing,
            )
            loss = loss + self.loss_config.frame_weight * frames
        return loss

    @staticmethod
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

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keeps the logits; metrics need all clips of a video."""
        output = self.model(batch)
        loss = F.cross_entropy(output.clip_logits, batch["label"])
        self.log("val_loss", loss, on_epoch=True, batch_size=len(batch["label"]))

    def configure_optimizers(self) -> Any:
        """AdamW, linear warm-up, cosine to zero over all steps."""
        settings: OptimizerConfig = self.config.optimizer
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, round(settings.warmup_share * total))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
