"""Reads an experiment's YAML, dfkit's own or the original implementation's."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml
from pydantic import ValidationError

from dfkit.config import Config, explain, upgrade
from dfkit.console import note
from dfkit.errors import ConfigError


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
        content, moved = upgrade(content or {})
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    for line in moved:
        _note_once(f"{path}: {line}")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {len(error.errors())} wrong entries:\n{explain(error, Config)}") from error


@cache
def _note_once(line: str) -> None:
    """A command reads its file several times and says once what is old about it."""
    note(line)
