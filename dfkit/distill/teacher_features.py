"""The teacher's features on the training clips: computed once, kept in the run's folder while it is trained.

A file and not memory: at the original's widths a clip takes 68 kB as float16, so 100,000 clips 6.8 GB. Kept and not
computed with every batch: the teacher's forward pass takes about as long as the student's whole step.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dfkit.config import DistillConfig
from dfkit.data.datasets import ClipDataset
from dfkit.data.storage import PreparedData
from dfkit.errors import CheckpointError, ConfigError
from dfkit.files import read_json_object, whole_file, write_atomically
from dfkit.models.checkpoint import Checkpoint
from dfkit.models.mmms_ba import NetworkSpec
from dfkit.training.fit import compute_device
from dfkit.training.hints import STORED_TYPE, TeacherFeatures, hint_names
from dfkit.training.loaders import clip_loader
from dfkit.training.objective import Batch, on_device_of
from dfkit.training.samplers import FixedOrder
from dfkit.training.task import ClipNetwork, pool_audio_to_frames

ROWS_FILE, FACTS_FILE = "teacher_features.f16", "teacher_features.json"
MAX_FLOAT16 = float(np.finfo(np.float16).max)


def refuse_unmatchable(teacher: NetworkSpec, section: DistillConfig, *, views: str | None) -> None:
    """Refuses to match features or maps that cannot be matched.

    Args:
        teacher: Its architecture.
        section: Weights of the terms.
        views: Presets of teacher and student where these differ, else None.
    Raises:
        ConfigError: Teacher and student see different views, or the teacher has no attention.
    """
    weights = {name: getattr(section, name) for name in ("feature_weight", "attention_weight")}
    named = " and ".join(f"distill.{name} {value:g}" for name, value in weights.items() if value)
    if named and views is not None:
        raise ConfigError(
            f"{named}: teacher and student see different views ({views}), so no step of one is a step of the other",
            fix="leave them at 0: logits are distilled per video; or train a teacher on the student's preset",
        )
    if section.attention_weight and teacher.attention == "none":
        raise ConfigError(
            f"distill.attention_weight {section.attention_weight:g}: the teacher has no attention (attention: none)",
            fix="set distill.attention_weight to 0",
        )


def teacher_features(
    teacher: Checkpoint, data: PreparedData, clips: list[int], section: DistillConfig, folder: Path
) -> TeacherFeatures:
    """The teacher's features on some clips, without augmentation; those of an interrupted run are taken again.

    Args:
        teacher: Of the data's preset.
        data: What the teacher sees: the student's clips, at the teacher's size.
        clips: Their indices.
        section: Weights of the terms, batch size, loader processes and device.
        folder: Of the run; gets the two files.
    Raises:
        CheckpointError: A feature is no number, or larger than float16 holds.
        OSError: The disk is full.
    """
    names = hint_names(teacher.network.spec, section)
    dataset = ClipDataset(data, sorted(clips))
    found = _stored_features(folder)
    if found is not None and (found.clips, tuple(found.widths)) == (tuple(dataset.indices), names):
        return found
    model = ClipNetwork(teacher.network, teacher.clip_spec).to(compute_device(section)).eval()
    statistics = {name: _ChannelStatistics() for name in names}
    with whole_file(folder / ROWS_FILE) as temporary, temporary.open("wb") as file:
        for batch in clip_loader(dataset, section, FixedOrder(len(dataset))):
            layers, valid = _layers(model, batch, names)
            for name, values in layers.items():
                _refuse_unstorable(values, name, teacher.path)
                statistics[name].add(values[valid])
            file.write(_as_rows(layers, model.spec.num_frames))
    model.to("cpu")
    features = TeacherFeatures(
        path=folder / ROWS_FILE,
        clips=tuple(dataset.indices),
        num_frames=model.spec.num_frames,
        widths={name: len(each.mean()) for name, each in statistics.items()},
        means={name: each.mean().tolist() for name, each in statistics.items()},
        variances={name: each.variance() for name, each in statistics.items()},
    )
    facts = {name: value for name, value in vars(features).items() if name != "path"}
    write_atomically(folder / FACTS_FILE, json.dumps(facts))
    return features


def remove_features(folder: Path) -> None:
    """Removes the features of a run that is finished."""
    for name in (FACTS_FILE, ROWS_FILE):
        (folder / name).unlink(missing_ok=True)


def _stored_features(folder: Path) -> TeacherFeatures | None:
    """What an interrupted run left, if it is whole: the facts are written last."""
    facts = read_json_object(folder / FACTS_FILE)
    rows = folder / ROWS_FILE
    if facts is None or not rows.is_file():
        return None
    features = TeacherFeatures(path=rows, **{**facts, "clips": tuple(facts["clips"])})
    whole = rows.stat().st_size == features.row_bytes * len(features.clips)
    return features if whole else None


class _ChannelStatistics:
    """Mean and variance of a layer's channels over the steps of all batches."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, steps: Tensor) -> None:
        """Counts steps, (N, C)."""
        values = steps.double()
        self.count += len(values)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + values.square().sum(0)

    def mean(self) -> Tensor:
        """(C,) float64."""
        return torch.as_tensor(self.total) / max(self.count, 1)

    def variance(self) -> float:
        """Mean over the channels."""
        squares = torch.as_tensor(self.squares) / max(self.count, 1)
        return float((squares - self.mean().square()).clamp(min=0).mean())


@torch.no_grad()
def _layers(model: ClipNetwork, batch: Batch, names: tuple[str, ...]) -> tuple[dict[str, Tensor], Tensor]:
    """Features by layer, (B, T, C) on the CPU, and which steps are valid, (B, T) bool.

    Under `uniform50` sound has steps of its own: they are averaged onto the pictures, as the student's sound is.
    """
    on_device = on_device_of(model, batch)
    output = model(on_device)
    layers = {name: output.features[name] for name in names}
    frames = batch.get("frame_mask", torch.ones(output.frame_logits.shape[:2], dtype=torch.bool))
    if "audio_dense" in layers and "audio_mask" in on_device:
        sound, mask = layers["audio_dense"], on_device["audio_mask"]
        layers["audio_dense"] = pool_audio_to_frames(sound, mask, frames.to(mask.device))
    return {name: value.float().cpu() for name, value in layers.items()}, frames


def _refuse_unstorable(values: Tensor, name: str, teacher: Path) -> None:
    largest = float(values.abs().max())
    if not largest <= MAX_FLOAT16:
        raise CheckpointError(
            f"{teacher}: its features {name} reach {largest:g}, more than float16 holds",
            fix="set distill.feature_weight and distill.attention_weight to 0",
        )


def _as_rows(layers: dict[str, Tensor], num_frames: int) -> bytes:
    """A row per clip, short clips padded with zeros."""
    padded = [F.pad(value, (0, 0, 0, num_frames - value.shape[1])).flatten(1) for value in layers.values()]
    return torch.cat(padded, dim=1).numpy().astype(STORED_TYPE).tobytes()
