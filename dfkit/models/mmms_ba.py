"""The MMMS-BA network: per-modality Bi-GRUs joined by bi-modal attention.

Method: Ghosal et al., EMNLP 2018 (contextual inter-modal attention); audio, face and lip after
arXiv:2408.01532 (IJCB 2024). One class serves teacher and student: the student is the same topology
with fewer GRU units and CNN channels. Parameter names are those of the original checkpoints.

Axes: B batch, T pictures, T_a sound frames, H GRU units, D dense width.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dfkit.errors import ShapeError
from dfkit.models.clip_statistics import ClipStatistics
from dfkit.models.efficientnet_lite import BLOCKS, FaceTexture
from dfkit.models.motion import MOTION_DIM, NUM_STATISTICS, motion_statistics

Attention = Literal["bi_modal", "self", "none"]
Resampling = Literal["padded", "valid"]
Stem = Literal["conv3", "patch4"]
"""First layers of a CNN, from a picture to maps of a quarter of its side: `conv3` is the original's 3 x 3 convolution
of stride 2 with a 2 x 2 pool behind it; `patch4` is one 4 x 4 convolution of stride 4, which sees each pixel once."""
FaceTrunk = Literal["mmms_ba", "efficientnet_lite0"]
"""CNN of the face: the original's three layers, or the first blocks of EfficientNet-Lite0, of whose maps mean and
standard deviation over space are taken."""
PARTS = "parts"
"""Among a network's features: the logits that add up to the clip's."""
DEVIATION = "audio_deviation"
"""Part of `NetworkSpec.statistics`: how far each MFCC varies over a clip."""
SMALLEST_DEVIATION = 1.0
"""Of an MFCC, added in squares: silence shall not depend on rounding. Clips of speech have 3 and more."""
# A softmax over a row whose allowed columns are all far below this still stays finite, unlike with -inf.
MASKED_SCORE = -1e4
FEATURE_AXES = 3
"""Of features in the place of pictures: (B, T, C)."""
# The original calls the face "visual"; its parameter names stay.
PREFIX = {"audio": "audio", "face": "visual", "lip": "lip", "motion": "motion"}
MODALITIES = tuple(PREFIX)
CNN_MODALITIES = ("face", "lip")
# Attention calls (X, Y); the original's three first. Each stream meets each other one once.
PAIRS = (
    ("face", "lip"),
    ("audio", "face"),
    ("lip", "audio"),
    ("motion", "audio"),
    ("motion", "face"),
    ("motion", "lip"),
)


Width = Annotated[int, Field(gt=0, le=2048)]
"""A damaged checkpoint that asks for more would fill the memory before its tensors are looked at."""


class NetworkSpec(BaseModel, frozen=True, extra="forbid"):
    """Widths and variant of one MMMS-BA network; stored in every checkpoint."""

    modalities: tuple[Literal["audio", "face", "lip", "motion"], ...] = ("audio", "face", "lip")
    """What it takes; kept in the order sound, face, lip, motion however they are given."""
    audio_dim: Width = 40
    """MFCC coefficients per sound frame."""
    face_channels: tuple[Width, Width, Width] = (64, 128, 256)
    """Channels of the three face convolutions; the last is the face feature width."""
    lip_channels: tuple[Width, Width, Width] = (32, 64, 128)
    """Channels of the three lip convolutions; the last is the lip feature width."""
    gru_hidden: Width = 300
    """H, units per GRU direction."""
    dense_dim: Width = 100
    """D, width of each modality's dense layer."""
    attention: Attention = "bi_modal"
    """Fusion: `bi_modal`, `self`, or `none` (plain concatenation)."""
    aligned: bool = False
    """Whether the head also sees the products of sound and each other stream, picture by picture; not the original's.
    Attention goes by content and finds what fits at any time: alone it cannot tell sound that is late."""
    clip_statistics: bool = False
    """Whether logits also count what the clip's steps are like on the whole, see `models.clip_statistics`: of every
    modality whose steps are no CNN's of its own. Not the original's."""
    sound_deviation: bool = False
    """Whether clip statistics of sound are also how far each MFCC varies over the clip, as a part of its own."""
    motion_over_time: bool = True
    """Whether motion is a stream as the others are; else its clip statistics alone count."""
    stem: Stem = "conv3"
    """First layers of each CNN."""
    face_trunk: FaceTrunk = "mmms_ba"
    """CNN of the face; `face_channels` and `stem` are those of `mmms_ba`."""
    face_blocks: int = Field(default=5, ge=1, le=len(BLOCKS))
    """Blocks of `efficientnet_lite0`."""

    @field_validator("modalities")
    @classmethod
    def _in_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(f"modalities {list(value)}: expected at least one, none of them twice")
        return tuple(sorted(value, key=MODALITIES.index))

    @model_validator(mode="after")
    def _motion_counts(self) -> NetworkSpec:
        if "motion" in self.modalities and not self.motion_over_time and not (self.clip_statistics and self.streams):
            raise ValueError(
                "motion_over_time false: motion counts by its clip statistics alone, so clip_statistics has to be "
                "true, and another modality has to be there"
            )
        return self

    def feature_dim(self, modality: str) -> int:
        """Width of one time step of a modality before its GRU."""
        texture = self.face_trunk == "efficientnet_lite0"
        face = 2 * BLOCKS[self.face_blocks - 1].channels if texture else self.face_channels[-1]
        widths = {"audio": self.audio_dim, "face": face, "lip": self.lip_channels[-1]}
        return {**widths, "motion": MOTION_DIM}[modality]

    @property
    def streams(self) -> tuple[str, ...]:
        """The modalities that run through a GRU each and are fused, in order."""
        return tuple(m for m in self.modalities if m != "motion" or self.motion_over_time)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The modalities that pass through a CNN, in order."""
        return tuple(m for m in self.modalities if m in CNN_MODALITIES)

    @property
    def plain_cnns(self) -> tuple[str, ...]:
        """Those of `pictures` with the original's three layers."""
        return tuple(m for m in self.pictures if m != "face" or self.face_trunk == "mmms_ba")

    @property
    def statistics(self) -> dict[str, int]:
        """Values of a clip that count on the whole, by part (a modality, or `DEVIATION`); empty for one without."""
        if not self.clip_statistics:
            return {}
        fixed = (m for m in self.modalities if m not in self.plain_cnns)
        parts = {m: NUM_STATISTICS if m == "motion" else self.feature_dim(m) for m in fixed}
        deviation = {DEVIATION: self.audio_dim} if self.sound_deviation and "audio" in parts else {}
        return deviation | parts

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Attention calls (X, Y) in the order of concatenation; the result has X's length."""
        return tuple(p for p in PAIRS if {*p} <= {*self.streams})

    @property
    def aligned_blocks(self) -> dict[str, str]:
        """Names of the products with the sound, and the stream of each; led by that stream, whose length they have."""
        if not self.aligned or "audio" not in self.streams:
            return {}
        return {f"{m}_audio_aligned": m for m in self.streams if m != "audio"}

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the concatenated blocks, in order."""
        fused = {
            "bi_modal": tuple(f"{x}_{y}" for x, y in self.pairs),
            "self": tuple(f"{m}_self" for m in self.streams),
            "none": (),
        }[self.attention]
        return fused + tuple(self.aligned_blocks) + self.streams

    @property
    def head_dim(self) -> int:
        """Width of the concatenation that the head sees: 900 for the original."""
        return sum(self.block_dims.values())

    @property
    def block_dims(self) -> dict[str, int]:
        """Widths of the concatenated blocks by name, in order."""
        fused_pairs = {f"{x}_{y}" for x, y in self.pairs}
        return {name: 2 * self.dense_dim if name in fused_pairs else self.dense_dim for name in self.blocks}

    @property
    def columns(self) -> dict[str, slice]:
        """Which inputs of the head each concatenated block is."""
        ends = itertools.accumulate(self.block_dims.values())
        widths = self.block_dims.items()
        return {name: slice(end - width, end) for (name, width), end in zip(widths, ends, strict=True)}


@dataclass(frozen=True)
class NetworkOutput:
    """Logits of a batch of clips, with the features and attention maps that led to them."""

    clip_logits: Tensor
    """(B, 2), class 0 real, class 1 fake."""
    frame_logits: Tensor
    """(B, T, 2)."""
    features: dict[str, Tensor] = field(default_factory=dict)
    """By name: `face_cnn` (B, T, C), `audio_dense` (B, T_a, D), `face_lip` (B, T, 2 D), ..., `merged`; `parts`
    (B, 1 + S, 2), whose sum the clip logits are, of a network with clip statistics: its own and each modality's."""
    attention: dict[str, Tensor] = field(default_factory=dict)
    """Softmax maps by name: `face_lip` (B, T_x, T_y) and the way back, `lip_face`."""

    def rows(self, chosen: Tensor) -> NetworkOutput:
        """That of some clips of the batch.

        Args:
            chosen: (B,) bool.
        """
        features = {name: value[chosen] for name, value in self.features.items()}
        attention = {name: value[chosen] for name, value in self.attention.items()}
        return NetworkOutput(self.clip_logits[chosen], self.frame_logits[chosen], features, attention)


