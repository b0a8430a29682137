"""The original's YAML as a dfkit configuration: every key is translated, noted as without effect, or refused.

Refused is what would change the outcome and cannot be done here; all such keys are named at once. What the
original itself reads and does not use is accepted and said aloud.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dfkit.clip import UNIFORM50
from dfkit.config import Config, explain
from dfkit.errors import ConfigError
from dfkit.original.rules import AUGMENTATIONS, MONITORS, OWN_SECTIONS, RULES, SECTIONS, RefusedError, Rule

SHARES = {"train_split": 0.7, "val_split": 0.15, "test_split": 0.15}
SHARE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Translation:
    """An original configuration in dfkit's words."""

    config: Config
    lines: tuple[str, ...]
    """What became of each key, for people."""


def is_original(content: Any) -> bool:
    """Whether a YAML's top-level keys are the original's: at least two of its sections, and none of dfkit's."""
    if not isinstance(content, Mapping):
        return False
    keys = set(content)
    return len(keys & set(SECTIONS)) >= 2 and not keys & set(OWN_SECTIONS)


def read_translation(path: Path) -> Translation | None:
    """The translation of an original YAML; None for any other file.

    Raises:
        ConfigError: As `translate`.
    """
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) if path.suffix != ".json" else None
    return translate(content, str(path)) if is_original(content) else None


def data_folder(config: Config) -> Path | None:
    """The data that a translated configuration names; None for dfkit's own ones."""
    content = config.train.save.config
    named = None if content is None else _get(content, "dataset.root_dir", _get(content, "paths.data_dir", None))
    return None if named is None else Path(str(named))


def translate(content: Mapping[str, Any], where: str) -> Translation:
    """Translates a configuration of the original.

    Args:
        content: The YAML as it was read.
        where: Names the file in messages.
    Returns:
        The experiment: clip level loss, preset `uniform50`, and checkpoints in the original's format as well.
    Raises:
        ConfigError: Lists every key that is unknown, has a value of another kind, or cannot be honoured.
    """
    work = _Work(content)
    for path, value in _leaves(content):
        work.take(path, value)
    work.training()
    work.shares()
    work.augmentation()
    if work.faults:
        listed = "\n".join(f"  {fault}" for fault in work.faults)
        raise ConfigError(f"{where}: {len(work.faults)} entries of the original's configuration are refused:\n{listed}")
    work.put("train.save.config", dict(content))
    work.put("distill.split", work.settings["train"].get("split", {}))
    try:
        config = Config.model_validate(work.settings)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: translated, {len(error.errors())} wrong values:\n{explain(error, Config)}"
        ) from error
    return Translation(config, tuple(work.lines))


