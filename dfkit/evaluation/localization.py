"""Where in a video the fake lies: intervals from frame curves, and their average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]
IOU_LIMITS = (0.5, 0.75)


@dataclass(frozen=True)
class Detection:
    """One stretch that is called fake."""

    video: str
    start_s: float
    end_s: float
    confidence: float
    """Mean p_fake within."""


def find_intervals(video: str, times_s: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> list[Detection]:
    """Runs of frames at or above the threshold.

    Args:
        video: Named in the result.
        times_s: (T,) rising, of the frames.
        p_fake: (T,).
        threshold: Fake from here on.
    Returns:
        Stretches in order of time. Each frame lasts until the next, at most as long as the shortest step; a gap
        between frames ends a run.
    """
    if not len(times_s):
        return []
    times = np.asarray(times_s, np.float64)
    step = float(np.diff(times).min()) if len(times) > 1 else 0.0
    called = np.asarray(p_fake) >= threshold
    breaks = np.flatnonzero((np.diff(called.astype(int)) != 0) | (np.diff(times) > 1.5 * step)) + 1
    return [
        Detection(video, float(times[run[0]]), float(times[run[-1]] + step), float(np.mean(np.asarray(p_fake)[run])))
        for run in np.split(np.arange(len(times)), breaks)
        if called[run[0]]
    ]


def temporal_iou(a: Interval, b: Interval) -> float:
    """Length of what two intervals share over the length of what they cover; 0 for two empty ones."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    covered = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / covered if covered > 0 else 0.0


def average_precision(
    detections: Sequence[Detection], truth: Mapping[str, Sequence[Interval]], *, min_iou: float
) -> float:
    """Area under the interpolated precision-recall curve of intervals.

    Args:
        detections: Of all videos; a video without true intervals takes part through its false alarms.
        truth: True intervals by video.
        min_iou: Least overlap at which a detection counts as right; each true interval is found once, by the
            most confident detection, and a second one is a false alarm.
    Returns:
        In [0, 1]; NaN without any true interval.
    Source: detection AP of ActivityNet (Caba Heilbron et al. 2015), interpolated at every recall as in
        PASCAL VOC 2010; LAV-DF and AV-Deepfake1M report it at these overlaps.
    """
    total = sum(len(own) for own in truth.values())
    if not total:
        return float("nan")
    found: dict[str, set[int]] = {}
    hits = []
    for detection in sorted(detections, key=lambda d: -d.confidence):
        own, used = truth.get(detection.video, ()), found.setdefault(detection.video, set())
        overlaps = [
            (temporal_iou((detection.start_s, detection.end_s), interval), place)
            for place, interval in enumerate(own)
            if place not in used
        ]
        best = max(overlaps, default=(0.0, -1))
        hits.append(best[0] >= min_iou and best[1] >= 0)
        if hits[-1]:
            used.add(best[1])
    right = np.cumsum(hits)
    precision = np.concatenate([right / np.arange(1, len(hits) + 1), [0.0]])
    # Precision at a recall is the best that any larger recall still has.
    best_ahead = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], right / total])
    return float((np.diff(recall) * best_ahead[:-1]).sum()) if hits else 0.0
