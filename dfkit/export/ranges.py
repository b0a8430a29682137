"""The clips that fix static INT8 ranges: real training clips of both classes, none that validation or test knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.data.catalog import group_names
from dfkit.data.label_words import LABEL_NAMES
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.export.graph import EncodeGraph
from dfkit.measures.spacing import evenly_spaced
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.whole_video import pool_steps

PICTURE_STEP = 10
"""Every n-th picture of a clip: neighbours differ little."""
NAMED_LEAKS = 3


@dataclass(frozen=True)
class CalibrationSet:
    """Chosen clips and where they come from."""

    clips: list[dict[str, np.ndarray]]
    """Inputs by dfkit's names; of `face` and `lip` every `PICTURE_STEP`-th picture."""
    facts: dict[str, Any]
    """For the manifest: names, classes and groups."""


def clip_arrays(record: ClipRecord, spec: ClipSpec) -> dict[str, np.ndarray]:
    """A stored clip as the runtime's inputs."""
    pictures = {"face": record.face, "lip": record.lip}
    if spec.preset == "clip2s":
        return pictures | {"pcm": record.waveform, "landmarks": record.landmarks}
    return pictures | {"mfcc": pool_steps(record.mfcc, spec.num_frames)}


def evenly(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices, spread over all of them."""
    if not indices:
        return []
    return [indices[place] for place in evenly_spaced(len(indices), count)]


def choose_clips(source: PreparedData, indices: Sequence[int], count: int) -> list[int]:
    """Clips of both classes, half of each as far as there are, spread over the videos.

    Raises:
        DataError: There are none, or all are of one class: ranges of real faces alone say nothing about fakes.
    """
    by_label = {label: [i for i in indices if source.clips[i].label == label] for label in LABEL_NAMES}
    lacking = [LABEL_NAMES[label] for label, found in by_label.items() if not found]
    if len(lacking) == len(by_label):
        raise DataError(
            f"{source.path}: the calibration set is empty: no labelled clip to choose from",
            fix="prepare labelled training videos, or name other data with --calibration",
        )
    if lacking:
        raise DataError(
            f"{source.path}: the calibration set has one class only, no {lacking[0]} clip",
            fix="add such videos, or name other data with --calibration",
        )
    share = max(1, count // len(by_label))
    return sorted(i for found in by_label.values() for i in evenly(found, share))


def refuse_leaks(source: PreparedData, chosen: Iterable[int], data: PreparedData, held_out: Iterable[int]) -> None:
    """Refuses a calibration set that shares a group or a file with validation or test.

    Args:
        source: Where the calibration clips come from; may be `data` itself.
        chosen: Its clips.
        data: What the student was trained and is judged on.
        held_out: Its validation and test clips.
    Raises:
        DataError: Names the files.
    """
    # Groups of both sets together: two data sets may name one person, or hold one file.
    rows = [*data.videos, *source.videos]
    names = group_names(rows)
    known = {names[data.clips[i].video_index] for i in held_out}
    videos = sorted({source.clips[i].video_index for i in chosen})
    leaking = [source.videos[v].name for v in videos if names[len(data.videos) + v] in known]
    if leaking:
        raise DataError(
            f"{len(leaking)} of {len(videos)} calibration videos share a person, a source or a file with validation "
            f"or test: {', '.join(leaking[:NAMED_LEAKS])}",
            fix="calibrate on training data: leave --calibration out, or name data of other persons",
        )


def calibration_set(
    network: MMMSBA,
    data: PreparedData,
    indices: dict[str, list[int]],
    count: int,
    *,
    source: PreparedData | None = None,
    with_features: bool = False,
) -> CalibrationSet:
    """Chooses, checks and reads the calibration clips.

    Args:
        network: The student.
        data: What it was trained on.
        indices: Clip indices of `train`, `val` and `test`.
        count: Clips wanted.
        source: Other prepared data to calibrate on; the training clips where None.
        with_features: Whether `score` is calibrated, too, on the features of each clip's pictures.
    Raises:
        DataError: The set is empty, has one class only, was prepared under another contract, or shares something
            with validation or test.
    """
    if source is not None and source.spec != data.spec:
        raise DataError(
            f"{source.path}: prepared under another clip contract than the student takes",
            fix="prepare the calibration videos with the same configuration",
        )
    wanted = indices["train"] if source is None else [key.index for key in source.clips]
    taken = data if source is None else source
    chosen = choose_clips(taken, wanted, count)
    refuse_leaks(taken, chosen, data, [*indices["val"], *indices["test"]])
    keys = [taken.clips[i] for i in chosen]
    names = [f"{Path(taken.videos[key.video_index].path).name}@{key.start_s:.2f}" for key in keys]
    facts = {
        "split": "train" if source is None else "other data",
        "num_clips": len(chosen),
        "num_fake": sum(key.label == 1 for key in keys),
        "clips": names,
        "groups": sorted({key.group for key in keys}),
    }
    clips = []
    for index in chosen:
        arrays = clip_arrays(taken[index], taken.spec)
        features = features_of(network, arrays) if with_features else {}
        clips.append({**arrays, **features} | {m: arrays[m][::PICTURE_STEP] for m in ("face", "lip")})
    return CalibrationSet(clips, facts)


def features_of(network: MMMSBA, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features of all of a clip's pictures, by dfkit's names."""
    encode = EncodeGraph(network).eval()
    with torch.no_grad():
        features = encode(*(torch.from_numpy(arrays[m]).float() / 255 for m in encode.modalities))
    return {f"{m}_features": value.numpy() for m, value in zip(encode.modalities, features, strict=True)}
