"""Predictions at frame, clip and video level, and their metrics: on all of them, by method and by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dfkit.evaluation.scores_file import ScoredVideo, ScoresFile
from dfkit.measures.bootstrap import REPEATS, Interval, group_bootstrap, rows_by_group
from dfkit.measures.decision import Aggregation, p_fake_of, video_margin
from dfkit.measures.finite import finite_or_none
from dfkit.measures.metrics import BinaryMetrics, auc, confusion, measure, measure_ranks

LEVELS = ("frame", "clip", "video")
BOOTSTRAP_BUDGET = 10_000_000
"""Predictions that one bootstrap may sort in all: long lists of frames get fewer resamples, at least `MIN_REPEATS`."""
MIN_REPEATS = 200
"""Fewest bootstrap resamples."""
NO_METHOD = "(no method given)"
MAX_MARGIN = 30.0
"""Of a foreign probability of 0 or 1, whose logit is infinite: p_fake of it is 1e-13 away from them."""


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
    """(N,) int, place of the video among the answered ones."""
    times_s: np.ndarray
    """(N,) time of a frame in seconds; NaN for clips and videos, and where the preset has no time grid."""
    scores: np.ndarray | None = None
    """(N,) of a foreign detector, as it gave them; None of dfkit's own."""
    calibrated: bool = True
    """Whether there are probabilities: without, only the order of `scores` means anything."""

    def p_fake(self, temperature: float) -> np.ndarray:
        """(N,) calibrated probabilities; of a foreign detector its scores as they are, probabilities or not."""
        return p_fake_of(self.logits, calibration_temperature=temperature) if self.scores is None else self.scores


@dataclass(frozen=True)
class LevelMetrics:
    """Metrics of one level, with an interval of its AUC and a breakdown by method and by group."""

    metrics: BinaryMetrics
    auc: Interval
    """AUC with its 95 % bootstrap interval over groups."""
    confusion: tuple[int, int, int, int] | None
    """True negatives, false positives, false negatives, true positives; positive is fake. None without a threshold."""
    by_method: dict[str, BinaryMetrics]
    """Fakes of one method against all real ones."""
    by_group: dict[str, BinaryMetrics]
    """Predictions of one group alone."""


def make_levels(scores: ScoresFile, *, fps: float | None) -> dict[str, Level]:
    """The levels of a scores file: `frame` and `clip` where it holds such answers, and `video`.

    Args:
        scores: At least one video with an answer.
        fps: Of the frames; None where they lie on no time grid.
    """
    videos = scores.answered
    if scores.scores != "logits":
        return {"video": _foreign_level(videos, calibrated=scores.scores == "p_fake")}
    aggregation = Aggregation() if scores.decision is None else scores.decision.aggregation
    frames = {"frame": frame_level(videos, fps=fps)} if videos[0].frames else {}
    return {
        **frames,
        "clip": clip_level(videos),
        "video": margin_level(videos, video_margins_of(videos, aggregation)),
    }


def video_margins_of(videos: Sequence[ScoredVideo], aggregation: Aggregation) -> np.ndarray:
    """Margin of each video by the rule of `dfkit.measures.decision`, (V,)."""
    return np.array([video_margin(video.clips.scores, aggregation) for video in videos if video.clips is not None])


def margin_level(videos: Sequence[ScoredVideo], margins: np.ndarray) -> Level:
    """The video level of some margins, (V,)."""
    labels = np.array([video.label for video in videos])
    # A margin is all that a video has: as logits, that of real is 0.
    logits = np.stack([np.zeros_like(margins), margins], axis=1)
    return _make_level(videos, "video", labels, logits, np.arange(len(videos)), np.full(len(videos), np.nan))


def _foreign_level(videos: Sequence[ScoredVideo], *, calibrated: bool) -> Level:
    values = np.array([video.score for video in videos], np.float64)
    margins = values
    if calibrated:
        edge = 1 / (1 + np.exp(MAX_MARGIN))
        inside = np.clip(values, edge, 1 - edge)
        margins = np.log(inside) - np.log1p(-inside)
    return replace(margin_level(videos, margins), scores=values, calibrated=calibrated)


def clip_level(videos: Sequence[ScoredVideo]) -> Level:
    """Every clip by itself."""
    columns = [video.clips for video in videos if video.clips is not None]
    labels = np.concatenate([clips.label for clips in columns])
    logits = np.concatenate([clips.scores.clip_logits for clips in columns])
    places = np.repeat(np.arange(len(videos)), [len(clips.label) for clips in columns])
    return _make_level(videos, "clip", labels, logits, places, np.full(len(labels), np.nan))


