"""The YAML of an experiment: one model per stage. A wrong key is refused by name before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError


class Section(BaseModel):
    """Base of every section: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class ExportConfig(Section):
    """`dfkit export`."""

    recipe: str = "mixed_int8"
    """Quantization recipe of the .tflite."""
    calibration_clips: PositiveInt = 16
    """Training clips that fix the static ranges."""
    parity_clips: PositiveInt = 12
    """Real clips that parity is shown on, beside the worst cases."""


class BenchConfig(Section):
    """`dfkit bench`."""

    repeats: PositiveInt = 30
    """Timed clips per variant."""
    num_threads: PositiveInt = 1
    """Threads per interpreter."""


class DemoConfig(Section):
    """`dfkit demo`."""

    synthetic_seconds: PositiveFloat = 5.0
    """Length of each synthetic video."""


class Config(Section):
    """One experiment."""

    name: str = Field(default="default", pattern=r"^[\w.-]+$")
    """Names the run, data and export folders."""
    clip: ClipSpec = ClipSpec()
    """The clip contract; stored in data, checkpoints and bundles."""
    forge: dict[str, Any] = {}
    """Section of `dfkit.data.forge.config.ForgeConfig`."""
    train: TrainConfig = TrainConfig()
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    bench: BenchConfig = BenchConfig()
    demo: DemoConfig = DemoConfig()


def read_config(path: str | Path | None) -> Config:
    """Reads an experiment file; every error at once.

    Args:
        path: YAML file; None gives the defaults.
    Raises:
        ConfigError: The file is missing, is no YAML, or holds wrong keys or values, each named.
    """
    if path is None:
        return Config()
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file", fix="check the path given with --config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file ({str(error).splitlines()[0]})") from error
    try:
        return Config.model_validate(content or {})
    except ValidationError as error:
        raise ConfigError(f"{path}: {len(error.errors())} wrong entries:\n{explain(error, Config)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per error: the key's path, what was wrong and, for an unknown key, the valid names."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        line = f"  {where}: {item['msg']}"
        if item["type"] == "extra_forbidden":
            line = f"  {where}: unknown key; valid here: {', '.join(_valid_keys(model, item['loc'][:-1]))}"
        lines.append(line)
    return "\n".join(lines)


def _valid_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] = model
    for part in path:
        annotation = current.model_fields[str(part)].annotation if str(part) in current.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            current = annotation
    return sorted(current.model_fields)
