"""What the small model decides: INT8 against FP32 clip by clip, student against teacher video by video.

Reads `logits.jsonl` that the export leaves beside a bundle, so that nothing here needs torch. Decisions are
those of the shipped detector: a clip is fake where its calibrated p_fake reaches the threshold. Student and
teacher are compared with both at p_fake >= 0.5, since the teacher has no operating point of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from dfkit.benchmarks.bootstrap import Interval, group_bootstrap
from dfkit.benchmarks.gates import MARGIN, MAX_FLIP_SHARE, MIN_GROUPS, MIN_VIDEOS
from dfkit.benchmarks.metrics import BinaryMetrics, accuracy, auc, measure
from dfkit.errors import DataError
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.results import p_fake_of

LOGITS_FILE = "logits.jsonl"
EVEN_THRESHOLD = 0.5
Pair = tuple[float, float]


class LogitsRow(BaseModel, frozen=True, extra="ignore"):
    """One clip: whose it is, and what each model said of it."""

    video: str
    group: str
    label: int
    """Of the video: 0 real, 1 fake."""
    clip_start_s: float | None = None
    track_id: int = 0
    """Which of the video's faces."""
    split: str
    method: str = ""
    teacher: Pair | None = None
    """Logits, as are the next; a teacher that sees whole videos repeats its answer."""
    student_fp32: Pair | None = None
    student_int8: Pair | None = None


@dataclass(frozen=True)
class Parity:
    """INT8 against FP32, per clip."""

    num_clips: int
    num_flips: int
    num_flips_above_margin: int
    max_flips: int
    """Flips that are let pass: max(1, 1 %)."""
    max_p_change: float
    """Largest change of p_fake; NaN where an answer is not finite."""
    mean_p_change: float
    max_logit_change: float
    points: tuple[Pair, ...]
    """p_fake of FP32 and of INT8 of each clip."""


@dataclass(frozen=True)
class VideoScores:
    """Both models' answers for the videos that both have answered."""

    videos: tuple[str, ...]
    groups: tuple[str, ...]
    labels: np.ndarray
    """(N,) 0 or 1."""
    methods: tuple[str, ...]
    teacher: np.ndarray
    """(N,) p_fake."""
    student: np.ndarray
    """(N,) p_fake, calibrated."""
    num_left_out: int
    """Videos of the split without an answer of both."""


@dataclass(frozen=True)
class Comparison:
    """Student against teacher on videos that neither was trained or tuned on."""

    scores: VideoScores
    split: str
    teacher: BinaryMetrics
    student: BinaryMetrics
    student_shipped: BinaryMetrics
    """At the bundle's threshold."""
    accuracy_drop_points: Interval
    """Teacher's accuracy less student's, in percentage points; the gate takes the upper end."""
    auc_ratio: Interval
    """Student's AUC over teacher's; the gate takes the lower end."""
    not_judged: str | None
    """Why the data do not suffice."""


