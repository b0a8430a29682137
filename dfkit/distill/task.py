"""What Lightning trains: a network on clips, by labels, by a teacher's logits, or by both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.clip import ClipSpec
from dfkit.config import DistillConfig, TrainConfig
from dfkit.distill.int8_rounding import Int8Rounding
from dfkit.distill.modality_dropout import hide_modalities
from dfkit.distill.objective import Batch, TeacherAnswers, label_loss, teacher_loss
from dfkit.distill.samplers import gather_rows
from dfkit.distill.schedules import RateFactor, make_optimizer
from dfkit.distill.validation import validation_metrics
from dfkit.errors import ConfigError, DivergedError
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA, NetworkOutput
from dfkit.models.motion import MotionFrontEnd


def to_unit_range(pictures: Tensor) -> Tensor:
    """(B, T, h, w, 3) uint8 to (B, T, 3, h, w) float32 in [0, 1], kept channels-last in memory."""
    return pictures.permute(0, 1, 4, 2, 3).float() / 255


class ClipNetwork(torch.nn.Module):
    """A network with its front ends: prepared clips in, logits out. What `export` turns into two graphs."""

    def __init__(self, network: MMMSBA, spec: ClipSpec, *, pool_sound: bool = False) -> None:
        """Joins the two.

        Args:
            network: Teacher or student.
            spec: The clips it takes.
            pool_sound: For a `uniform50` student: average-pool each video's MFCC onto its pictures, since the
                exported graph has one time grid. A teacher takes them as they are.
        Raises:
            ConfigError: The network takes motion, and such clips hold no landmarks (`uniform50`).
        """
        super().__init__()
        self.network, self.spec, self.pool_sound = network, spec, pool_sound
        taken = network.spec.modalities
        if "motion" in taken and spec.preset == "uniform50":
            raise ConfigError(
                "modality 'motion' needs landmarks, and uniform50 samples hold none",
                fix="prepare the videos with --preset clip2s, or leave motion out of the modalities",
            )
        dense = spec.preset == "clip2s"
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if dense and "audio" in taken else None
        self.motion = MotionFrontEnd(spec.fps) if "motion" in taken else None

    def forward(self, batch: Batch) -> NetworkOutput:
        """Scores prepared clips.

        Args:
            batch: What the network's modalities ask for: `face` and `lip` (B, T, side, side, 3) uint8;
                `landmarks` (B, T, 468, 2) float32; `waveform` (B, num_samples) float32 for `clip2s`; for
                `uniform50` `mfcc` (B, T_a, n_mfcc) float32, `audio_mask` and `frame_mask`.
        """
        face, lip = (
            to_unit_range(batch[name]) if name in self.network.spec.pictures else None for name in ("face", "lip")
        )
        motion = None if self.motion is None else self.motion(batch["landmarks"])
        if self.spec.preset == "clip2s":
            sound = None if self.front_end is None else self.front_end(batch["waveform"])
            return self.network(sound, face, lip, motion=motion)
        audio, audio_mask, frame_mask = batch["mfcc"], batch["audio_mask"], batch["frame_mask"]
        if self.pool_sound:
            audio, audio_mask = pool_valid(audio, audio_mask, frame_mask), frame_mask
        return self.network(audio, face, lip, audio_mask, frame_mask)


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


class FullPrecision(torch.nn.Module):
    """A part that stays fp32 while the rest of the network multiplies in bf16."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, value: Tensor) -> Tensor:
        """The part's own answer."""
        with torch.autocast(value.device.type, enabled=False):
            result: Tensor = self.part(value.float())
        return result


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
        """Puts a network and what it is to learn together.

        Args:
            model: Taken over.
            config: Section of the run.
            class_weights: (2,) of real and fake; None for equal ones.
            teacher: Answers to match beside the labels.
        Raises:
            ConfigError: Modality dropout for a network of one modality.
        """
        super().__init__()
        self.model, self.config, self.teacher = model, config, teacher
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.rounding: Int8Rounding | None = None
        self.validated: list[tuple[Tensor, ...]] = []
        taken = model.network.spec.modalities
        if config.modality_dropout and len(taken) < 2:
            raise ConfigError(
                f"modality_dropout {config.modality_dropout:g}: a network of {taken[0]} alone has no other modality",
                fix="set modality_dropout to 0, or name more modalities",
            )
        if config.precision == "bf16":
            # A spectrum's 80 dB do not fit into the 8 bits of a bf16 product.
            for name in ("front_end", "motion"):
                part = getattr(model, name)
                if part is not None:
                    setattr(model, name, FullPrecision(part))

    def on_fit_start(self) -> None:
        """In every process of the run."""
        if self.config.num_threads:
            torch.set_num_threads(self.config.num_threads)
        if self.teacher is not None:
            self.teacher = self.teacher.to(self.device)

    def batch_seed(self, batch_idx: int) -> int:
        """Seed of all that is random in a batch: of (seed, epoch, batch, process) alone, so that runs resume."""
        place = (self.config.seed * 100_003 + self.current_epoch) * 1_000_003 + batch_idx
        return place + self.global_rank * 1_000_003 * 100_003 * 101

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds dropout, per batch and not per epoch: loaders draw from the same generator, at other times."""
        torch.manual_seed(self.batch_seed(batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch, and for mining each clip's chance of the wrong class, (B,).

        Raises:
            DivergedError: The loss is no number.
        """
        if self.config.modality_dropout:
            batch = hide_modalities(
                batch,
                self.model.network.spec.modalities,
                chance=self.config.modality_dropout,
                generator=torch.Generator().manual_seed(self.batch_seed(batch_idx)),
                audio=self.model.spec.audio,
            )
        output = self.score(batch)
        loss = label_loss(output, batch, self.config.loss, self.class_weights)  # type: ignore[arg-type]
        if self.teacher is not None and isinstance(self.config, DistillConfig):
            taught = teacher_loss(output, batch, self.teacher, self.config)
            loss = self.config.alpha * taught + (1 - self.config.alpha) * loss
        if not bool(torch.isfinite(loss)):
            self.refuse_divergence(f"batch {batch_idx + 1}: the loss is {loss.item()}", batch["index"].tolist())
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["label"]), sync_dist=True)
        p_label = output.clip_logits.detach().softmax(-1).gather(1, batch["label"][:, None])[:, 0]
        return {"loss": loss, "wrongness": 1 - p_label}

    def score(self, batch: Batch) -> NetworkOutput:
        """The network's answer; logits in float32 whatever its products were in."""
        output = self.model(batch) if self.rounding is None else self.rounding(self.model, batch)
        return replace(output, clip_logits=output.clip_logits.float(), frame_logits=output.frame_logits.float())

    def network_to_save(self) -> MMMSBA:
        """The network as it answers: with rounded weights where it is trained under rounding."""
        return self.model.network if self.rounding is None else self.rounding.rounded_network()

    def refuse_divergence(self, what: str, clips: list[int]) -> NoReturn:
        """Ends a run that no longer has numbers.

        Raises:
            DivergedError: Always; names the epoch.
        """
        shown = ", ".join(map(str, clips[:8])) + (", ..." if len(clips) > 8 else "")
        raise DivergedError(
            f"epoch {self.current_epoch + 1}, {what} (clips {shown}); the checkpoints of earlier epochs are kept",
            fix="lower optimizer.learning_rate or optimizer.max_norm, or look at those clips",
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the logits; metrics need all clips of a video."""
        names = ("label", "video_index", "video_label")
        self.validated.append((batch["index"], self.score(batch).clip_logits, *(batch[name] for name in names)))

    def on_validation_epoch_end(self) -> None:
        """Logs the epoch's metrics, the same ones in every process.

        Raises:
            DivergedError: A clip's logits are no numbers.
        """
        parts = [gather_rows(self, torch.cat(values)) for values in zip(*self.validated, strict=True)]
        self.validated = []
        index, logits = parts[:2]
        broken = ~torch.isfinite(logits).all(dim=1)
        if bool(broken.any()):
            self.refuse_divergence("validation: logits are not finite", index[broken].tolist())
        for name, value in validation_metrics(*parts).items():
            self.log(name, value)

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule, step by step."""
        optimizer = make_optimizer(self.model.parameters(), self.config.optimizer)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        factor = RateFactor(
            self.config.optimizer,
            self.config.schedule,
            total_steps=total,
            steps_per_epoch=total / self.config.epochs,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