def image_cnn(channels: Sequence[int], stem: Stem = "conv3") -> nn.Sequential:
    """Three strided convolutions, per frame: (N, 3, h, w) in [0, 1] to (N, channels[-1]).

    Every stem has its layers at the same places, so that parameter names do not depend on it.
    """
    a, b, c = channels
    if stem == "patch4":
        first: tuple[nn.Module, ...] = (nn.Conv2d(3, a, 4, stride=4), nn.ReLU(), nn.Identity())
    else:
        first = (nn.Conv2d(3, a, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(
        *first,
        nn.Conv2d(a, b, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(b, c, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Encoder(nn.Module):
    """One-layer Bi-GRU over a modality's time steps."""

    def __init__(self, input_dim: int, hidden: int, *, dropout: float) -> None:
        """Builds the GRU.

        Args:
            input_dim: Width of one time step.
            hidden: H, units per direction.
            dropout: Drop probability after the GRU.
        """
        super().__init__()
        self.gru = nn.GRU(input_dim, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, mask: Tensor | None = None) -> Tensor:
        """Runs both directions.

        Args:
            steps: (B, T, input_dim).
            mask: (B, T) bool, True = valid, valid steps first; padding comes back as zeros. A row that is
                all False counts as one step: the original stops there (TEACHER, section 5, point 4).
        Returns:
            (B, T, 2 H), forward then backward.
        """
        if mask is None:
            return self.dropout(self.gru(steps)[0])
        lengths = mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=steps.shape[1])
        return self.dropout(output)


def bi_modal_attention(
    x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Each modality looks at the other; no parameters, no scaling.

    Args:
        x: (B, T_x, D).
        y: (B, T_y, D).
        x_mask: (B, T_x) bool, True = valid.
        y_mask: (B, T_y) bool, True = valid.
    Returns:
        The fused block (B, T_x, 2 D) and the maps x to y (B, T_x, T_y) and y to x (B, T_y, T_x).
    Source: Ghosal et al. 2018, section 3.1, as the original implementation applies it.
    """
    scores = x @ y.transpose(1, 2)
    back_scores = scores.transpose(1, 2)
    if y_mask is not None:
        scores = scores.masked_fill(~y_mask[:, None, :], MASKED_SCORE)
    if x_mask is not None:
        back_scores = back_scores.masked_fill(~x_mask[:, None, :], MASKED_SCORE)
    x_to_y = scores.softmax(-1)
    y_to_x = back_scores.softmax(-1)
    from_x = (x_to_y @ y) * x
    from_y = (y_to_x @ x) * y
    return torch.cat([from_x, x_to_y @ from_y], dim=-1), x_to_y, y_to_x


def masked_mean(block: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over time of the valid steps: (B, T, C) and (B, T) bool to (B, C)."""
    if mask is None:
        return block.mean(1)
    weights = mask.to(block.dtype)[:, :, None]
    return (block * weights).sum(1) / weights.sum(1).clamp(min=1)


def clip_values(part: str, steps: Mapping[str, Tensor], masks: Mapping[str, Tensor | None]) -> Tensor:
    """What the `ClipStatistics` of a part takes, (B, S).

    Args:
        part: Of `NetworkSpec.statistics`.
        steps: (B, T, C) by modality.
        masks: (B, T) bool or None by modality; those of motion, which has no padding, are not looked at.
    """
    if part == "motion":
        return motion_statistics(steps[part])
    if part == DEVIATION:
        return log_deviation(steps["audio"], masks["audio"])
    return masked_mean(steps[part], masks[part])


def log_deviation(block: Tensor, mask: Tensor | None) -> Tensor:
    """Logarithm of the deviation over time of the valid steps: (B, T, C) and (B, T) bool to (B, C).

    Source: with the mean the statistics pooling of x-vectors, Snyder et al. 2018, DOI 10.1109/ICASSP.2018.8461375;
    as a logarithm, since deviations of loud and of quiet clips differ by a factor.
    """
    departures = block - masked_mean(block, mask)[:, None]
    return 0.5 * torch.log(masked_mean(departures * departures, mask) + SMALLEST_DEVIATION**2)


def resample_steps(block: Tensor, num_steps: int) -> Tensor:
    """Linear interpolation along time, half-step aligned: (B, T_a, C) to (B, num_steps, C)."""
    if block.shape[1] == num_steps:
        return block
    return F.interpolate(block.transpose(1, 2), size=num_steps, mode="linear", align_corners=False).transpose(1, 2)


def resample_valid(block: Tensor, mask: Tensor, frame_mask: Tensor) -> Tensor:
    """`resample_steps` row by row over the valid steps alone, so that padding cannot change an answer.

    Args:
        block: (B, T_a, C).
        mask: (B, T_a) bool, the block's valid steps.
        frame_mask: (B, T) bool, the pictures' valid steps.
    Returns:
        (B, T, C), zeros where a picture is padding.
    """
    out = block.new_zeros(block.shape[0], frame_mask.shape[1], block.shape[2])
    for row, (steps, frames) in enumerate(zip(mask.sum(1).tolist(), frame_mask.sum(1).tolist(), strict=True)):
        if steps and frames:
            out[row, :frames] = resample_steps(block[row : row + 1, :steps], frames)[0]
    return out


class MMMSBA(nn.Module):
    """Tri-modal detector on MFCC, face and lip frames; 3,040,166 parameters at the original's widths."""

    # Replaceable per instance, for controls that swap its arguments on purpose.
    attend = staticmethod(bi_modal_attention)

    def __init__(
        self,
        spec: NetworkSpec | None = None,
        *,
        gru_dropout: float = 0.3,
        dense_dropout: float = 0.3,
        frame_resampling: Resampling = "valid",
    ) -> None:
        """Builds the network with torch's default initialisation.

        Args:
            spec: Widths and variant; the original's by default.
            gru_dropout: Drop probability after each Bi-GRU.
            dense_dropout: Drop probability before each dense layer.
            frame_resampling: Over which length the sound blocks are resampled to the pictures where the two
                differ. `padded` is the original's way, by which a clip's frame logits depend on how long its
                neighbours in the batch are (TEACHER, section 5, point 3); `valid` uses each clip's own length.
        """
        super().__init__()
        self.spec = spec or NetworkSpec()
        self.frame_resampling = frame_resampling
        # In the original's order, kind by kind: the state dict's order is part of the format.
        for name in self.spec.pictures:
            self.add_module(f"{PREFIX[name]}_feature_extractor", self._picture_network(name))
        for name in self.spec.streams:
            encoder = Encoder(self.spec.feature_dim(name), self.spec.gru_hidden, dropout=gru_dropout)
            self.add_module(f"{PREFIX[name]}_encoder", encoder)
        for name in self.spec.streams:
            linear = nn.Linear(2 * self.spec.gru_hidden, self.spec.dense_dim)
            self.add_module(f"{PREFIX[name]}_dense", nn.Sequential(nn.Dropout(dense_dropout), linear, nn.Tanh()))
        self.classifier = nn.Sequential(nn.Linear(self.spec.head_dim, 2))
        self.statistics = nn.ModuleDict({name: ClipStatistics(size) for name, size in self.spec.statistics.items()})

    def _picture_network(self, modality: str) -> nn.Module:
        if modality == "face" and self.spec.face_trunk == "efficientnet_lite0":
            return FaceTexture(self.spec.face_blocks)
        return image_cnn(self.spec.face_channels if modality == "face" else self.spec.lip_channels, self.spec.stem)

    def picture_network(self, modality: str) -> nn.Module:
        """From pictures (N, 3, h, w) of `face` or `lip` to features (N, C), whatever the trunk."""
        return self.get_submodule(f"{PREFIX[modality]}_feature_extractor")

    def trunk_parameters(self) -> list[nn.Parameter]:
        """Weights of the face trunk, where it is one that comes with weights; else none."""
        foreign = "face" in self.spec.pictures and self.spec.face_trunk != "mmms_ba"
        return list(self.picture_network("face").parameters()) if foreign else []

    def cnn(self, modality: str) -> nn.Sequential:
        """The CNN of `face` or `lip` of a network with the original's trunks; its layers are those of `image_cnn`."""
        found = self.picture_network(modality)
        if not isinstance(found, nn.Sequential):
            raise ShapeError(f"the {modality} CNN is a {self.spec.face_trunk}, expected the original's three layers")
        return found

    def encoder(self, modality: str) -> Encoder:
        """The Bi-GRU of a stream."""
        return cast(Encoder, self.get_submodule(f"{PREFIX[modality]}_encoder"))

    def dense(self, modality: str) -> nn.Sequential:
        """Dropout, linear layer and tanh behind the Bi-GRU of a stream."""
        return cast(nn.Sequential, self.get_submodule(f"{PREFIX[modality]}_dense"))

    def frame_features(self, modality: str, pictures: Tensor) -> Tensor:
        """CNN features of a batch of clips: (B, T, 3, h, w) float in [0, 1] to (B, T, C), which are handed through."""
        if pictures.ndim == FEATURE_AXES:
            return pictures
        batch, steps = pictures.shape[:2]
        flat = pictures.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.picture_network(modality)(flat)
        return features.view(batch, steps, -1)

    def forward(
        self,
        audio: Tensor | None,
        frames: Tensor | None,
        lips: Tensor | None,
        audio_mask: Tensor | None = None,
        frame_mask: Tensor | None = None,
        motion: Tensor | None = None,
    ) -> NetworkOutput:
        """Scores a batch of clips.

        Args:
            audio: (B, T_a, audio_dim) float32 MFCC, not normalised.
            frames: (B, T, 3, h, w) float32 RGB in [0, 1].
            lips: (B, T, 3, h, w) float32 RGB in [0, 1].
            audio_mask: (B, T_a) bool, True = valid.
            frame_mask: (B, T) bool, True = valid; serves face, lips and motion.
            motion: (B, T, MOTION_DIM) float32, from `MotionFrontEnd`; for a network with that stream.
        Returns:
            Clip and frame logits, features and attention maps.
        Raises:
            ShapeError: An input is missing or has another rank or width.
        """
        inputs = {"audio": audio, "face": frames, "lip": lips, "motion": motion}
        steps: dict[str, Tensor] = {}
        for name in self.spec.modalities:
            value = inputs[name]
            check_input(name, value, self.spec)
            assert value is not None
            steps[name] = self.frame_features(name, value) if name in CNN_MODALITIES else value
        return self.fuse(steps, audio_mask, frame_mask)

    def fuse(
        self, steps: dict[str, Tensor], audio_mask: Tensor | None = None, frame_mask: Tensor | None = None
    ) -> NetworkOutput:
        """From per-step features of each modality, (B, T, C), to logits; the part after the CNNs."""
        masks: dict[str, Tensor | None] = {
            name: audio_mask if name == "audio" else frame_mask for name in self.spec.modalities
        }
        features = {f"{name}_cnn": value for name, value in steps.items() if name in CNN_MODALITIES}
        dense: dict[str, Tensor] = {}
        for name in self.spec.streams:
            encoded = self.encoder(name)(steps[name], masks[name])
            dense[name] = self.dense(name)(encoded)
            features |= {f"{name}_encoder": encoded, f"{name}_dense": dense[name]}
        blocks, attention = self.join_blocks(dense, masks)
        features |= {name: block for name, block in blocks.items() if name not in dense}

        # In the modalities' order sound comes first: the last stream runs at the pictures' rate if any does.
        num_frames = next(reversed(steps.values())).shape[1]
        pooled = [masked_mean(block, self._mask_of(name, masks)) for name, block in blocks.items()]
        merged = torch.cat(pooled, dim=-1)
        aligned = [self._align(name, block, num_frames, masks) for name, block in blocks.items()]
        frame_merged = torch.cat(aligned, dim=-1)
        features |= {"merged": merged, "frame_merged": frame_merged}
        clip_logits, frame_logits = self.classifier(merged), self.classifier(frame_merged)
        if self.spec.statistics:
            told = self.statistics_logits(steps, masks)
            features[PARTS] = torch.cat([clip_logits[:, None], told], dim=1)
            clip_logits, frame_logits = clip_logits + told.sum(1), frame_logits + told.sum(1, keepdim=True)
        return NetworkOutput(clip_logits, frame_logits, features, attention)

    def statistics_logits(self, steps: Mapping[str, Tensor], masks: Mapping[str, Tensor | None]) -> Tensor:
        """What each modality's clip on the whole adds to the logits of all of its frames.

        Args:
            steps: (B, T, C) by modality; a network with `spec.statistics`.
            masks: As `clip_values` takes them.
        Returns:
            (B, S, 2), a row for each part of `spec.statistics`.
        """
        told = [self.statistics[part](clip_values(part, steps, masks)) for part in self.spec.statistics]
        return torch.stack(told, dim=1)

    def join_blocks(
        self, dense: dict[str, Tensor], masks: dict[str, Tensor | None]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The blocks to concatenate, in the head's order, and the attention maps.

        Args:
            dense: (B, T, D) by stream.
            masks: (B, T) bool or None by modality.
        """
        blocks: dict[str, Tensor] = {}
        attention: dict[str, Tensor] = {}
        if self.spec.attention == "bi_modal":
            for x, y in self.spec.pairs:
                blocks[f"{x}_{y}"], attention[f"{x}_{y}"], attention[f"{y}_{x}"] = self.attend(
                    dense[x], dense[y], masks[x], masks[y]
                )
        elif self.spec.attention == "self":
            for name, value in dense.items():
                scores = value @ value.transpose(1, 2)
                mask = masks[name]
                if mask is not None:
                    scores = scores.masked_fill(~mask[:, None, :], MASKED_SCORE)
                attention[f"{name}_{name}"] = scores.softmax(-1)
                blocks[f"{name}_self"] = (attention[f"{name}_{name}"] @ value) * value
        blocks |= self.aligned_products(dense, masks)
        blocks |= {name: dense[name] for name in MODALITIES if name in dense}
        return blocks, attention

    def aligned_products(self, dense: dict[str, Tensor], masks: dict[str, Tensor | None]) -> dict[str, Tensor]:
        """Sound times each other stream at the same picture: with the head behind it, an inner product that is learnt.

        Args:
            dense: (B, T, D) by stream.
            masks: (B, T) bool or None by modality.
        Returns:
            (B, T, D) by the names of `NetworkSpec.aligned_blocks`; empty for a network without.
        Source: comparing sound and lips per moment by their embeddings is that of SyncNet (Chung and Zisserman 2016).
        """
        return {
            name: dense[m] * self._align("audio", dense["audio"], dense[m].shape[1], masks)
            for name, m in self.spec.aligned_blocks.items()
        }

    @staticmethod
    def _mask_of(block: str, masks: dict[str, Tensor | None]) -> Tensor | None:
        return masks[block.split("_", maxsplit=1)[0]]

    def _align(self, name: str, block: Tensor, num_frames: int, masks: dict[str, Tensor | None]) -> Tensor:
        """A block at the pictures' length; only those led by the sound can differ from it."""
        if not name.startswith("audio"):
            return block
        mask = masks["audio"]
        picture_masks = [masks[name] for name in ("face", "lip", "motion") if name in masks]
        frame_mask = picture_masks[0] if picture_masks else None
        if self.frame_resampling == "valid" and mask is not None and frame_mask is not None:
            return resample_valid(block, mask, frame_mask)
        return resample_steps(block, num_frames)


def check_input(name: str, value: Tensor | None, spec: NetworkSpec) -> None:
    """Refuses a missing input or one of another rank or width.

    Raises:
        ShapeError: Naming the modality, what was found and what is taken.
    """
    is_picture = name in CNN_MODALITIES
    expected = "(B, T, 3, height, width)" if is_picture else f"(B, T, {spec.feature_dim(name)})"
    if value is None:
        raise ShapeError(f"the network needs '{name}' and got none; expected {expected}")
    rank, width = (5, 3) if is_picture else (3, spec.feature_dim(name))
    fits = value.ndim == rank and value.shape[2] == width
    if is_picture and value.ndim == FEATURE_AXES:
        fits = value.shape[2] == spec.feature_dim(name)
    if not fits or not value.is_floating_point():
        raise ShapeError(f"'{name}' has shape {tuple(value.shape)}, {value.dtype}; expected {expected}, float32")
