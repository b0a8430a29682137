"""Answers at frame, clip and video level, and what is measured on them: whole, by method and by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfkit.benchmarks.bootstrap import REPEATS, Interval, group_bootstrap
from dfkit.benchmarks.metrics import BinaryMetrics, auc, confusion, measure
from dfkit.data.storage import PreparedData
from dfkit.distill.evaluate import ClipLogits, video_logits
from dfkit.runtime.results import p_fake_of

LEVELS = ("frame", "clip", "video")
SORTED_BUDGET = 10_000_000
"""Answers that a bootstrap may sort in all: long lists of frames get fewer resamples, never under the least."""
MIN_REPEATS = 200
NO_METHOD = "(no method given)"


@dataclass(frozen=True)
class Level:
    """Answers of one level."""

    name: str
    labels: np.ndarray
    """(N,) 0 or 1."""
    logits: np.ndarray
    """(N, 2)."""
    groups: np.ndarray
    """(N,) str."""
    methods: np.ndarray
    """(N,) str; empty for real ones."""
    videos: np.ndarray
    """(N,) index of the video."""
    times_s: np.ndarray
    """(N,) of a frame; NaN for clips and videos, and where the preset has no time grid."""


@dataclass(frozen=True)
class Measured:
    """All that is said of one level."""

    metrics: BinaryMetrics
    auc: Interval
    confusion: tuple[int, int, int, int]
    """True real, false alarms, misses, found fakes."""
    by_method: dict[str, BinaryMetrics]
    """Fakes of one method against all real ones."""
    by_group: dict[str, BinaryMetrics]


def make_levels(data: PreparedData, logits: ClipLogits, frame_labels: np.ndarray) -> dict[str, Level]:
    """Joins clip answers to frames and videos as the detector does: by mean of logits.

    Args:
        data: What the clips are from.
        logits: Of some of its clips; at least one.
        frame_labels: (N, T) of these clips.
    Returns:
        `frame`, `clip` and `video`.
    """
    clips = [data.clips[i] for i in logits.indices]
    owners = np.array([clip.video_index for clip in clips])
    videos, means = video_logits(data, logits)
    frame_video, frame_times, frame_truth, frame_logits = _join_frames(data, logits, frame_labels)
    video_labels = np.array([data.videos[v].label for v in videos])
    none = np.full(len(clips), np.nan)
    parts = {
        "frame": (frame_truth, frame_logits, frame_video, frame_times),
        "clip": (np.array([clip.label for clip in clips]), logits.clip, owners, none),
        "video": (video_labels, means, videos, np.full(len(videos), np.nan)),
    }
    return {
        name: Level(name, truth, values, _groups(data, own), _methods(data, own, truth), own, times)
        for name, (truth, values, own, times) in parts.items()
    }


def _groups(data: PreparedData, videos: np.ndarray) -> np.ndarray:
    return np.array([str(group) for group in data.groups])[videos]


def _methods(data: PreparedData, videos: np.ndarray, labels: np.ndarray) -> np.ndarray:
    names = np.array([row.method or NO_METHOD for row in data.videos], dtype=object)[videos]
    return np.where(labels == 1, names, "").astype(str)


def _join_frames(
    data: PreparedData, logits: ClipLogits, frame_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames that any clip covers: video, time, label and mean logits of each."""
    spec = data.spec
    clips = [data.clips[i] for i in logits.indices]
    steps = np.arange(logits.frame.shape[1])
    valid = steps[None] < np.array([clip.num_frames for clip in clips])[:, None]
    # Of uniform50 a clip is the video, and its frames are not on a grid of time.
    dense = spec.preset == "clip2s"
    starts = np.array([round(clip.start_s * spec.fps) if dense else 0 for clip in clips])
    places = np.stack(
        [
            np.broadcast_to(np.array([clip.video_index for clip in clips])[:, None], valid.shape)[valid],
            np.broadcast_to(np.array([clip.track_id for clip in clips])[:, None], valid.shape)[valid],
            (starts[:, None] + steps[None])[valid],
        ],
        axis=1,
    )
    unique, first, inverse = np.unique(places, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    sums = np.zeros((len(unique), 2))
    np.add.at(sums, inverse, logits.frame[valid])
    times_s = unique[:, 2] / spec.fps if dense else np.full(len(unique), np.nan)
    means = sums / np.bincount(inverse, minlength=len(unique))[:, None]
    return unique[:, 0], times_s, frame_labels[valid][first].astype(np.int64), means


def measure_level(level: Level, *, threshold: float, temperature: float) -> Measured:
    """Metrics of a level, with an interval for the AUC.

    Args:
        level: At least one answer.
        threshold: On the calibrated p_fake.
        temperature: Calibration temperature.
    """
    p_fake = p_fake_of(level.logits, calibration_temperature=temperature)
    repeats = int(np.clip(SORTED_BUDGET // len(p_fake), MIN_REPEATS, REPEATS))
    interval = group_bootstrap(level.groups.tolist(), lambda at: auc(level.labels[at], p_fake[at]), repeats=repeats)
    real = level.labels == 0
    by_method = {
        str(method): measure(level.labels[mask], p_fake[mask], threshold=threshold)
        for method in np.unique(level.methods[~real])
        for mask in [real | (level.methods == method)]
    }
    by_group = {
        str(group): measure(level.labels[mask], p_fake[mask], threshold=threshold)
        for group in np.unique(level.groups)
        for mask in [level.groups == group]
    }
    return Measured(
        measure(level.labels, p_fake, threshold=threshold),
        interval,
        confusion(level.labels, p_fake, threshold=threshold),
        by_method,
        by_group,
    )


def interval_json(interval: Interval) -> dict[str, Any]:
    """Fields of an interval, NaN as None."""
    return {key: no_nan(value) for key, value in vars(interval).items()}


def no_nan(value: Any) -> Any:
    """None for a float that JSON has no word for."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def measured_json(measured: Measured) -> dict[str, Any]:
    """JSON of a level."""
    names = ("true_real", "false_alarms", "misses", "found_fakes")
    return {
        **measured.metrics.to_json(),
        "auc_interval": interval_json(measured.auc),
        "confusion": dict(zip(names, measured.confusion, strict=True)),
        "by_method": {name: metrics.to_json() for name, metrics in measured.by_method.items()},
        "by_group": {name: metrics.to_json() for name, metrics in measured.by_group.items()},
    }


def video_curves(level: Level, p_fake: np.ndarray, videos: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Frame curve of each video: times and, where several faces are in view, the most suspicious one's p_fake.

    Args:
        level: Of frames.
        p_fake: (N,) of them.
        videos: Indices of the videos asked for.
    """
    curves = {}
    for video in videos:
        own = np.flatnonzero(level.videos == video)
        times, inverse = np.unique(level.times_s[own], return_inverse=True)
        highest = np.full(len(times), -np.inf)
        np.maximum.at(highest, inverse.reshape(-1), p_fake[own])
        curves[int(video)] = (times, highest)
    return curves