def _leaves(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted path and value of each entry; a known path is a leaf whatever it holds."""
    found: list[tuple[str, Any]] = []
    for key, value in content.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and path not in RULES:
            found += _leaves(value, f"{path}.")
        else:
            found.append((path, value))
    return found


def _get(content: Mapping[str, Any], path: str, default: Any) -> Any:
    current: Any = content
    for part in path.split("."):
        if not isinstance(current, Mapping) or part not in current:
            return default
        current = current[part]
    return current


def _start() -> dict[str, Any]:
    """What the original does where its YAML says nothing, and what it has no key for."""
    return {
        "clip": UNIFORM50.model_dump(mode="json"),
        "train": {
            "batch_size": 16,
            "seed": 42,
            "loss": {"frame_weight": 0.0, "class_weights": None, "label_smoothing": 0.1},
            "optimizer": {"type": "adam", "warmup_share": 0.0},
            "schedule": {"type": "cosine", "min_learning_rate": 1e-5},
            "split": {"val_share": 0.15, "test_share": 0.15, "seed": 42},
            "save": {"format": "original"},
        },
    }


def _unknown(path: str) -> str:
    section, dot, _ = path.rpartition(".")
    if not dot:
        return f"unknown key; known sections: {', '.join(SECTIONS)}"
    depth = section.count(".") + 1
    known = sorted({name.split(".")[depth] for name in RULES if name.startswith(f"{section}.")})
    return f"unknown key; known here: {', '.join(known)}"


@dataclass
class _Work:
    """A translation under way."""

    content: Mapping[str, Any]
    settings: dict[str, Any] = field(default_factory=_start)
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def get(self, path: str, default: Any = None) -> Any:
        return _get(self.content, path, default)

    def put(self, path: str, value: Any) -> None:
        """Sets one of dfkit's keys."""
        *sections, last = path.split(".")
        current = self.settings
        for name in sections:
            current = current.setdefault(name, {})
        current[last] = value

    def say(self, path: str, text: str) -> None:
        self.lines.append(f"{path}: {text}")

    def refuse(self, path: str, text: str) -> None:
        self.faults.append(f"{path}: {text}")

    def take(self, path: str, value: Any) -> None:
        """One entry by its rule."""
        rule = RULES.get(path, RULES.get(f"{path.split('.', 1)[0]}.*"))
        if rule is None:
            inside = [name for name in RULES if name.startswith(f"{path}.")]
            if not (inside and value in ({}, None)):  # a section that is left empty
                self.refuse(path, _unknown(path))
            return
        try:
            self._apply(rule, path, value)
        except RefusedError as error:
            self.refuse(path, str(error))
        except (TypeError, ValueError):
            self.refuse(path, f"{value!r} is not a value of this key")

    def _apply(self, rule: Rule, path: str, value: Any) -> None:
        if rule.unused is not None:
            self.say(path, f"without effect: {rule.unused}")
            return
        if rule.allowed is not None:
            if value not in rule.allowed:
                raise RefusedError(f"{value!r} cannot be had: {rule.why}; has to be {rule.allowed[0]!r}")
            self.say(path, f"{value!r}, as it has to be")
            return
        converted = value if rule.convert is None else rule.convert(value)
        for target in rule.to:
            self.put(target, converted)
        if rule.to:
            self.say(path, f"-> {rule.to[0]} = {converted!r}{rule.remark}")

    def training(self) -> None:
        """Entries of `training` and `experiment` that mean something only together."""
        self._schedule()
        self._stopping()
        self._weights()
        self._machine()
        if not self.get("training.grad_clip.enabled", True):
            self.put("train.optimizer.max_norm", None)
            self.say("training.grad_clip.enabled", "train.optimizer.max_norm = None")

    def _schedule(self) -> None:
        path, epochs = "training.scheduler.T_max", self.get("training.epochs", 15)
        if self.get("training.scheduler.type", "cosine") != "cosine":
            return
        until = self.get(path, epochs)
        if isinstance(until, int) and isinstance(epochs, int) and until < epochs:
            self.refuse(
                path,
                f"{until} with {epochs} epochs: after T_max the original's rate rises again, dfkit's stays at the "
                f"floor. Fix: T_max: {epochs}",
            )
        self.put("train.schedule.cosine_epochs", until)
        self.say(path, "train.schedule.cosine_epochs; the rate falls with every step, not at the end of each epoch")

    def _stopping(self) -> None:
        stopping = "training.early_stopping"
        if self.get(f"{stopping}.enabled", False):
            self.put("train.patience", self.get(f"{stopping}.patience", 5))
            self.say(f"{stopping}.patience", "train.patience")
        watched = self.get("training.checkpoint.monitor", "val_acc")
        stops_by = self.get(f"{stopping}.monitor", watched)
        modes = [self.get(f"{section}.mode") for section in (stopping, "training.checkpoint")]
        if stops_by != watched:
            self.say(
                f"{stopping}.monitor",
                f"without effect: the original ignores it, too; stopping follows checkpoint.monitor ({watched})",
            )
        elif None not in modes and modes[0] != modes[1]:
            self.refuse(f"{stopping}.mode", f"{modes[0]!r}, and checkpoint.mode is {modes[1]!r} for the same metric")
        if self.get("training.checkpoint.monitor") is None:
            self.put("train.monitor", MONITORS["val_acc"])

    def _weights(self) -> None:
        given = self.get("training.class_weights")
        path = "training.class_weights"
        if self.get("training.use_weighted_loss", False):
            self.put("train.loss.class_weights", "balanced" if given is None else given)
            self.say("training.use_weighted_loss", f"train.loss.class_weights = {given or 'balanced'}")
        elif given is not None:
            self.say(path, "without effect: use_weighted_loss is false, so the original does not use them, either")

    def _machine(self) -> None:
        """Device, number of GPUs, precision: what they mean on this machine."""
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device, wanted = str(self.get("experiment.device", "auto")), self.get("experiment.num_gpus", 1)
        if device != "auto" and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            self.refuse("experiment.device", f"{device!r}: has to be cuda or cpu")
        on_cpu = device == "cpu" or wanted == 0
        self.put("train.accelerator", "cpu" if on_cpu else "auto")
        used = wanted if gpus and not on_cpu else 1
        batch = self.get("training.batch_size", 16)
        if not isinstance(wanted, int) or used > max(gpus, 1):
            self.refuse("experiment.num_gpus", f"{wanted!r}: this machine has {gpus}")
        elif isinstance(batch, int) and batch % used:
            self.refuse("experiment.num_gpus", f"{wanted}: batch_size {batch} cannot be shared out evenly")
        elif isinstance(batch, int):
            self.put("train.devices", used)
            self.put("train.batch_size", batch // used)
        self.say("experiment.device", f"{device}: " + ("the CPU" if on_cpu or not gpus else f"{used} GPU(s)"))
        if self.get("training.mixed_precision", False):
            mixed = bool(gpus) and not on_cpu
            self.put("train.precision", "bf16" if mixed else "fp32")
            reason = "bf16 in place of the original's fp16" if mixed else "it is for GPUs, and none is used"
            self.say("training.mixed_precision", f"train.precision = {'bf16' if mixed else 'fp32'}: {reason}")

    def shares(self) -> None:
        """The three parts; a split that stands in the index goes before them."""
        given = [self.get(f"dataset.{name}") for name in SHARES]
        if all(value is None for value in given):
            return
        numbers = [
            float(value) if value is not None else default
            for value, default in zip(given, SHARES.values(), strict=True)
        ]
        if abs(sum(numbers) - 1) > SHARE_TOLERANCE:
            self.refuse("dataset.train_split", f"{' + '.join(map(str, numbers))} is not 1")
        self.put("train.split.val_share", numbers[1])
        self.put("train.split.test_share", numbers[2])
        self.say("dataset.val_split", "train.split.val_share, where the index gives no split; the same for test_split")

    def augmentation(self) -> None:
        """Augmentations by their names; all of them are off where `enabled` is false."""
        base = "dataset.augmentation"
        if not self.get(f"{base}.enabled", False):
            if self.get(base) is not None:
                self.say(base, "without effect: enabled is false")
            return
        for name in ("video_aug", "audio_aug"):
            for number, entry in enumerate(self.get(f"{base}.{name}") or []):
                kind, values = _augmentation_entry(entry)
                self._augment(f"{base}.{name}[{number}]", name, kind, values)

    def _augment(self, path: str, family: str, kind: str, values: Mapping[str, Any]) -> None:
        known = AUGMENTATIONS[family]
        if kind not in known:
            self.refuse(path, f"unknown augmentation {kind!r}; known here: {', '.join(known)}")
            return
        target, keys = known[kind]
        for key, value in values.items():
            if key not in keys:
                self.refuse(f"{path}.{key}", f"unknown key; known here: {', '.join(keys)}")
            elif key == "codecs":
                if value not in (["h264"], "h264"):
                    self.refuse(f"{path}.codecs", f"{value!r}: dfkit re-encodes with H.264 alone. Fix: codecs: [h264]")
            elif target is not None:
                # One number is a range of no width.
                ranged = key in ("std", "crf", "snr_db") and isinstance(value, (int, float))
                self.put(f"train.augment.{target}.{key}", [value, value] if ranged else value)
        if target is None:
            self.say(
                f"{path} ({kind})",
                "without effect: NPZ files hold MFCC and no sound; the original ignores these values, too",
            )
        else:
            self.say(f"{path} ({kind})", f"train.augment.{target}")


def _augmentation_entry(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """`{type: noise, params: {...}}`, `{type: noise, std: ...}`, or `{noise: {...}}`."""
    if not isinstance(entry, Mapping):
        return str(entry), {}
    if "type" not in entry:
        (kind, values), *_ = entry.items()
        return str(kind), values if isinstance(values, Mapping) else {}
    values = entry.get("params", {key: value for key, value in entry.items() if key != "type"})
    return str(entry["type"]), values if isinstance(values, Mapping) else {}
