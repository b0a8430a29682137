"""Flags of `dfkit train` and `dfkit distill`: they go before the configuration and stand in the run's `config.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dfkit.config.experiment import Config, explain
from dfkit.errors import ConfigError

VISUAL = "visual"
"""What the original calls the face."""


@dataclass(frozen=True)
class TrainFlags:
    """What the command line asked for; None or False leaves the configuration as it is."""

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

    def lay_over(self, config: Config) -> Config:
        """The configuration with these flags over it.

        Raises:
            ConfigError: A flag's value cannot be used.
        """
        return lay_over(config, self._given(config))

    def _given(self, config: Config) -> list[tuple[str, Any, str]]:
        """(configuration keys, value, the flag as it was typed) of each flag that was given."""
        found: list[tuple[str, Any, str]] = []
        if self.kfold is not None:
            found.append(("train.split.folds", self.kfold, f"--kfold {self.kfold}"))
        if self.workers is not None:
            found.append(("train.num_workers", self.workers, f"--workers {self.workers}"))
        if self.use_weighted_sampler:
            found.append(("train.sampling.type", "weighted", "--use-weighted-sampler"))
        if self.use_weighted_loss:
            found.append(("train.loss.class_weights", weights_of(config), "--use-weighted-loss"))
        if self.class_weights is not None:
            real, fake = self.class_weights
            found.append(("train.loss.class_weights", [real, fake], f"--class-weights {real:g} {fake:g}"))
        if self.modalities is not None:
            names = [name.strip() for name in self.modalities.split(",")]
            chosen = ["face" if name == VISUAL else name for name in names]
            found.append(("train.modalities", chosen, f"--modalities {self.modalities}"))
        if self.save_format is not None:
            found.append(("train.save.format", self.save_format, f"--save-format {self.save_format}"))
        if self.own_split:
            found.append(("train.split.use_given distill.split.use_given", False, "--own-split"))
        return found


@dataclass(frozen=True)
class DistillFlags:
    """What the command line asked for; None leaves the configuration as it is."""

    target_mb: float | None = None
    """Largest INT8 graph, decimal MB."""
    target_ms: float | None = None
    """Largest p50 of one clip, ms."""
    points: int | None = None
    """Widths to distil."""
    seeds: int | None = None
    """Students of each kind."""

    def lay_over(self, config: Config) -> Config:
        """The configuration with these flags over it.

        Raises:
            ConfigError: A flag's value cannot be used.
        """
        values = {
            "search.target_mb": self.target_mb,
            "search.target_ms": self.target_ms,
            "search.points": self.points,
            "seeds": self.seeds,
        }
        given = [
            (f"distill.{key}", value, f"--{key.split('.')[-1].replace('_', '-')} {value:g}")
            for key, value in values.items()
            if value is not None
        ]
        return lay_over(config, given)


def lay_over(config: Config, given: Sequence[tuple[str, Any, str]]) -> Config:
    """A configuration with flags over it, which it names.

    Args:
        config: The configuration.
        given: Keys (separated by blanks), value, and the flag as it was typed.
    Raises:
        ConfigError: A flag's value cannot be used.
    """
    if not given:
        return config
    content = config.model_dump(mode="json")
    for paths, value, _ in given:
        for path in paths.split():
            *sections, last = path.split(".")
            current = content
            for name in sections:
                current = current[name]
            current[last] = value
    content["flags"] = [*content["flags"], *(flag for _, _, flag in given if flag not in content["flags"])]
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        named = ", ".join(flag for _, _, flag in given)
        raise ConfigError(f"{named}: {len(error.errors())} wrong values:\n{explain(error, Config)}") from error


def weights_of(config: Config) -> Sequence[float] | str:
    """Class weights for a weighted loss: the configuration's, else those of the original's YAML, else `balanced`."""
    if config.train.loss.class_weights is not None:
        return config.train.loss.class_weights
    training = (config.train.save.config or {}).get("training", {})
    return training.get("class_weights") or "balanced"
