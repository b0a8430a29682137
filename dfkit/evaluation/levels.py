"""Predictions at frame, clip and video level, and their metrics: on all of them, by method and by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfkit.data.storage import PreparedData
from dfkit.measures.bootstrap import REPEATS, Interval, group_bootstrap, rows_by_group
from dfkit.measures.decision import Aggregation, p_fake_of
from dfkit.measures.finite import finite_or_none
from dfkit.measures.metrics import BinaryMetrics, auc, confusion, measure
from dfkit.training.scoring import ClipLogits, video_margins

LEVELS = ("frame", "clip", "video")
BOOTSTRAP_BUDGET = 10_000_000
"""Predictions that one bootstrap may sort in all: long lists of frames get fewer resamples, at least `MIN_REPEATS`."""
MIN_REPEATS = 200
"""Fewest bootstrap resamples."""
NO_METHOD = "(no method given)"


@dataclass(frozen=True)
class Level:
    """Labelled predictions of one level. N frames, clips or videos."""

    name: str
    labels: np.ndarray
    """(N,) 0 or 1."""
    logits: np.ndarray
    """(N, 2), not calibrated; class 1 is fake."""
    groups: np.ndarray
    """(N,) str, group of the video."""
    methods: np.ndarray
    """(N,) str, manipulation method; empty for real ones."""
    videos: np.ndarray
    """(N,) int, index of the video in the prepared data."""
    times_s: np.ndarray
    """(N,) time of a frame in seconds; NaN for clips and videos, and where the preset has no time grid."""


@dataclass(frozen=True)
class LevelMetrics:
    """Metrics of one level, with an interval of its AUC and a breakdown by method and by group."""

    metrics: BinaryMetrics
    auc: Interval
    """AUC with its 95 % bootstrap interval over groups."""
    confusion: tuple[int, int, int, int]
    """True negatives, false positives, false negatives, true positives; positive is fake."""
    by_method: dict[str, BinaryMetrics]
    """Fakes of one method against all real ones."""
    by_group: dict[str, BinaryMetrics]
    """Predictions of one group alone."""


def make_levels(
    data: PreparedData, logits: ClipLogits, frame_labels: np.ndarray, aggregation: Aggregation
) -> dict[str, Level]:
    """Aggregates clip predictions to frames by mean of logits, to videos by the detector's rule.

    Args:
        data: Prepared data that the clips are from.
        logits: Of N of its clips; at least one.
        frame_labels: (N, T) int, 0 or 1, of these clips.
        aggregation: Of a track's clips.
    Returns:
        The levels `frame`, `clip` and `video`, by name.
    """
    return {
        "frame": _frame_level(data, logits, frame_labels),
        "clip": _clip_level(data, logits),
        "video": _video_level(data, logits, aggregation),
    }


def _video_level(data: PreparedData, logits: ClipLogits, aggregation: Aggregation) -> Level:
    videos, margins = video_margins(data, logits, aggregation)
    labels = np.array([data.videos[video].label for video in videos])
    # A margin is all that a video has: as logits, that of real is 0.
    video_logits = np.stack([np.zeros_like(margins), margins], axis=1)
    return _make_level(data, "video", labels, video_logits, videos, np.full(len(videos), np.nan))


def _clip_level(data: PreparedData, logits: ClipLogits) -> Level:
    clips = [data.clips[index] for index in logits.indices]
    labels = np.array([clip.label for clip in clips])
    videos = np.array([clip.video_index for clip in clips])
    return _make_level(data, "clip", labels, logits.clip, videos, np.full(len(clips), np.nan))


def _frame_level(data: PreparedData, logits: ClipLogits, frame_labels: np.ndarray) -> Level:
    """Every frame that any clip covers, once: a frame in several clips gets the mean of its logits."""
    spec = data.spec
    clips = [data.clips[index] for index in logits.indices]
    # Under uniform50 a clip is the whole video, and its frames lie on no time grid.
    has_time_grid = spec.preset == "clip2s"
    frame_offsets = np.arange(logits.frame.shape[1])
    num_frames = np.array([clip.num_frames for clip in clips])
    is_valid = frame_offsets[None, :] < num_frames[:, None]  # (N, T): the rest is padding
    first_frames = np.array([round(clip.start_s * spec.fps) if has_time_grid else 0 for clip in clips])
    frames_per_clip = is_valid.sum(axis=1)
    frame_keys = np.stack(
        [
            np.repeat([clip.video_index for clip in clips], frames_per_clip),
            np.repeat([clip.track_id for clip in clips], frames_per_clip),
            (first_frames[:, None] + frame_offsets[None, :])[is_valid],
        ],
        axis=1,
    )
    unique_keys, first_places, place_of_frame = np.unique(frame_keys, axis=0, return_index=True, return_inverse=True)
    place_of_frame = place_of_frame.reshape(-1)
    sums = np.zeros((len(unique_keys), 2))
    np.add.at(sums, place_of_frame, logits.frame[is_valid])
    counts = np.bincount(place_of_frame, minlength=len(unique_keys))
    means = sums / counts[:, None]
    labels = frame_labels[is_valid][first_places].astype(np.int64)
    videos, frame_numbers = unique_keys[:, 0], unique_keys[:, 2]
    times_s = frame_numbers / spec.fps if has_time_grid else np.full(len(unique_keys), np.nan)
    return _make_level(data, "frame", labels, means, videos, times_s)


def _make_level(
    data: PreparedData, name: str, labels: np.ndarray, logits: np.ndarray, videos: np.ndarray, times_s: np.ndarray
) -> Level:
    """A level with the group and the method of each prediction's video."""
    group_of_video = np.array([str(group) for group in data.groups])
    method_of_video = np.array([row.method or NO_METHOD for row in data.videos], dtype=object)
    methods = np.where(labels == 1, method_of_video[videos], "").astype(str)
    return Level(name, labels, logits, group_of_video[videos], methods, videos, times_s)


