"""Reads an experiment's YAML, dfkit's own or the original implementation's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dfkit.config import Config, explain, upgrade
from dfkit.console import note
from dfkit.errors import ConfigError
from dfkit.original.configuration import Translation, is_original, translate

MERGE_TAG = "tag:yaml.org,2002:merge"


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
    content = _read_content(path)
    if is_original(content):
        return translate(content, str(path)).config
    try:
        content, moved = upgrade(content)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    for line in moved:
        _note_once(f"{path}: {line}")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {len(error.errors())} wrong entries:\n{explain(error, Config)}") from error


def read_translation(path: Path) -> Translation | None:
    """The translation of an original YAML; None for any other file.

    Raises:
        ConfigError: The file cannot be read, or as `translate`.
    """
    content = None if path.suffix == ".json" else _read_content(path)
    return translate(content, str(path)) if content is not None and is_original(content) else None


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key stands once; PyYAML itself takes the last of several and says nothing."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuses a second entry of one key; before `<<` brings in others, which may be written over."""
        node = super().compose_mapping_node(anchor)
        first_lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE_TAG:
                continue
            line, entry = key.start_mark.line + 1, (key.tag, key.value)
            if entry in first_lines:
                raise _RepeatedKeyError(
                    f"key '{key.value}' stands in line {first_lines[entry]} and again in line {line}"
                )
            first_lines[entry] = line
        return node


class _RepeatedKeyError(ValueError):
    """Two entries of one key, of which one would be lost."""


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    for key in content:
        if sum(name == key for name, _ in pairs) > 1:
            raise _RepeatedKeyError(f"key '{key}' stands there more than once")
    return content


def _read_content(path: Path) -> Mapping[str, Any]:
    """What a configuration file holds; nothing is the same as no entries.

    Raises:
        ConfigError: It cannot be read, or holds a key twice or something else than keys.
    """
    fix = "check the path given with --config"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file", fix=fix) from error
    except OSError as error:
        what = "a folder, not a configuration file" if path.is_dir() else f"cannot be read ({error.strerror})"
        raise ConfigError(f"{path}: {what}", fix=fix) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error})", fix="save it as UTF-8") from error
    try:
        # JSON is YAML but for numbers such as 1e-05, which YAML 1.1 takes for text.
        if path.suffix == ".json":
            content = json.loads(text, object_pairs_hook=_unique_pairs)
        else:
            content = yaml.load(text, UniqueKeyLoader)  # a SafeLoader: it makes plain values only
    except _RepeatedKeyError as error:
        raise ConfigError(f"{path}: {error}", fix="keep one of them: the other would be lost") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: too many brackets or keys inside of each other", fix="correct it") from error
    except (yaml.YAMLError, ValueError) as error:
        where = f", line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        raise ConfigError(f"{path}{where}: not a YAML file ({str(error).splitlines()[0]})", fix="correct it") from error
    if content is not None and not isinstance(content, Mapping):
        raise ConfigError(
            f"{path}: expected keys such as `train:` at its top, found {type(content).__name__}",
            fix="see configs/default.yaml, or leave --config out",
        )
    return content or {}


@cache
def _note_once(line: str) -> None:
    """A command reads its file several times and says once what is old about it."""
    note(line)