def frame_level(videos: Sequence[ScoredVideo], *, fps: float | None) -> Level:
    """Every frame that any clip covers, once.

    Args:
        videos: Of dfkit's own answers.
        fps: Of the frames; None where they lie on no time grid.
    """
    tracks = [(place, track) for place, video in enumerate(videos) for track in video.frames]
    margins = np.concatenate([np.array(track.margins, np.float64) for _, track in tracks])
    labels = np.concatenate([np.frombuffer(track.labels.encode(), np.uint8) for _, track in tracks]) - ord("0")
    numbers = np.concatenate([track.numbers for _, track in tracks])
    places = np.repeat([place for place, _ in tracks], [len(track.margins) for _, track in tracks])
    times_s = np.full(len(numbers), np.nan) if fps is None else numbers / fps
    logits = np.stack([np.zeros_like(margins), margins], axis=1)
    return _make_level(videos, "frame", labels.astype(np.int64), logits, places, times_s)


def _make_level(
    videos: Sequence[ScoredVideo],
    name: str,
    labels: np.ndarray,
    logits: np.ndarray,
    places: np.ndarray,
    times_s: np.ndarray,
) -> Level:
    """A level with the group and the method of each prediction's video."""
    group_of_video = np.array([video.group for video in videos])
    method_of_video = np.array([video.method or NO_METHOD for video in videos], dtype=object)
    methods = np.where(labels == 1, method_of_video[places], "").astype(str)
    return Level(name, labels, logits, group_of_video[places], methods, places, times_s)


def measure_level(level: Level, *, threshold: float, temperature: float) -> LevelMetrics:
    """Metrics of a level, with an interval for the AUC.

    Args:
        level: At least one prediction.
        threshold: On the calibrated p_fake, in [0, 1]; of scores that are no probabilities nothing is asked of it.
        temperature: Calibration temperature; > 0.
    """
    p_fake = level.p_fake(temperature)
    is_real = level.labels == 0

    def auc_of(places: np.ndarray) -> float:
        return auc(level.labels[places], p_fake[places])

    def metrics_of(mask: np.ndarray) -> BinaryMetrics:
        if not level.calibrated:
            return measure_ranks(level.labels[mask], p_fake[mask])
        return measure(level.labels[mask], p_fake[mask], threshold=threshold)

    repeats = int(np.clip(BOOTSTRAP_BUDGET // len(p_fake), MIN_REPEATS, REPEATS))
    methods = np.unique(level.methods[~is_real])
    return LevelMetrics(
        metrics=metrics_of(np.ones(len(p_fake), bool)),
        auc=group_bootstrap(level.groups.tolist(), auc_of, repeats=repeats),
        confusion=confusion(level.labels, p_fake, threshold=threshold) if level.calibrated else None,
        by_method={str(method): metrics_of(is_real | (level.methods == method)) for method in methods},
        by_group={str(group): metrics_of(level.groups == group) for group in np.unique(level.groups)},
    )


def interval_json(interval: Interval) -> dict[str, Any]:
    """Fields of an interval as plain values; NaN and infinity are None."""
    return {key: finite_or_none(value) for key, value in vars(interval).items()}


def level_metrics_json(level_metrics: LevelMetrics) -> dict[str, Any]:
    """One level's entry of `report.json`."""
    names = ("true_real", "false_alarms", "misses", "found_fakes")
    counts = level_metrics.confusion
    return {
        **level_metrics.metrics.to_json(),
        "auc_interval": interval_json(level_metrics.auc),
        "confusion": None if counts is None else dict(zip(names, counts, strict=True)),
        "by_method": {name: metrics.to_json() for name, metrics in level_metrics.by_method.items()},
        "by_group": {name: metrics.to_json() for name, metrics in level_metrics.by_group.items()},
    }


def video_curves(level: Level, p_fake: np.ndarray, videos: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Frame curve of each video: times and, where several faces are in view, the most suspicious one's p_fake.

    Args:
        level: The frame level.
        p_fake: (N,) in [0, 1], of its frames.
        videos: Places of the videos asked for; one without frames has no curve.
    Returns:
        By place: times in seconds, rising, and the highest p_fake at each, both (T,).
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
