"""Sections `train` and `distill`: networks, optimizer, splits, losses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from dfkit.config.section import Section


class WidthConfig(Section):
    """Widths of a network."""

    face_channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256)
    """Channels of the face convolutions."""
    lip_channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 64, 128)
    """Channels of the lip convolutions."""
    gru_hidden: PositiveInt = 300
    """Units per GRU direction."""


class OptimizerConfig(Section):
    """Adam with a cosine schedule over all steps."""

    learning_rate: PositiveFloat = 5e-4
    """Peak rate, after warm-up."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled decay (AdamW)."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps over which the rate rises from zero."""
    max_norm: PositiveFloat = 1.0
    """Gradient norm above which the gradient is scaled down."""


class SplitConfig(Section):
    """Grouped split of the prepared data."""

    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the groups that fixes stopping, calibration and threshold."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the groups that is touched once, for the report."""
    seed: NonNegativeInt = 0
    """Which groups go where."""


class LossConfig(Section):
    """Terms of the training loss."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Mass moved from the label to the other class."""
    frame_weight: NonNegativeFloat = 0.5
    """Weight of the frame-level cross-entropy beside the clip-level one."""
    class_weights: tuple[PositiveFloat, PositiveFloat] | Literal["balanced"] | None = "balanced"
    """Weight of real and fake; `balanced` gives both classes the same total weight."""


class TrainConfig(Section):
    """`dfkit train`: the teacher."""

    widths: WidthConfig = WidthConfig()
    """Network widths; the original's by default."""
    modalities: tuple[Literal["audio", "face", "lip"], ...] = ("audio", "face", "lip")
    """Streams the network takes."""
    attention: Literal["bi_modal", "self", "none"] = "bi_modal"
    """Fusion."""
    epochs: PositiveInt = 15
    """Passes over the training clips."""
    batch_size: PositiveInt = 8
    """Clips per step."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """After each GRU and before each dense layer."""
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    split: SplitConfig = SplitConfig()
    patience: PositiveInt | None = None
    """Epochs without a better validation loss before training stops."""
    seed: NonNegativeInt = 0
    """Of weights, order and dropout."""
    num_workers: NonNegativeInt = 0
    """Processes that read clips beside the training one."""
    num_threads: NonNegativeInt = 0
    """CPU threads for torch; 0 takes torch's own choice."""


class DistillConfig(Section):
    """`dfkit distill`: pruning, then distillation."""

    widths: WidthConfig = WidthConfig(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)
    """Student widths; multiples of 8."""
    importance: Literal["l2", "taylor"] = "l2"
    """What decides which units stay."""
    temperature: PositiveFloat = 2.0
    """Softens teacher and student logits."""
    alpha: float = Field(default=0.7, ge=0, le=1)
    """Weight of the teacher's answer; 1 - alpha goes to the labels."""
    frame_weight: NonNegativeFloat = 0.5
    """Weight of the frame-level terms beside the clip-level ones."""
    epochs: PositiveInt = 15
    batch_size: PositiveInt = 8
    dropout: float = Field(default=0.1, ge=0, lt=1)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3)
    loss: LossConfig = LossConfig(label_smoothing=0.0)
    split: SplitConfig = SplitConfig()
    patience: PositiveInt | None = None
    seed: NonNegativeInt = 0
    num_workers: NonNegativeInt = 0
    num_threads: NonNegativeInt = 0
    baselines: bool = False
    """Also train the same student from scratch and only pruned, at equal steps, for comparison."""
