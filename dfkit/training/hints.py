"""What a student matches of its teacher beside the logits: features, through a projection, and attention maps.

Matched are the outputs of the CNNs (the hint in the middle of the network, Romero et al. 2015, arXiv:1412.6550) and of
the dense layers, which are all that attention and head read. GRU states are not: what the dense layer does not read of
them is of no use, and they would take six times its space.

A linear layer maps the student's features, standardised over the batch, to the teacher's (batch norm and one linear
layer: Miles and Mikolajczyk 2024, arXiv:2303.11098, section 3), at equal widths, too (Chen et al. 2022,
arXiv:2210.15274): pruning shifts a layer that hardly varies by many times its variance (42 times for the lips of a
teacher on real clips), and unprojected that layer alone would be the loss. The layer starts from zero, which says the
teacher's mean and scores 1 for every layer: the student is pulled only as far as the projection has learnt to read it,
and nothing about it is drawn.

Attention maps hold the dense outputs to each other, in their own coordinates. They follow from them without a
parameter, so the teacher's are computed, not stored.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.config import DistillConfig
from dfkit.models.mmms_ba import MMMSBA, NetworkOutput, NetworkSpec
from dfkit.training.losses import attention_loss, feature_loss
from dfkit.training.objective import Batch

Features = dict[str, Tensor]
"""By layer, such as `face_cnn`."""
Term = tuple[float, Tensor]
"""Weight and loss."""
STORED_TYPE = np.dtype("<f2")
MIN_VARIANCE = 1e-8
"""Of a teacher's layer; one that says the same of every clip is no target."""
MIN_STUDENT_VARIANCE = 1e-6
"""Added to the variance of a student's channel before it is standardised: a channel may be dead."""


def hint_names(spec: NetworkSpec, config: DistillConfig) -> tuple[str, ...]:
    """Names of the features in `NetworkOutput.features` that the configured terms need of a teacher."""
    dense = tuple(f"{name}_dense" for name in spec.streams)
    return (*(f"{name}_cnn" for name in spec.pictures), *dense) if config.feature_weight else dense


@dataclass(frozen=True)
class TeacherFeatures:
    """A teacher's features of some clips in a file, a row per clip; read row by row, from any process."""

    path: Path
    """Rows of little-endian float16: each layer's (T, C), layer after layer."""
    clips: tuple[int, ...]
    """Index of each row's clip, rising."""
    num_frames: int
    """T; shorter clips are padded with zeros."""
    widths: dict[str, int]
    """C by layer, in the order of the row."""
    means: dict[str, list[float]]
    """Per channel, over the valid steps of all clips."""
    variances: dict[str, float]
    """Mean over the channels of their variance over those steps."""

    @property
    def row_bytes(self) -> int:
        """Size of a clip's row."""
        return STORED_TYPE.itemsize * self.num_frames * sum(self.widths.values())

    def read(self, clips: list[int]) -> dict[str, Tensor]:
        """Features of some clips by layer, (B, T, C) float32."""
        rows = []
        with self.path.open("rb") as file:
            for clip in clips:
                file.seek(bisect_left(self.clips, clip) * self.row_bytes)
                rows.append(np.frombuffer(file.read(self.row_bytes), STORED_TYPE))
        values = torch.from_numpy(np.stack(rows).astype(np.float32))
        layers = values.split([self.num_frames * width for width in self.widths.values()], dim=1)
        return {
            name: layer.view(len(clips), self.num_frames, width)
            for (name, width), layer in zip(self.widths.items(), layers, strict=True)
        }


class Projection(nn.Module):
    """A student's features, standardised over the batch, mapped to the width of the teacher's."""

    def __init__(self, width: int, target_mean: Tensor) -> None:
        """Starts as the teacher's mean, whatever the features are.

        Args:
            width: Of the student's features.
            target_mean: (C,) of the teacher's.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(target_mean), width))
        self.bias = nn.Parameter(target_mean.clone())

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Projects: (B, T, width) to (B, T, C); mean and variance are those of the valid steps (B, T)."""
        weights = valid.to(features.dtype)[..., None]
        count = weights.sum().clamp(min=1)
        centred = features - (features * weights).sum((0, 1)) / count
        variance = (centred.square() * weights).sum((0, 1)) / count
        standardised = centred / (variance + MIN_STUDENT_VARIANCE).sqrt()
        return standardised @ self.weight.t() + self.bias


