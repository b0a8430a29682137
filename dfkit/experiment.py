"""Reads an experiment's YAML, dfkit's own or the original implementation's.

The configuration's models are imported when a file is read: `dfkit predict` needs none of them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dfkit.console import note
from dfkit.errors import ConfigError

if TYPE_CHECKING:
    from dfkit.config import Config
    from dfkit.original.configuration import Translation

FIX_KEYS = "correct these entries or leave them out: see configs/default.yaml"


def read_config(path: str | Path | None) -> Config:
    """Reads an experiment file, dfkit's or the original's; every error at once.

    Args:
        path: YAML file; None gives the defaults.
    Raises:
        ConfigError: The file is missing, is no YAML, or holds wrong keys or values, each named.
    """
    from pydantic import ValidationError

    from dfkit.config import Config, explain, upgrade
    from dfkit.config.yaml_file import read_yaml
    from dfkit.original.configuration import is_original, translate

    if path is None:
        return Config()
    path = Path(path)
    content = read_yaml(path)
    if is_original(content):
        return translate(content, str(path)).config
    try:
        content, moved = upgrade(content)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", fix=FIX_KEYS) from error
    for line in moved:
        _note_once(f"{path}: {line}")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {len(error.errors())} wrong entries:\n{explain(error, Config)}", fix=FIX_KEYS
        ) from error


def read_translation(path: Path) -> Translation | None:
    """The translation of an original YAML; None for any other file.

    Raises:
        ConfigError: The file cannot be read, or as `translate`.
    """
    from dfkit.config.yaml_file import read_yaml
    from dfkit.original.configuration import is_original, translate

    content = None if path.suffix == ".json" else read_yaml(path)
    return translate(content, str(path)) if content is not None and is_original(content) else None


@cache
def _note_once(line: str) -> None:
    """A command reads its file several times and says once what is old about it."""
    note(line)
