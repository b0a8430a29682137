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
from dfkit.files import name_from_text
from dfkit.measures.bootstrap import Interval, group_bootstrap
from dfkit.measures.decision import Decision, VideoScores, compare_decisions, p_fake_of_margin, video_margin
from dfkit.measures.gates import MARGIN, MIN_GROUPS, MIN_VIDEOS, max_flips
from dfkit.measures.metrics import BinaryMetrics, accuracy, auc, measure
from dfkit.measures.protocol import stated_protocol
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
class TeacherAndStudent:
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

    scores: TeacherAndStudent
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
    protocol: str = stated_protocol({})
    """Of the student's figures on this split, as the export stored it."""


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
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
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


def find_test_video(rows: Sequence[LogitsRow]) -> Path | None:
    """The first video of the test split whose file is still where the export saw it; None where there is none."""
    named = dict.fromkeys(row.video for row in rows if row.split == "test")
    return next((path for path in map(Path, map(name_from_text, named)) if path.is_file()), None)


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
    fp32, int8 = (
        [VideoScores.of_clip(np.array(logits, np.float64)) for logits in side]
        for side in ([row.student_fp32 for row in answered], [row.student_int8 for row in answered])
    )
    change = compare_decisions(fp32, int8, manifest.decision, margin_limit=MARGIN)
    logits = [np.stack([scores.clip_logits for scores in side]) for side in (fp32, int8)]
    return Parity(
        num_clips=change.num,
        num_flips=change.num_flips,
        num_flips_above_margin=change.num_flips_above_margin,
        max_flips=max_flips(change.num),
        max_p_change=change.max_p_change,
        mean_p_change=change.mean_p_change,
        max_logit_change=float(np.abs(logits[0] - logits[1]).max()),
        points=tuple(zip(change.p_before, change.p_after, strict=True)),
    )


def join_videos(rows: Sequence[LogitsRow], decision: Decision) -> TeacherAndStudent:
    """Scores of the videos by the detector's rule.

    Args:
        rows: Of one split.
        decision: The student's; the teacher is put together likewise, at temperature 1.
    Returns:
        The videos that teacher and INT8 student have answered, in order of name.
    """
    by_video: dict[str, list[LogitsRow]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    first_rows: list[LogitsRow] = []
    teacher: list[float] = []
    student: list[float] = []
    for _, video_rows in sorted(by_video.items()):
        teacher_scores = _video_scores([(row, row.teacher) for row in video_rows])
        student_scores = _video_scores([(row, row.student_int8) for row in video_rows])
        if teacher_scores is not None and student_scores is not None:
            first_rows.append(video_rows[0])
            teacher.append(video_margin(teacher_scores, decision.aggregation))
            student.append(video_margin(student_scores, decision.aggregation))
    return TeacherAndStudent(
        videos=tuple(row.video for row in first_rows),
        groups=tuple(row.group for row in first_rows),
        labels=np.array([row.label for row in first_rows], int),
        methods=tuple(row.method for row in first_rows),
        teacher=p_fake_of_margin(np.array(teacher), calibration_temperature=1.0),
        student=p_fake_of_margin(np.array(student), calibration_temperature=decision.temperature),
        num_left_out=len(by_video) - len(first_rows),
    )


def _video_scores(answers: Sequence[tuple[LogitsRow, Logits | None]]) -> VideoScores | None:
    """The clips of a video that a model has answered; None where it has answered none."""
    answered = [(row, logits) for row, logits in answers if logits is not None]
    if not answered:
        return None
    return VideoScores(
        np.array([logits for _, logits in answered], np.float64),
        np.array([row.track_id for row, _ in answered], np.int64),
        np.array([row.clip_start_s or 0.0 for row, _ in answered]),
    )


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
    scores = join_videos(held_out, manifest.decision)
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
        protocol=stated_protocol(manifest.metrics.get("student", {}).get(split, {})),
    )


def _why_not_judged(scores: TeacherAndStudent) -> str | None:
    """What the gates lack in videos or groups; None where the data suffice."""
    num_videos, num_groups = len(scores.videos), len(set(scores.groups))
    if num_videos < MIN_VIDEOS or num_groups < MIN_GROUPS:
        return f"{num_videos} videos of {num_groups} groups; {MIN_VIDEOS} videos and {MIN_GROUPS} groups are needed"
    return None
