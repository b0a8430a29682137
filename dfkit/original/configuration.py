"""Translates the original's YAML: every key is translated, noted as without effect, or refused.

A key is refused if it would change the outcome and dfkit cannot honour it; all such keys are named at once. Keys that
the original itself reads and does not use are accepted and noted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dfkit.clip import UNIFORM50
from dfkit.config import Config, explain
from dfkit.errors import ConfigError
from dfkit.original.rules import AUGMENTATIONS, MONITORS, OWN_SECTIONS, RULES, SECTIONS, RefusedError, Rule

SHARES = {"train_split": 0.7, "val_split": 0.15, "test_split": 0.15}
"""The original's keys of `dataset` and their defaults."""
SHARE_TOLERANCE = 1e-6
"""How far the sum of the shares may be from 1: rounding of decimals."""


@dataclass(frozen=True)
class Translation:
    """A translated configuration of the original."""

    config: Config
    lines: tuple[str, ...]
    """One line of text per key: what it was translated to, or why it has no effect."""


def is_original(content: Any) -> bool:
    """Whether a YAML's top-level keys are the original's: at least two of its sections, and none of dfkit's."""
    if not isinstance(content, Mapping):
        return False
    keys = set(content)
    return len(keys & set(SECTIONS)) >= 2 and not keys & set(OWN_SECTIONS)


def data_folder(config: Config) -> Path | None:
    """Folder of the data that a translated configuration names; None for dfkit's own configurations."""
    content = config.train.save.config
    if content is None:
        return None
    folder = _get(content, "dataset.root_dir", _get(content, "paths.data_dir", None))
    return None if folder is None else Path(str(folder))


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
    translator = _Translator(content)
    for path, value in _leaves(content):
        translator.translate_entry(path, value)
    translator.training()
    translator.shares()
    translator.augmentation()
    if translator.faults:
        listed = "\n".join(f"  {fault}" for fault in translator.faults)
        raise ConfigError(
            f"{where}: {len(translator.faults)} entries of the original's configuration are refused:\n{listed}"
        )
    translator.put("train.save.config", dict(content))
    try:
        config = Config.model_validate(translator.settings)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: translated, {len(error.errors())} wrong values:\n{explain(error, Config)}"
        ) from error
    return Translation(config, tuple(translator.lines))