class HintLosses(nn.Module):
    """Losses of a student's features and attention maps against its teacher's."""

    def __init__(self, features: TeacherFeatures, student: NetworkSpec, config: DistillConfig) -> None:
        """Makes the projections.

        Args:
            features: The teacher's, of every clip that is trained on.
            student: Its architecture; modalities and attention are those of the teacher.
            config: Weights of the terms.
        """
        super().__init__()
        self.features, self.config, self.modalities = features, config, student.modalities
        self.layers = [name for name in features.widths if features.variances[name] > MIN_VARIANCE]
        self.projections = nn.ModuleDict()
        for name in self.layers if config.feature_weight else []:
            modality, kind = name.rsplit("_", 1)
            width = student.feature_dim(modality) if kind == "cnn" else student.dense_dim
            self.projections[name] = Projection(width, torch.tensor(features.means[name]))

    def forward(self, output: NetworkOutput, batch: Batch, network: MMMSBA) -> dict[str, Term]:
        """Weight and loss of each configured term, by name.

        Args:
            output: Of the student for the batch.
            batch: `index` (B,); `frame_mask` (B, T) where clips differ in length; `hidden` (B, M) bool where
                modalities were taken from clips: those have no features and no maps to match.
            network: The student; its way from dense outputs to attention maps, without parameters, is the teacher's.
        """
        logits = output.frame_logits
        frames = batch.get("frame_mask", logits.new_ones(logits.shape[:2], dtype=torch.bool))
        hidden = batch.get("hidden", frames.new_zeros(len(frames), len(self.modalities)))
        seen: dict[str, Tensor] = {name: frames & ~hidden[:, [number]] for number, name in enumerate(self.modalities)}
        stored = self.features.read(batch["index"].tolist())
        targets = {name: value[:, : frames.shape[1]].to(logits.device) for name, value in stored.items()}
        terms: dict[str, Term] = {}
        # The targets' differences are finer than a bf16 product.
        with torch.autocast(logits.device.type, enabled=False):
            if self.config.feature_weight:
                features = {name: output.features[name].float() for name in self.layers}
                terms["feature"] = self.config.feature_weight, self.feature_term(features, targets, seen)
            if self.config.attention_weight:
                wanted = teacher_attention(network, targets, batch.get("frame_mask"))
                maps = {name: output.attention[name].float() for name in wanted}
                terms["attention"] = self.config.attention_weight, attention_term(maps, wanted, seen)
        return terms

    def feature_term(self, features: Features, targets: Features, seen: dict[str, Tensor]) -> Tensor:
        """Mean of `feature_loss` over the layers.

        Args:
            features: The student's, (B, T, C) by layer.
            targets: The teacher's.
            seen: (B, T) bool by modality, the steps that count.
        """
        losses = []
        for name in self.layers:
            valid = seen[name.rsplit("_", 1)[0]]
            projected = self.projections[name](features[name], valid)
            losses.append(feature_loss(projected, targets[name], valid, variance=self.features.variances[name]))
        return torch.stack(losses).mean()


@torch.no_grad()
def teacher_attention(network: MMMSBA, features: Features, frame_mask: Tensor | None) -> dict[str, Tensor]:
    """A teacher's attention maps from its dense outputs.

    Args:
        network: Of the teacher's modalities, fusion and dense width.
        features: `<stream>_dense` (B, T, D) of each stream.
        frame_mask: (B, T) bool, True = valid; None where no clip is padded.
    Returns:
        By name, as in `NetworkOutput.attention`, (B, T, T).
    """
    dense: dict[str, Tensor] = {name: features[f"{name}_dense"] for name in network.spec.streams}
    return network.join_blocks(dense, dict.fromkeys(dense, frame_mask))[1]


def attention_term(maps: dict[str, Tensor], targets: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
    """Mean of `attention_loss` over the maps, of both directions.

    Args:
        maps: The student's, (B, T, T) by name.
        targets: The teacher's.
        seen: (B, T) bool by modality, the steps that count; a row counts where it does for both modalities.
    """
    losses = []
    for name, target in targets.items():
        looking, looked_at = name.split("_")
        # A clip of which either was hidden counts nowhere; a padded step has no row.
        valid = seen[looking] & seen[looked_at].any(dim=1, keepdim=True)
        losses.append(attention_loss(maps[name], target, valid))
    return torch.stack(losses).mean()