def measure_level(level: Level, *, threshold: float, temperature: float) -> LevelMetrics:
    """Metrics of a level, with an interval for the AUC.

    Args:
        level: At least one prediction.
        threshold: On the calibrated p_fake, in [0, 1].
        temperature: Calibration temperature; > 0.
    """
    p_fake = p_fake_of(level.logits, calibration_temperature=temperature)
    is_real = level.labels == 0

    def auc_of(places: np.ndarray) -> float:
        return auc(level.labels[places], p_fake[places])

    def metrics_of(mask: np.ndarray) -> BinaryMetrics:
        return measure(level.labels[mask], p_fake[mask], threshold=threshold)

    repeats = int(np.clip(BOOTSTRAP_BUDGET // len(p_fake), MIN_REPEATS, REPEATS))
    methods = np.unique(level.methods[~is_real])
    return LevelMetrics(
        metrics=measure(level.labels, p_fake, threshold=threshold),
        auc=group_bootstrap(level.groups.tolist(), auc_of, repeats=repeats),
        confusion=confusion(level.labels, p_fake, threshold=threshold),
        by_method={str(method): metrics_of(is_real | (level.methods == method)) for method in methods},
        by_group={str(group): metrics_of(level.groups == group) for group in np.unique(level.groups)},
    )


def interval_json(interval: Interval) -> dict[str, Any]:
    """Fields of an interval as plain values; NaN and infinity are None."""
    return {key: finite_or_none(value) for key, value in vars(interval).items()}


def level_metrics_json(level_metrics: LevelMetrics) -> dict[str, Any]:
    """One level's entry of `report.json`."""
    names = ("true_real", "false_alarms", "misses", "found_fakes")
    return {
        **level_metrics.metrics.to_json(),
        "auc_interval": interval_json(level_metrics.auc),
        "confusion": dict(zip(names, level_metrics.confusion, strict=True)),
        "by_method": {name: metrics.to_json() for name, metrics in level_metrics.by_method.items()},
        "by_group": {name: metrics.to_json() for name, metrics in level_metrics.by_group.items()},
    }


def video_curves(level: Level, p_fake: np.ndarray, videos: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Frame curve of each video: times and, where several faces are in view, the most suspicious one's p_fake.

    Args:
        level: The frame level.
        p_fake: (N,) in [0, 1], of its frames.
        videos: Indices of the videos asked for; one without frames has no curve.
    Returns:
        By video index: times in seconds, rising, and the highest p_fake at each, both (T,).
    """
    wanted, curves = set(videos), {}
    for frames in rows_by_group(level.videos):
        video = int(level.videos[frames[0]])
        if video not in wanted:
            continue
        times_s, place_of_frame = np.unique(level.times_s[frames], return_inverse=True)
        highest = np.full(len(times_s), -np.inf)
        np.maximum.at(highest, place_of_frame.reshape(-1), p_fake[frames])
        curves[video] = (times_s, highest)
    return curves
