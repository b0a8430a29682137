"""The content of an experiment's YAML: one model per stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dfkit.clip import ClipSpec
from dfkit.config.forge import ForgeConfig
from dfkit.config.section import Section
from dfkit.config.training import DistillConfig, SplitConfig, TrainConfig

STAGES_WITH_SPLIT = ("train", "distill")
"""Sections that had a `split` of their own before the experiment had one."""
OLD_FRAME_WEIGHT, FRAME_WEIGHT = "frame_weight", "frame_distillation_weight"
"""Key of `distill` before and since it has another name than the label loss's `distill.loss.frame_weight`."""


class ExportConfig(Section):
    """`dfkit export`: quantization, parity and contents of the bundle."""

    recipe: str | None = None
    """Quantization recipe of the .tflite; where left out fp32, with `--int8` mixed_int8."""
    calibration_clips: PositiveInt = 16
    """Training clips that fix the static ranges."""
    parity_clips: PositiveInt = 12
    """Real clips that parity is shown on, beside the worst cases."""
    notes: tuple[str, ...] = ()
    """What whoever gets an answer of this model has to know: sentences that `dfkit predict` prints with the bundle's
    own warnings, and that stand first on its card."""
    face_models: Literal["float16", "int8"] | None = None
    """Face models that prepare data and serve bundles; where left out int8 for new data, and a bundle gets
    those that prepared its data."""


class BenchConfig(Section):
    """`dfkit bench`: how latency is measured."""

    repeats: PositiveInt = 30
    """Timed clips per variant."""
    num_threads: PositiveInt = 1
    """Threads per interpreter."""


class DemoConfig(Section):
    """`dfkit demo`: its synthetic videos."""

    synthetic_seconds: PositiveFloat = 5.0
    """Length of each synthetic video."""


class Config(Section):
    """One experiment, from preparing data to the benchmark; a section per stage."""

    name: str = Field(default="default", pattern=r"^[\w.-]+$")
    """Names the run, data and export folders."""
    clip: ClipSpec = ClipSpec()
    """The clip contract; stored in data, checkpoints and bundles."""
    split: SplitConfig = SplitConfig()
    """Which groups train, validate and test; teacher and student share it."""
    forge: ForgeConfig = ForgeConfig()
    train: TrainConfig = TrainConfig()
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    bench: BenchConfig = BenchConfig()
    demo: DemoConfig = DemoConfig()
    flags: tuple[str, ...] = ()
    """Flags of the command line that changed this configuration, written by dfkit."""

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, content: Any) -> Any:
        return upgrade(content)[0] if isinstance(content, Mapping) else content

    def to_json_text(self, indent: int | None = None) -> str:
        """JSON in ASCII: folders may have names that are no Unicode, which pydantic's own writer and reader refuse."""
        return json.dumps(self.model_dump(mode="json"), indent=indent)

    @classmethod
    def from_json_text(cls, text: str) -> Config:
        """Reads what `to_json_text` wrote.

        Raises:
            ValidationError: It is no JSON, or not of a configuration.
        """
        try:
            content = json.loads(text)
        except ValueError:
            return cls.model_validate_json(text)
        return cls.model_validate(content)


def upgrade(content: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Moves keys of an older file to where they are now.

    - A `split` of `train` or `distill` is the experiment's `split`.
    - `distill.frame_weight` is `distill.frame_distillation_weight`.

    Args:
        content: As it was read.
    Returns:
        The content under today's keys, and a line of text for each key that moved.
    Raises:
        ValueError: Two sections name different splits, so one would train on what the other tests, or a key stands
            there under its old and its new name.
    """
    upgraded, split_notes = _upgrade_split(dict(content))
    upgraded, weight_notes = _upgrade_frame_weight(upgraded)
    return upgraded, (*split_notes, *weight_notes)


def _upgrade_split(content: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    stage_splits: dict[str, Any] = {}
    for stage in STAGES_WITH_SPLIT:
        section = content.get(stage)
        if isinstance(section, Mapping) and "split" in section:
            content[stage] = {key: value for key, value in section.items() if key != "split"}
            stage_splits[f"{stage}.split"] = section["split"]
    if not stage_splits:
        return content, ()
    named = {"split": content["split"], **stage_splits} if "split" in content else stage_splits
    first, *others = named.values()
    if any(other != first for other in others):
        raise ValueError(f"{' and '.join(named)} differ; an experiment has one split: keep one of them, as split")
    content["split"] = first
    return content, tuple(f"{key} is now split, for teacher and student alike" for key in stage_splits)


def _upgrade_frame_weight(content: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    section = content.get("distill")
    if not isinstance(section, Mapping) or OLD_FRAME_WEIGHT not in section:
        return content, ()
    if FRAME_WEIGHT in section:
        raise ValueError(
            f"distill.{OLD_FRAME_WEIGHT} and distill.{FRAME_WEIGHT} are the same: keep distill.{FRAME_WEIGHT}"
        )
    renamed = {FRAME_WEIGHT if key == OLD_FRAME_WEIGHT else key: value for key, value in section.items()}
    note = f"distill.{OLD_FRAME_WEIGHT} is now distill.{FRAME_WEIGHT}; distill.loss.frame_weight keeps its name"
    return {**content, "distill": renamed}, (note,)
