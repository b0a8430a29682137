"""The Lightning module: trains a network on clips by labels, by a teacher's answers, or by both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.clip import ClipSpec
from dfkit.config import DistillConfig, TrainConfig
from dfkit.errors import ConfigError, DivergedError
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA, NetworkOutput
from dfkit.models.motion import MotionFrontEnd
from dfkit.models.pictures import to_unit_range
from dfkit.training.hints import HintLosses
from dfkit.training.int8_rounding import Int8Rounding
from dfkit.training.kept_features import KeptFeatures
from dfkit.training.losses import sync_loss
from dfkit.training.modality_dropout import hide_modalities
from dfkit.training.objective import Batch, TeacherLogits, fake_share, label_loss, teacher_loss
from dfkit.training.samplers import gather_rows
from dfkit.training.schedules import LearningRateFactor, make_optimizer
from dfkit.training.validation import ValidationRows, validation_metrics


class ClipNetwork(torch.nn.Module):
    """A network with its front ends: prepared clips in, logits out. `export` turns it into two graphs."""

    def __init__(self, network: MMMSBA, spec: ClipSpec, *, pool_sound: bool = False) -> None:
        """Adds the front ends that the network's modalities need.

        Args:
            network: Teacher or student.
            spec: Contract of the clips that it takes.
            pool_sound: For a `uniform50` student: average-pool each video's MFCC onto its pictures, since the
                exported graph has one time grid. A teacher takes them as they are.
        Raises:
            ConfigError: The network takes motion, and such clips hold no landmarks (`uniform50`).
        """
        super().__init__()
        self.network, self.spec, self.pool_sound = network, spec, pool_sound
        modalities = network.spec.modalities
        if "motion" in modalities and spec.preset == "uniform50":
            raise ConfigError(
                "modality 'motion' needs landmarks, and uniform50 samples hold none",
                fix="prepare the videos with --preset clip2s, or leave motion out of the modalities",
            )
        # Samples of uniform50 hold MFCC already.
        needs_mfcc = spec.preset == "clip2s" and "audio" in modalities
        self.front_end = MfccFrontEnd(spec.audio, spec.num_frames) if needs_mfcc else None
        self.motion = MotionFrontEnd(spec.fps) if "motion" in modalities else None

    def forward(self, batch: Batch) -> NetworkOutput:
        """Scores prepared clips.

        Args:
            batch: What the network's modalities ask for: `face` and `lip` (B, T, side, side, 3) uint8;
                `landmarks` (B, T, 468, 2) float32; `waveform` (B, num_samples) float32 for `clip2s`;
                `face_features` (B, T, C), which go before `face`; for `uniform50` `mfcc` (B, T_a, n_mfcc) float32,
                `audio_mask` and `frame_mask`.
        """
        pictures = {
            name: batch[f"{name}_features"] if f"{name}_features" in batch else to_unit_range(batch[name])
            for name in self.network.spec.pictures
        }
        face, lip = pictures.get("face"), pictures.get("lip")
        motion = None if self.motion is None else self.motion(batch["landmarks"])
        if self.spec.preset == "clip2s":
            sound = None if self.front_end is None else self.front_end(batch["waveform"])
            return self.network(sound, face, lip, motion=motion)
        audio, audio_mask, frame_mask = batch["mfcc"], batch["audio_mask"], batch["frame_mask"]
        if self.pool_sound:
            audio, audio_mask = pool_audio_to_frames(audio, audio_mask, frame_mask), frame_mask
        return self.network(audio, face, lip, audio_mask, frame_mask)


def pool_audio_to_frames(steps: Tensor, mask: Tensor, frame_mask: Tensor) -> Tensor:
    """Average-pools each clip's valid sound steps onto its valid pictures.

    Args:
        steps: (B, T_a, C) float32.
        mask: (B, T_a) bool, True = valid.
        frame_mask: (B, T) bool, True = valid.
    Returns:
        (B, T, C), zeros where a picture is padding.
    """
    pooled = steps.new_zeros(len(steps), frame_mask.shape[1], steps.shape[2])
    num_steps, num_frames = mask.sum(1).tolist(), frame_mask.sum(1).tolist()
    for row, (length, frames) in enumerate(zip(num_steps, num_frames, strict=True)):
        pooled[row, :frames] = F.adaptive_avg_pool1d(steps[row, :length].t()[None], frames)[0].t()
    return pooled


class FullPrecision(torch.nn.Module):
    """Runs a module in float32 while the rest of the network multiplies in bf16."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, value: Tensor) -> Tensor:
        """The module's output, float32."""
        with torch.autocast(value.device.type, enabled=False):
            result: Tensor = self.module(value.float())
        return result


