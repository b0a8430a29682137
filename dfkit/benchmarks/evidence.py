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

from dfkit.errors import DataError
from dfkit.measures.bootstrap import Interval, group_bootstrap
from dfkit.measures.decision import p_fake_of
from dfkit.measures.gates import MARGIN, MAX_FLIP_SHARE, MIN_GROUPS, MIN_VIDEOS
from dfkit.measures.metrics import BinaryMetrics, accuracy, auc, measure
from dfkit.runtime.manifest import Manifest

LOGITS_FILE = "logits.jsonl"
EVEN_THRESHOLD = 0.5
"""Of the comparison of student and teacher: fake where fake is the likelier class."""
Logits = tuple[float, float]
"""Of one clip: real, fake."""


class LogitsRow(BaseModel, frozen=True, extra="ignore"):
    """One clip of a video, with the logits that each model gave it."""

    video: str
    group: str
    label: int
    """Of the video: 0 real, 1 fake."""
    clip_start_s: float | None = None
    track_id: int = 0
    """Which of the video's faces."""
    split: str
    method: str = ""
    teacher: Logits | None = None
    """(real, fake) logits, as are the next two; a teacher that sees whole videos repeats its answer."""
    student_fp32: Logits | None = None
    student_int8: Logits | None = None


@dataclass(frozen=True)
class Parity:
    """Differences between the INT8 and the FP32 student, clip by clip."""

    num_clips: int
    num_flips: int
    num_flips_above_margin: int
    max_flips: int
    """Flips that are let pass: max(1, 1 %)."""
    max_p_change: float
    """Largest change of p_fake; NaN where an answer is not finite."""
    mean_p_change: float
    max_logit_change: float
    points: tuple[tuple[float, float], ...]
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
            # Pydantic names the field in the second line and the fault in the third; json has one line.
            headline, *details = str(error).splitlines()
            reason = " ".join(details[:2]) or headline
            raise DataError(f"{path}, line {number}: {reason}", fix="export again") from error
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
    answered = [row for row in rows if row.student_fp32 and row.student_int8]
    if not answered:
        return None
    # (N, 2) each.
    fp32_logits = np.array([row.student_fp32 for row in answered], np.float64)
    int8_logits = np.array([row.student_int8 for row in answered], np.float64)
    temperature = manifest.calibration.calibration_temperature
    fp32_p_fake = p_fake_of(fp32_logits, calibration_temperature=temperature)
    int8_p_fake = p_fake_of(int8_logits, calibration_temperature=temperature)
    p_change = np.abs(fp32_p_fake - int8_p_fake)
    threshold = manifest.operating_point.threshold
    flipped = (fp32_p_fake >= threshold) != (int8_p_fake >= threshold)
    # How far FP32's difference of logits lies from the one at which the decision changes.
    fp32_gap = fp32_logits[:, 1] - fp32_logits[:, 0]
    margin = np.abs(fp32_gap - temperature * logit_of(threshold))
    return Parity(
        num_clips=len(answered),
        num_flips=int(flipped.sum()),
        num_flips_above_margin=int((flipped & (margin > MARGIN)).sum()),
        max_flips=max(1, int(MAX_FLIP_SHARE * len(answered))),
        max_p_change=float(p_change.max()),
        mean_p_change=float(p_change.mean()),
        max_logit_change=float(np.abs(fp32_logits - int8_logits).max()),
        points=tuple(zip(fp32_p_fake.tolist(), int8_p_fake.tolist(), strict=True)),
    )


def logit_of(probability: float) -> float:
    """Difference of logits at which softmax gives a probability; infinite at 0 and 1."""
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability))


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
    first_rows: list[LogitsRow] = []
    teacher_logits: list[np.ndarray] = []
    student_logits: list[np.ndarray] = []
    for _, video_rows in sorted(by_video.items()):
        teacher_clips = [(row.track_id, row.teacher) for row in video_rows if row.teacher]
        student_clips = [(row.track_id, row.student_int8) for row in video_rows if row.student_int8]
        if teacher_clips and student_clips:
            first_rows.append(video_rows[0])
            teacher_logits.append(most_suspicious(teacher_clips))
            student_logits.append(most_suspicious(student_clips))
    return VideoScores(
        videos=tuple(row.video for row in first_rows),
        groups=tuple(row.group for row in first_rows),
        labels=np.array([row.label for row in first_rows], int),
        methods=tuple(row.method for row in first_rows),
        teacher=_p_fake_of_videos(teacher_logits, calibration_temperature=1.0),
        student=_p_fake_of_videos(student_logits, calibration_temperature=calibration_temperature),
        num_left_out=len(by_video) - len(first_rows),
    )


def _p_fake_of_videos(logits: Sequence[np.ndarray], *, calibration_temperature: float) -> np.ndarray:
    """(N,) p_fake of N times (2,) logits; N may be 0."""
    stacked = np.array(logits).reshape(-1, 2)
    return p_fake_of(stacked, calibration_temperature=calibration_temperature)


def most_suspicious(clips: Sequence[tuple[int, Logits]]) -> np.ndarray:
    """Logits (2,) of the track that looks most like a fake, each the mean over its clips.

    Args:
        clips: Track and logits of each clip of one video; at least one.
    """
    by_track: dict[int, list[Logits]] = {}
    for track_id, logits in clips:
        by_track.setdefault(track_id, []).append(logits)
    means = [np.mean(track_logits, axis=0) for track_logits in by_track.values()]
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
    held_out = [row for row in rows if row.split == split]
    scores = join_videos(held_out, calibration_temperature=manifest.calibration.calibration_temperature)
    if not scores.videos:
        return None
    labels, teacher, student = scores.labels, scores.teacher, scores.student

    def accuracy_drop_points(drawn: np.ndarray) -> float:
        teacher_accuracy = accuracy(labels[drawn], teacher[drawn], threshold=EVEN_THRESHOLD)
        student_accuracy = accuracy(labels[drawn], student[drawn], threshold=EVEN_THRESHOLD)
        return 100 * (teacher_accuracy - student_accuracy)

    def auc_ratio(drawn: np.ndarray) -> float:
        teacher_auc = auc(labels[drawn], teacher[drawn])
        if teacher_auc == 0:
            return math.nan
        return auc(labels[drawn], student[drawn]) / teacher_auc

    return Comparison(
        scores=scores,
        split=split,
        teacher=measure(labels, teacher, threshold=EVEN_THRESHOLD),
        student=measure(labels, student, threshold=EVEN_THRESHOLD),
        student_shipped=measure(labels, student, threshold=manifest.operating_point.threshold),
        accuracy_drop_points=group_bootstrap(scores.groups, accuracy_drop_points),
        auc_ratio=group_bootstrap(scores.groups, auc_ratio),
        not_judged=_why_not_judged(scores),
    )


def _why_not_judged(scores: VideoScores) -> str | None:
    """What the gates lack in videos or groups; None where the data suffice."""
    num_videos, num_groups = len(scores.videos), len(set(scores.groups))
    if num_videos < MIN_VIDEOS or num_groups < MIN_GROUPS:
        return f"{num_videos} videos of {num_groups} groups; {MIN_VIDEOS} videos and {MIN_GROUPS} groups are needed"
    return None