def _leaves(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted path and value of each entry; a known path is a leaf whatever it holds."""
    leaves: list[tuple[str, Any]] = []
    for key, value in content.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and path not in RULES:
            leaves += _leaves(value, f"{path}.")
        else:
            leaves.append((path, value))
    return leaves


def _get(content: Mapping[str, Any], path: str, default: Any) -> Any:
    current: Any = content
    for part in path.split("."):
        if not isinstance(current, Mapping) or part not in current:
            return default
        current = current[part]
    return current


def _original_defaults() -> dict[str, Any]:
    """dfkit's settings for the original's defaults, and for behaviour that its YAML has no key for."""
    return {
        "clip": UNIFORM50.model_dump(mode="json"),
        "train": {
            "batch_size": 16,
            "seed": 42,
            "loss": {"frame_weight": 0.0, "class_weights": None, "label_smoothing": 0.1},
            "optimizer": {"type": "adam", "warmup_share": 0.0},
            "schedule": {"type": "cosine", "min_learning_rate": 1e-5},
            "face_trunk": "mmms_ba",
            "standardised_start": False,
            "clip_statistics": False,
            "modalities": ["audio", "face", "lip"],
            "augment": {},
            "sampling": {"type": "shuffled"},
            "save": {"format": "original"},
        },
        "split": {"val_share": 0.15, "test_share": 0.15, "seed": 42, "refit": False},
    }


def _unknown_key(path: str) -> str:
    section, dot, _ = path.rpartition(".")
    if not dot:
        return f"unknown key; known sections: {', '.join(SECTIONS)}"
    depth = section.count(".") + 1
    known = sorted({name.split(".")[depth] for name in RULES if name.startswith(f"{section}.")})
    return f"unknown key; known here: {', '.join(known)}"


@dataclass
class _Translator:
    """Collects dfkit's settings while the entries of a YAML are translated one after the other."""

    content: Mapping[str, Any]
    """The original's YAML."""
    settings: dict[str, Any] = field(default_factory=_original_defaults)
    """Content of dfkit's configuration so far."""
    lines: list[str] = field(default_factory=list)
    """One line of text per translated or ignored key."""
    faults: list[str] = field(default_factory=list)
    """One line of text per refused key."""

    def get(self, path: str, default: Any = None) -> Any:
        """The original's value of a dotted key."""
        return _get(self.content, path, default)

    def put(self, path: str, value: Any) -> None:
        """Sets one of dfkit's dotted keys."""
        *sections, last = path.split(".")
        current = self.settings
        for name in sections:
            current = current.setdefault(name, {})
        current[last] = value

    def note(self, path: str, text: str) -> None:
        """Notes what a key was translated to, or why it has no effect."""
        self.lines.append(f"{path}: {text}")

    def refuse(self, path: str, text: str) -> None:
        """Notes why a key is refused."""
        self.faults.append(f"{path}: {text}")

    def translate_entry(self, path: str, value: Any) -> None:
        """Translates one entry by its rule, or refuses it."""
        rule = RULES.get(path, RULES.get(f"{path.split('.', 1)[0]}.*"))
        if rule is None:
            inside = [name for name in RULES if name.startswith(f"{path}.")]
            if not (inside and value in ({}, None)):  # a section that is left empty
                self.refuse(path, _unknown_key(path))
            return
        try:
            self._apply(rule, path, value)
        except RefusedError as error:
            self.refuse(path, str(error))
        except (TypeError, ValueError):
            self.refuse(path, f"{value!r} is not a value of this key")

    def _apply(self, rule: Rule, path: str, value: Any) -> None:
        if rule.ignored_reason is not None:
            self.note(path, f"without effect: {rule.ignored_reason}")
            return
        if rule.allowed is not None:
            if value not in rule.allowed:
                raise RefusedError(f"{value!r} cannot be had: {rule.allowed_reason}; has to be {rule.allowed[0]!r}")
            self.note(path, f"{value!r}, as it has to be")
            return
        converted = value if rule.convert is None else rule.convert(value)
        for target in rule.targets:
            self.put(target, converted)
        if rule.targets:
            self.note(path, f"-> {rule.targets[0]} = {converted!r}{rule.remark}")

    def training(self) -> None:
        """Translates entries of `training` and `experiment` that have to be read together."""
        self._schedule()
        self._stopping()
        self._weights()
        self._machine()
        if not self.get("training.grad_clip.enabled", True):
            self.put("train.optimizer.max_norm", None)
            self.note("training.grad_clip.enabled", "train.optimizer.max_norm = None")

    def _schedule(self) -> None:
        path = "training.scheduler.T_max"
        epochs = self.get("training.epochs", 15)
        if self.get("training.scheduler.type", "cosine") != "cosine":
            return
        cosine_epochs = self.get(path, epochs)
        if isinstance(cosine_epochs, int) and isinstance(epochs, int) and cosine_epochs < epochs:
            self.refuse(
                path,
                f"{cosine_epochs} with {epochs} epochs: after T_max the original's rate rises again, dfkit's stays "
                f"at the floor. Fix: T_max: {epochs}",
            )
        self.put("train.schedule.cosine_epochs", cosine_epochs)
        self.note(path, "train.schedule.cosine_epochs; the rate falls with every step, not at the end of each epoch")

    def _stopping(self) -> None:
        stopping = "training.early_stopping"
        if self.get(f"{stopping}.enabled", False):
            self.put("train.patience", self.get(f"{stopping}.patience", 5))
            self.note(f"{stopping}.patience", "train.patience")
        checkpoint_monitor = self.get("training.checkpoint.monitor", "val_acc")
        stopping_monitor = self.get(f"{stopping}.monitor", checkpoint_monitor)
        stopping_mode = self.get(f"{stopping}.mode")
        checkpoint_mode = self.get("training.checkpoint.mode")
        if stopping_monitor != checkpoint_monitor:
            self.note(
                f"{stopping}.monitor",
                "without effect: the original ignores it, too; stopping follows checkpoint.monitor "
                f"({checkpoint_monitor})",
            )
        elif stopping_mode is not None and checkpoint_mode is not None and stopping_mode != checkpoint_mode:
            self.refuse(
                f"{stopping}.mode", f"{stopping_mode!r}, and checkpoint.mode is {checkpoint_mode!r} for the same metric"
            )
        if self.get("training.checkpoint.monitor") is None:
            self.put("train.monitor", MONITORS["val_acc"])

    def _weights(self) -> None:
        path = "training.class_weights"
        class_weights = self.get(path)
        if self.get("training.use_weighted_loss", False):
            self.put("train.loss.class_weights", "balanced" if class_weights is None else class_weights)
            self.note("training.use_weighted_loss", f"train.loss.class_weights = {class_weights or 'balanced'}")
        elif class_weights is not None:
            self.note(path, "without effect: use_weighted_loss is false, so the original does not use them, either")

    def _machine(self) -> None:
        """Translates device, number of GPUs and precision for this machine."""
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = str(self.get("experiment.device", "auto"))
        wanted_gpus = self.get("experiment.num_gpus", 1)
        if device != "auto" and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            self.refuse("experiment.device", f"{device!r}: has to be cuda or cpu")
        wants_cpu = device == "cpu" or wanted_gpus == 0
        self.put("train.accelerator", "cpu" if wants_cpu else "auto")
        uses_gpu = bool(gpus) and not wants_cpu
        num_devices = wanted_gpus if uses_gpu else 1
        batch_size = self.get("training.batch_size", 16)
        if not isinstance(wanted_gpus, int) or num_devices > max(gpus, 1):
            self.refuse("experiment.num_gpus", f"{wanted_gpus!r}: this machine has {gpus}")
        elif isinstance(batch_size, int) and batch_size % num_devices:
            self.refuse("experiment.num_gpus", f"{wanted_gpus}: batch_size {batch_size} cannot be shared out evenly")
        elif isinstance(batch_size, int):
            self.put("train.devices", num_devices)
            self.put("train.batch_size", batch_size // num_devices)
        self.note("experiment.device", f"{device}: {f'{num_devices} GPU(s)' if uses_gpu else 'the CPU'}")
        if self.get("training.mixed_precision", False):
            precision = "bf16" if uses_gpu else "fp32"
            reason = "bf16 in place of the original's fp16" if uses_gpu else "it is for GPUs, and none is used"
            self.put("train.precision", precision)
            self.note("training.mixed_precision", f"train.precision = {precision}: {reason}")

    def shares(self) -> None:
        """Translates the shares of the splits; a split in the NPZ index has precedence over them."""
        if all(self.get(f"dataset.{name}") is None for name in SHARES):
            return
        shares = dict(SHARES)
        for name in SHARES:
            value = self.get(f"dataset.{name}")
            if value is not None:
                shares[name] = float(value)
        if abs(sum(shares.values()) - 1) > SHARE_TOLERANCE:
            self.refuse("dataset.train_split", f"{' + '.join(str(share) for share in shares.values())} is not 1")
        self.put("split.val_share", shares["val_split"])
        self.put("split.test_share", shares["test_split"])
        self.note("dataset.val_split", "split.val_share, where the index gives no split; the same for test_split")

    def augmentation(self) -> None:
        """Translates the augmentations; all of them are off where `enabled` is false."""
        base = "dataset.augmentation"
        if not self.get(f"{base}.enabled", False):
            if self.get(base) is not None:
                self.note(base, "without effect: enabled is false")
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
                # Where dfkit takes a range, a single number is one of no width.
                is_single = key in ("std", "crf", "snr_db") and isinstance(value, (int, float))
                self.put(f"train.augment.{target}.{key}", [value, value] if is_single else value)
        if target is None:
            self.note(
                f"{path} ({kind})",
                "without effect: NPZ files hold MFCC and no sound; the original ignores these values, too",
            )
        else:
            self.note(f"{path} ({kind})", f"train.augment.{target}")


def _augmentation_entry(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """Type and values of `{type: noise, params: {...}}`, `{type: noise, std: ...}`, or `{noise: {...}}`."""
    if not isinstance(entry, Mapping):
        return str(entry), {}
    if "type" not in entry:
        (kind, values), *_ = entry.items()
        return str(kind), values if isinstance(values, Mapping) else {}
    values = entry.get("params", {key: value for key, value in entry.items() if key != "type"})
    return str(entry["type"]), values if isinstance(values, Mapping) else {}
