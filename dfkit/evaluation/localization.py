"""Temporal localization: fake intervals from frame curves, and their average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TimeInterval = tuple[float, float]
"""Start and end in seconds."""
IOU_LIMITS = (0.5, 0.75)
"""Least overlaps at which a detection counts as right."""


@dataclass(frozen=True)
class Detection:
    """One interval that is called fake."""

    video: str
    """Names the video."""
    start_s: float
    end_s: float
    confidence: float
    """Mean p_fake of its frames."""


def find_intervals(video: str, times_s: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> list[Detection]:
    """Runs of frames at or above the threshold.

    Args:
        video: Named in the result.
        times_s: (T,) of the frames in seconds, rising.
        p_fake: (T,) in [0, 1].
        threshold: A frame is fake from it on.
    Returns:
        Intervals in order of time. Each frame lasts until the next, at most as long as the shortest step; a gap
        between frames ends a run.
    """
    if not len(times_s):
        return []
    times = np.asarray(times_s, np.float64)
    step = float(np.diff(times).min()) if len(times) > 1 else 0.0
    scores = np.asarray(p_fake)
    is_fake = scores >= threshold
    changes_class = np.diff(is_fake.astype(int)) != 0
    follows_gap = np.diff(times) > 1.5 * step
    run_starts = np.flatnonzero(changes_class | follows_gap) + 1
    detections = []
    for run in np.split(np.arange(len(times)), run_starts):
        if is_fake[run[0]]:
            start_s, end_s = float(times[run[0]]), float(times[run[-1]] + step)
            detections.append(Detection(video, start_s, end_s, confidence=float(np.mean(scores[run]))))
    return detections


def temporal_iou(a: TimeInterval, b: TimeInterval) -> float:
    """Intersection over union of two time intervals, in [0, 1]; 0 for two empty ones."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    covered = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / covered if covered > 0 else 0.0


def average_precision(
    detections: Sequence[Detection], truth: Mapping[str, Sequence[TimeInterval]], *, min_iou: float
) -> float:
    """Area under the interpolated precision-recall curve of intervals.

    Args:
        detections: Of all videos; a video without true intervals counts through its false positives.
        truth: True intervals by video.
        min_iou: Least overlap at which a detection counts as right; each true interval is found once, by the
            most confident detection, and a second one is a false positive.
    Returns:
        In [0, 1]; NaN without any true interval.
    Source: detection AP of ActivityNet (Caba Heilbron et al. 2015), interpolated at every recall as in
        PASCAL VOC 2010; LAV-DF and AV-Deepfake1M report it at these overlaps.
    """
    num_true = sum(len(intervals) for intervals in truth.values())
    if not num_true:
        return float("nan")
    if not detections:
        return 0.0
    found: dict[str, set[int]] = {}
    is_hit = []
    for detection in sorted(detections, key=lambda d: -d.confidence):
        found_in_video = found.setdefault(detection.video, set())
        best_iou, best_place = _best_match(detection, truth.get(detection.video, ()), found_in_video)
        is_hit.append(best_iou >= min_iou and best_place >= 0)
        if is_hit[-1]:
            found_in_video.add(best_place)
    true_positives = np.cumsum(is_hit)
    precision = np.concatenate([true_positives / np.arange(1, len(is_hit) + 1), [0.0]])
    recall = np.concatenate([[0.0], true_positives / num_true])
    # Interpolated: precision at a recall is the best that any larger recall still has.
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * interpolated[:-1]).sum())


def _best_match(detection: Detection, intervals: Sequence[TimeInterval], taken: set[int]) -> tuple[float, int]:
    """Highest overlap with a true interval that is not found yet, and the interval's place; (0, -1) without any."""
    detected = (detection.start_s, detection.end_s)
    overlaps = [
        (temporal_iou(detected, interval), place) for place, interval in enumerate(intervals) if place not in taken
    ]
    return max(overlaps, default=(0.0, -1))