def read_logits(path: Path) -> list[LogitsRow]:
    """Reads a logits file.

    Args:
        path: JSON lines.
    Returns:
        Its rows; empty where there is no such file.
    Raises:
        DataError: A line is no such row; its number is named.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = LogitsRow.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError) as error:
            first = str(error).splitlines()
            raise DataError(f"{path}, line {number}: {' '.join(first[1:3]) or first[0]}", fix="export again") from error
        if row.label not in {0, 1}:
            raise DataError(f"{path}, line {number}: label {row.label}, expected 0 or 1", fix="export again")
        rows.append(row)
    return rows


def compare_precisions(rows: Sequence[LogitsRow], manifest: Manifest) -> Parity | None:
    """Holds INT8 against FP32 on every clip that both have answered, of all splits.

    Args:
        rows: From `read_logits`.
        manifest: Calibration and threshold.
    Returns:
        The differences, or None without such a clip.
    """
    pairs = [(r.student_fp32, r.student_int8) for r in rows if r.student_fp32 and r.student_int8]
    if not pairs:
        return None
    fp32, int8 = (np.array([pair[side] for pair in pairs], np.float64) for side in (0, 1))
    temperature = manifest.calibration.calibration_temperature
    p_fp32, p_int8 = (p_fake_of(v, calibration_temperature=temperature) for v in (fp32, int8))
    threshold = manifest.operating_point.threshold
    flipped = (p_fp32 >= threshold) != (p_int8 >= threshold)
    margin = np.abs(fp32[:, 1] - fp32[:, 0] - temperature * logit_of(threshold))
    return Parity(
        num_clips=len(pairs),
        num_flips=int(flipped.sum()),
        num_flips_above_margin=int((flipped & (margin > MARGIN)).sum()),
        max_flips=max(1, int(MAX_FLIP_SHARE * len(pairs))),
        max_p_change=float(np.abs(p_fp32 - p_int8).max()),
        mean_p_change=float(np.abs(p_fp32 - p_int8).mean()),
        max_logit_change=float(np.abs(fp32 - int8).max()),
        points=tuple((float(a), float(b)) for a, b in zip(p_fp32, p_int8, strict=True)),
    )


def logit_of(probability: float) -> float:
    """Difference of logits at which softmax gives a probability; infinite at 0 and 1."""
    if probability <= 0:
        return -math.inf
    return math.inf if probability >= 1 else math.log(probability / (1 - probability))


def join_videos(rows: Sequence[LogitsRow], *, calibration_temperature: float) -> VideoScores:
    """Joins clips to videos as the detector does: mean of logits per track, then the most suspicious track.

    Args:
        rows: Of one split.
        calibration_temperature: The student's; the teacher's is 1.
    Returns:
        The videos that teacher and INT8 student have answered, in order of name.
    """
    by_video: dict[str, list[LogitsRow]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    kept, teacher, student = [], [], []
    for video in sorted(by_video):
        own = by_video[video]
        said = [
            [(r.track_id, r.teacher) for r in own if r.teacher],
            [(r.track_id, r.student_int8) for r in own if r.student_int8],
        ]
        if all(said):
            kept.append(own[0])
            teacher.append(most_suspicious(said[0]))
            student.append(most_suspicious(said[1]))
    return VideoScores(
        videos=tuple(row.video for row in kept),
        groups=tuple(row.group for row in kept),
        labels=np.array([row.label for row in kept], int),
        methods=tuple(row.method for row in kept),
        teacher=p_fake_of(np.array(teacher).reshape(-1, 2), calibration_temperature=1.0),
        student=p_fake_of(np.array(student).reshape(-1, 2), calibration_temperature=calibration_temperature),
        num_left_out=len(by_video) - len(kept),
    )


def most_suspicious(clips: Sequence[tuple[int, Pair]]) -> np.ndarray:
    """Logits (2,) of the track that looks most like a fake, each the mean over its clips.

    Args:
        clips: Track and logits of each clip of one video; at least one.
    """
    tracks: dict[int, list[Pair]] = {}
    for track_id, logits in clips:
        tracks.setdefault(track_id, []).append(logits)
    means = [np.mean(logits, axis=0) for logits in tracks.values()]
    return max(means, key=lambda logits: float(logits[1] - logits[0]))


def compare_with_teacher(rows: Sequence[LogitsRow], manifest: Manifest, *, split: str = "test") -> Comparison | None:
    """Holds the INT8 student against the teacher on held-out videos.

    Args:
        rows: From `read_logits`.
        manifest: Calibration and threshold.
        split: The split that nothing was chosen on.
    Returns:
        Metrics and intervals, or None without a video that both have answered.
    """
    own = [row for row in rows if row.split == split]
    scores = join_videos(own, calibration_temperature=manifest.calibration.calibration_temperature)
    if not scores.videos:
        return None
    labels, teacher, student = scores.labels, scores.teacher, scores.student

    def drop(at: np.ndarray) -> float:
        right = [accuracy(labels[at], p[at], threshold=EVEN_THRESHOLD) for p in (teacher, student)]
        return 100 * (right[0] - right[1])

    def ratio(at: np.ndarray) -> float:
        reference = auc(labels[at], teacher[at])
        return auc(labels[at], student[at]) / reference if reference else math.nan

    return Comparison(
        scores=scores,
        split=split,
        teacher=measure(labels, teacher, threshold=EVEN_THRESHOLD),
        student=measure(labels, student, threshold=EVEN_THRESHOLD),
        student_shipped=measure(labels, student, threshold=manifest.operating_point.threshold),
        accuracy_drop_points=group_bootstrap(scores.groups, drop),
        auc_ratio=group_bootstrap(scores.groups, ratio),
        not_judged=_too_little(scores),
    )


def _too_little(scores: VideoScores) -> str | None:
    num_videos, num_groups = len(scores.videos), len(set(scores.groups))
    if num_videos < MIN_VIDEOS or num_groups < MIN_GROUPS:
        return f"{num_videos} videos of {num_groups} groups; {MIN_VIDEOS} videos and {MIN_GROUPS} groups are needed"
    return None
