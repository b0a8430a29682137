"""Flags of `dfkit train` and `dfkit distill`: they override the configuration; a run's `config.json` names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dfkit.config.experiment import Config
from dfkit.config.explain import explain
from dfkit.errors import ConfigError

VISUAL = "visual"
"""The original's name of the modality `face`."""
FlagValue = tuple[str, Any, str]
"""Key of the configuration, its value, and the flag as it was typed."""


@dataclass(frozen=True)
class TrainFlags:
    """Flags of `dfkit train`; None or False leaves the configuration as it is."""

    kfold: int | None = None
    """Number of folds."""
    workers: int | None = None
    """Processes that read clips."""
    use_weighted_sampler: bool = False
    use_weighted_loss: bool = False
    class_weights: tuple[float, float] | None = None
    """Of real and fake; implies the weighted loss."""
    modalities: str | None = None
    """Separated by commas."""
    save_format: str | None = None
    own_split: bool = False
    """Split by group though the labels or the index name a split."""
    leave_out: str | None = None
    """What the folds leave out: method, group, or a column of the label file."""
    start: str | None = None
    """Checkpoint to go on from, or `starter`."""
    unlabelled: tuple[str, ...] = ()
    """Prepared data of videos that get pseudo-labels."""
    unlabelled_control: bool = False
    """Whether the same videos are also trained on under shuffled labels."""

    def apply_to(self, config: Config) -> Config:
        """The configuration with these flags applied.

        Raises:
            ConfigError: A flag's value cannot be used.
        """
        return apply_flags(config, self._given(config))

    def _given(self, config: Config) -> list[FlagValue]:
        """Every flag that was given."""
        given: list[FlagValue] = []
        if self.kfold is not None:
            given.append(("split.folds", self.kfold, f"--kfold {self.kfold}"))
        if self.workers is not None:
            given.append(("train.num_workers", self.workers, f"--workers {self.workers}"))
        if self.use_weighted_sampler:
            given.append(("train.sampling.type", "weighted", "--use-weighted-sampler"))
        if self.use_weighted_loss:
            given.append(("train.loss.class_weights", weights_for_weighted_loss(config), "--use-weighted-loss"))
        if self.class_weights is not None:
            real, fake = self.class_weights
            given.append(("train.loss.class_weights", [real, fake], f"--class-weights {real:g} {fake:g}"))
        if self.modalities is not None:
            names = [name.strip() for name in self.modalities.split(",")]
            chosen = ["face" if name == VISUAL else name for name in names]
            given.append(("train.modalities", chosen, f"--modalities {self.modalities}"))
        if self.save_format is not None:
            given.append(("train.save.format", self.save_format, f"--save-format {self.save_format}"))
        if self.own_split:
            given.append(("split.use_given", False, "--own-split"))
        if self.start is not None:
            given.append(("train.start", self.start, f"--start {self.start}"))
        if self.unlabelled:
            named = " ".join(f"--unlabelled {folder}" for folder in self.unlabelled)
            given.append(("train.unlabelled.folders", list(self.unlabelled), named))
        if self.unlabelled_control:
            given.append(("train.unlabelled.control", True, "--unlabelled-control"))
        if self.leave_out is not None:
            given.append(("split.leave_out", self.leave_out, f"--leave-out {self.leave_out}"))
        return given


@dataclass(frozen=True)
class DistillFlags:
    """Flags of `dfkit distill`; None leaves the configuration as it is."""

    target_mb: float | None = None
    """Largest INT8 graph, decimal MB."""
    target_ms: float | None = None
    """Largest p50 of one clip, ms."""
    points: int | None = None
    """Widths to distil."""
    seeds: int | None = None
    """Students of each kind."""
    feature_weight: float | None = None
    """Of the distance from the teacher's features."""
    further_teachers: tuple[str, ...] = ()
    """Checkpoints that vote beside the first."""
    answers: tuple[str, ...] = ()
    """Files of answers."""
    answers_share: float | None = None
    """Of the answers in what is distilled."""
    attention_weight: float | None = None
    """Of the divergence from the teacher's attention maps."""

    def apply_to(self, config: Config) -> Config:
        """The configuration with these flags applied.

        Raises:
            ConfigError: A flag's value cannot be used.
        """
        values = {
            "search.target_mb": self.target_mb,
            "search.target_ms": self.target_ms,
            "search.points": self.points,
            "seeds": self.seeds,
            "feature_weight": self.feature_weight,
            "attention_weight": self.attention_weight,
            "answers_share": self.answers_share,
        }
        given: list[FlagValue] = [
            (f"distill.{key}", value, f"--{key.split('.')[-1].replace('_', '-')} {value:g}")
            for key, value in values.items()
            if value is not None
        ]
        files = {"further_teachers": ("--teacher", self.further_teachers), "answers": ("--answers", self.answers)}
        for key, (flag, paths) in files.items():
            if paths:
                given.append((f"distill.{key}", list(paths), " ".join(f"{flag} {path}" for path in paths)))
        return apply_flags(config, given)


def apply_flags(config: Config, given: Sequence[FlagValue]) -> Config:
    """A configuration with flags applied; they are named in its `flags`.

    Args:
        config: The configuration.
        given: Flags in the order in which they are applied.
    Returns:
        The configuration itself where no flag was given.
    Raises:
        ConfigError: A flag's value cannot be used.
    """
    if not given:
        return config
    content = config.model_dump(mode="json")
    for key, value, flag in given:
        *sections, last = key.split(".")
        current = content
        for name in sections:
            current = current[name]
        current[last] = value
        if flag not in content["flags"]:
            content["flags"].append(flag)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        named = ", ".join(flag for _, _, flag in given)
        raise ConfigError(f"{named}: {len(error.errors())} wrong values:\n{explain(error, Config)}") from error


def weights_for_weighted_loss(config: Config) -> Sequence[float] | str:
    """Class weights for a weighted loss: the configuration's, else those of the original's YAML, else `balanced`."""
    if config.train.loss.class_weights is not None:
        return config.train.loss.class_weights
    training = (config.train.save.config or {}).get("training", {})
    return training.get("class_weights") or "balanced"
