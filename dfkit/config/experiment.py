"""The YAML of an experiment: one model per stage. A wrong key is refused by name before any work starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

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
    face_models: Literal["float16", "int8"] | None = None
    """Face models that the bundle is served with: those that the data was prepared with, or their INT8 form; where left
    out float16 for a student that takes `motion`, else int8."""
    self_contained: bool = False
    """Whether the bundle holds the face models themselves."""


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
    flags: tuple[str, ...] = ()
    """Flags of the command line that were laid over this file, written by dfkit."""


def read_config(path: str | Path | None) -> Config:
    """Reads an experiment file, dfkit's or the original's; every error at once.

    Args:
        path: YAML file; None gives the defaults.
    Raises:
        ConfigError: The file is missing, is no YAML, or holds wrong keys or values, each named.
    """
    if path is None:
        return Config()
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        # JSON is YAML but for numbers such as 1e-05, which YAML 1.1 takes for text.
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file", fix="check the path given with --config") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not a YAML file ({str(error).splitlines()[0]})") from error
    from dfkit.original.configuration import is_original, translate

    if is_original(content):
        return translate(content, str(path)).config
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
