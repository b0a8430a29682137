"""The YAML of an experiment: one model per stage. A wrong key is refused by name before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError

from dfkit.clip import ClipSpec
from dfkit.config.section import Section
from dfkit.config.training import DistillConfig, TrainConfig
from dfkit.errors import ConfigError


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
    forge: dict[str, Any] = Field(default_factory=dict)
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