class ClipTask(lightning.LightningModule):
    """Training and validation steps of a network on prepared clips."""

    def __init__(
        self,
        model: ClipNetwork,
        *,
        config: TrainConfig | DistillConfig,
        class_weights: Tensor | None,
        teacher: TeacherLogits | None = None,
        hints: HintLosses | None = None,
    ) -> None:
        """Combines a network with its objective.

        Args:
            model: Trained in place.
            config: Section of the run.
            class_weights: (2,) of real and fake; None for equal ones.
            teacher: Logits to match beside the labels; None trains by labels alone.
            hints: Features and attention maps to match beside the logits; its projections are trained with the
                network and are in no checkpoint of it.
        Raises:
            ConfigError: Modality dropout for a network of one modality.
        """
        super().__init__()
        self.model, self.config, self.teacher, self.hints = model, config, teacher, hints
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.rounding: Int8Rounding | None = None
        """Set for the epochs that are trained under the rounding of the INT8 graph."""
        self.kept_features = KeptFeatures.for_run(model.network, config)
        self.validation_outputs: list[Batch] = []
        first, *others = model.network.spec.modalities
        if config.modality_dropout and not others:
            raise ConfigError(
                f"modality_dropout {config.modality_dropout:g}: a network of {first} alone has no other modality",
                fix="set modality_dropout to 0, or name more modalities",
            )
        streams = model.network.spec.streams
        if config.loss.sync_weight and not ("audio" in streams and len(streams) > 1 and model.spec.preset == "clip2s"):
            raise ConfigError(
                f"loss.sync_weight {config.loss.sync_weight:g}: compares sound with another stream, of clip2s; this "
                f"network has {' and '.join(streams)} over time, of {model.spec.preset}",
                fix="set loss.sync_weight to 0, or train on clip2s data with sound and another modality",
            )
        if config.precision == "bf16":
            # A spectrum's 80 dB do not fit into the 8 bits of a bf16 product.
            for name in ("front_end", "motion"):
                front_end = getattr(model, name)
                if front_end is not None:
                    setattr(model, name, FullPrecision(front_end))

    def on_fit_start(self) -> None:
        """Sets threads and moves the teacher's logits to the device, in every process of the run."""
        if self.config.num_threads:
            torch.set_num_threads(self.config.num_threads)
        if self.teacher is not None:
            self.teacher = self.teacher.to(self.device)

    def batch_seed(self, batch_idx: int) -> int:
        """Seed of all randomness in a batch; depends on (seed, epoch, batch, process) alone, so that runs resume."""
        seed = (self.config.seed * 100_003 + self.current_epoch) * 1_000_003 + batch_idx
        return seed + self.global_rank * 1_000_003 * 100_003 * 101

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds dropout, per batch and not per epoch: loaders draw from the same generator, at other times."""
        torch.manual_seed(self.batch_seed(batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch.

        Returns:
            `loss`, scalar, and for hard mining `hardness` (B,): each clip's probability of the wrong class.
        Raises:
            DivergedError: The loss is NaN or infinite.
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
        loss = loss + self.sync_loss(output, batch)
        if self.teacher is not None and isinstance(self.config, DistillConfig):
            loss = self.config.alpha * self.distillation_loss(output, batch) + (1 - self.config.alpha) * loss
        if not bool(torch.isfinite(loss)):
            self.raise_diverged(f"batch {batch_idx + 1}: the loss is {loss.item()}", batch["index"].tolist())
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["label"]), sync_dist=True)
        hardness = (output.clip_logits.detach().softmax(-1)[:, 1] - fake_share(batch)).abs()
        return {"loss": loss, "hardness": hardness}

    def sync_loss(self, output: NetworkOutput, batch: Batch) -> Tensor | float:
        """Weighted mean over the streams beside the sound of which sound is theirs; logged without its weight."""
        weight = self.config.loss.sync_weight
        if not weight:
            return 0.0
        spec = self.model.network.spec
        hidden = batch.get("hidden", torch.zeros(len(batch["label"]), len(spec.modalities), device=self.device)).bool()
        losses = []
        for number, name in enumerate(spec.modalities):
            if name == "audio" or name not in spec.streams:
                continue
            chosen = (batch["label"] == 0) & ~hidden[:, 0] & ~hidden[:, number]
            streams = (output.features[f"{each}_dense"][chosen].float() for each in ("audio", name))
            losses.append(sync_loss(*streams, temperature=self.config.loss.sync_temperature))
        loss = torch.stack(losses).mean()
        self.log("train_sync_loss", loss, on_step=False, on_epoch=True, batch_size=len(hidden), sync_dist=True)
        return weight * loss

    def distillation_loss(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Distance from the teacher; of clips with other sound, of which it was not asked, from their labels."""
        assert self.teacher is not None and isinstance(self.config, DistillConfig)
        mismatched = batch["mismatched"]
        loss = output.clip_logits.sum() * 0.0
        for chosen, against_teacher in ((~mismatched, True), (mismatched, False)):
            if not bool(chosen.any()):
                continue
            part, clips = output.rows(chosen), {name: value[chosen] for name, value in batch.items()}
            if against_teacher:
                term = teacher_loss(part, clips, self.teacher, self.config) + self.hint_loss(part, clips)
            else:
                term = label_loss(part, clips, self.config.loss, self.class_weights)  # type: ignore[arg-type]
            loss = loss + chosen.float().mean() * term
        return loss

    def hint_loss(self, output: NetworkOutput, batch: Batch) -> Tensor | float:
        """Weighted distance from the teacher's features and attention maps; each part is logged without its weight."""
        if self.hints is None:
            return 0.0
        total: Tensor | float = 0.0
        for name, (weight, loss) in self.hints(output, batch, self.model.network).items():
            total = total + weight * loss
            size = len(batch["label"])
            self.log(f"train_{name}_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return total

    def score(self, batch: Batch) -> NetworkOutput:
        """The network's output for a batch, under rounding where that is on; logits are float32 under bf16, too."""
        if self.rounding is not None:
            output = self.rounding(self.model, batch)
        else:
            if self.kept_features is not None:
                batch = self.kept_features.add_to(batch, training=self.training)
            output = self.model(batch)
        return replace(output, clip_logits=output.clip_logits.float(), frame_logits=output.frame_logits.float())

    def network_to_save(self) -> MMMSBA:
        """The network for a checkpoint; with rounded weights where it is trained under rounding."""
        return self.model.network if self.rounding is None else self.rounding.rounded_network()

    def raise_diverged(self, what: str, clips: list[int]) -> NoReturn:
        """Ends a run whose loss or logits are NaN or infinite.

        Args:
            what: What was found, and where.
            clips: Indices of the clips; the first eight are named.
        Raises:
            DivergedError: Always; names the epoch.
        """
        listed = ", ".join(str(clip) for clip in clips[:8])
        if len(clips) > 8:
            listed += ", ..."
        raise DivergedError(
            f"epoch {self.current_epoch + 1}, {what} (clips {listed}); the checkpoints of earlier epochs are kept",
            fix="lower optimizer.learning_rate or optimizer.max_norm, or look at those clips",
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the logits; metrics need all clips of a video."""
        output = self.score(batch)
        names = ("index", "mismatched", "video_index", "video_label", "track_id", "frame_labels")
        mask = batch.get("frame_mask", torch.ones_like(batch["frame_labels"], dtype=torch.bool))
        rows = {name: batch[name] for name in names} | {"frame_mask": mask, "fake_share": fake_share(batch)}
        self.validation_outputs.append(rows | {"clip_logits": output.clip_logits, "frame_logits": output.frame_logits})

    def on_validation_epoch_end(self) -> None:
        """Logs the epoch's metrics, the same ones in every process.

        Raises:
            DivergedError: A clip's logits are NaN or infinite.
        """
        steps = max(rows["frame_labels"].shape[1] for rows in self.validation_outputs)
        joined = {
            name: gather_rows(
                self, torch.cat([_padded_steps(rows[name], steps, name) for rows in self.validation_outputs])
            )
            for name in self.validation_outputs[0]
        }
        self.validation_outputs = []
        broken = ~torch.isfinite(joined["clip_logits"]).all(dim=1)
        if bool(broken.any()):
            self.raise_diverged("validation: logits are not finite", joined["index"][broken].tolist())
        for name, value in validation_metrics(ValidationRows(**joined)).items():
            self.log(name, value)

    def configure_optimizers(self) -> Any:
        """Optimizer, and a schedule that advances with every step."""
        # They were fitted as a whole, see `fitted_statistics`.
        self.model.network.statistics.requires_grad_(False)
        trunk = self.model.network.trunk_parameters()
        optimizer = make_optimizer(
            self.parameters(), self.config.optimizer, trunk=trunk, trunk_rate=self.config.trunk_rate
        )
        total_steps = max(1, int(self.trainer.estimated_stepping_batches))
        factor = LearningRateFactor(
            self.config.optimizer,
            self.config.schedule,
            total_steps=total_steps,
            steps_per_epoch=total_steps / self.config.epochs,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _padded_steps(value: Tensor, num_steps: int, name: str) -> Tensor:
    """Frame axis at a common length: batches of `uniform50` differ in it; the mask says what is padding."""
    if not name.startswith("frame_"):
        return value
    padding = [0, 0] * (value.ndim - 2) + [0, num_steps - value.shape[1]]
    return F.pad(value, padding)
