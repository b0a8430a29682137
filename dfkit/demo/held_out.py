"""What teacher and student say of the two speakers that nobody trained on: AUC, verdicts, and where the fake lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from dfkit.files import write_atomically
from dfkit.measures.decision import Decision
from dfkit.measures.delong import auc_covariance, placements
from dfkit.measures.metrics import auc

if TYPE_CHECKING:
    from dfkit.evaluation.report import EvaluationReport

LEAST_AUC = 0.8
"""The upper end of the student's interval may not lie below it."""
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class AucByVideo:
    """AUC over the held-out videos, with a 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, labels: np.ndarray, p_fake: np.ndarray) -> AucByVideo:
        """By DeLong's variance, since two speakers are too few to draw from: each video counts for itself.

        Args:
            labels: (N,) 0 or 1, at least two of each.
            p_fake: (N,) in [0, 1].
        """
        value = float(placements(labels, p_fake)[0].mean())
        error = math.sqrt(max(0.0, float(auc_covariance(labels, p_fake[None])[0, 0])))
        return cls(value, max(0.0, value - Z * error), min(1.0, value + Z * error))

    @property
    def text(self) -> str:
        """Such as `0.91 [0.80, 1.00]`."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class HeldOutVideo:
    """A held-out video and what the student says of it."""

    path: str
    label_name: str
    """`real` or `fake`."""
    method: str
    """Of the forgery; empty for a real one."""
    verdict: str
    p_fake: float
    true_s: tuple[tuple[float, float], ...]
    """Forged intervals, seconds; empty where all or nothing is forged."""
    times_s: np.ndarray
    """(T,) of the frames."""
    curve: np.ndarray
    """(T,) p_fake of each frame."""

    @property
    def right(self) -> bool:
        """Whether the verdict is the label; `review` is not."""
        return self.verdict == self.label_name

    def line(self) -> str:
        """For the terminal."""
        what = f"{self.label_name} ({self.method})" if self.method else self.label_name
        mark = "right" if self.right else "review" if self.verdict == "review" else "WRONG"
        return f"{mark:<7}{what:<22} p_fake {self.p_fake:.2f}  {Path(self.path).name}"


@dataclass(frozen=True)
class HeldOutResult:
    """Teacher and student on the same held-out videos."""

    videos: tuple[HeldOutVideo, ...]
    student: AucByVideo
    teacher: AucByVideo
    by_method: dict[str, float]
    """The student's AUC for the forgeries of each method against all real videos."""
    threshold: float

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        methods = ", ".join(f"{name} {value:.2f}" for name, value in sorted(self.by_method.items()))
        right = sum(video.right for video in self.videos)
        return [
            f"held out: two speakers on whom no starter, teacher or student was trained, {len(self.videos)} videos",
            *(f"  {video.line()}" for video in self.videos),
            f"  {right} of {len(self.videos)} verdicts right; AUC by video: student {self.student.text}, "
            f"teacher {self.teacher.text}; student by method: {methods}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the curves."""
        kept = ("path", "label_name", "method", "verdict", "p_fake", "true_s")
        return {
            "student": vars(self.student),
            "teacher": vars(self.teacher),
            "by_method": self.by_method,
            "videos": [{name: getattr(video, name) for name in kept} for video in self.videos],
        }


def held_out_result(student: EvaluationReport, teacher: EvaluationReport) -> HeldOutResult:
    """Joins the two evaluations of the test part.

    Args:
        student: Of the exported bundle; with the decision that it ships.
        teacher: Of the teacher's checkpoint.
    """
    decision = student.decision or Decision()
    level = student.levels["video"]
    p_videos = level.p_fake(decision.temperature)
    videos = _videos(student, decision)
    reals = level.labels == 0
    methods = sorted(set(level.methods[~reals].tolist()))
    rows_of = {name: reals | (level.methods == name) for name in methods}
    by_method = {name: auc(level.labels[rows], p_videos[rows]) for name, rows in rows_of.items()}
    return HeldOutResult(
        videos=tuple(sorted(videos, key=lambda video: (video.label_name == "fake", video.method, video.path))),
        student=AucByVideo.of(level.labels, p_videos),
        teacher=AucByVideo.of(teacher.levels["video"].labels, teacher.levels["video"].p_fake(1.0)),
        by_method=by_method,
        threshold=decision.threshold,
    )


def _videos(report: EvaluationReport, decision: Decision) -> list[HeldOutVideo]:
    from dfkit.evaluation.levels import video_curves

    frames = report.levels["frame"]
    curves = video_curves(frames, frames.p_fake(decision.temperature), range(len(report.videos)))
    return [
        HeldOutVideo(
            path=video.video,
            label_name="fake" if video.label else "real",
            method=video.method or "",
            verdict=answer.verdict or "review",
            p_fake=float(answer.p_fake or 0.0),
            true_s=tuple((start, end) for start, end in video.intervals),
            times_s=curves[place][0],
            curve=curves[place][1],
        )
        for place, (video, answer) in enumerate(zip(report.videos, report.answers, strict=True))
    ]


def draw_held_out(result: HeldOutResult, path: Path) -> None:
    """A figure: P(fake) over time of every held-out video, the interval that was found over the true one.

    Args:
        result: What is drawn.
        path: PNG file.
    """
    import io

    from matplotlib.figure import Figure

    from dfkit.evaluation.localization import find_intervals

    columns = 3
    rows = -(-len(result.videos) // columns)
    figure = Figure(figsize=(11, 1.25 + 1.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, video in zip(axes, result.videos, strict=False):
        end_s = float(video.times_s[-1])
        for start, stop in video.true_s or (((0.0, end_s),) if video.label_name == "fake" else ()):
            axis.axvspan(max(start, 0.0), min(stop, end_s), color="#b2182b", alpha=0.18, linewidth=0)
        for found in find_intervals(video.path, video.times_s, video.curve, threshold=result.threshold):
            axis.plot([found.start_s, found.end_s], [1.06, 1.06], color="#b2182b", linewidth=3, solid_capstyle="butt")
        axis.plot(video.times_s, video.curve, color="#111827", linewidth=1)
        axis.axhline(result.threshold, color="#6b7280", linewidth=0.6, linestyle=":")
        axis.set_ylim(0, 1.12)
        axis.set_xlim(0, end_s)
        mark = "" if video.right else "  (review)" if video.verdict == "review" else "  (WRONG)"
        axis.set_title(f"{video.method or 'real'} -> {video.verdict} {video.p_fake:.2f}{mark}", fontsize=8, loc="left")
        axis.tick_params(labelsize=7)
    for axis in axes[len(result.videos) :]:
        axis.set_visible(False)
    figure.suptitle(
        "Two speakers that nobody trained on: P(fake) against seconds. Shaded: forged; bar above: called fake.",
        fontsize=9,
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_atomically(path, content.getvalue())
