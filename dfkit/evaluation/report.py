"""The result of an evaluation, as lines of text and as JSON; `page` renders it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dfkit.audit.findings import format_baseline_comparison
from dfkit.evaluation.by_column import ColumnTable
from dfkit.evaluation.gains import AucGain
from dfkit.evaluation.generators import SeenGenerators
from dfkit.evaluation.levels import NO_METHOD, Level, LevelMetrics, interval_json, level_metrics_json
from dfkit.evaluation.operating_points import ValidationFit
from dfkit.evaluation.reliability import ReliabilityBin
from dfkit.evaluation.scores_file import ScoredVideo, ScoresFile
from dfkit.measures.bootstrap import Interval
from dfkit.measures.decision import Decision, VerdictName
from dfkit.measures.evidence import MIN_READ_SHARE
from dfkit.measures.finite import finite_or_none
from dfkit.report.table import format_number, table_lines

METRIC_NAMES = (
    ("auc", "AUC"),
    ("balanced_accuracy", "balanced accuracy"),
    ("accuracy", "accuracy"),
    ("mcc", "MCC"),
    ("f1", "F1 (fake)"),
    ("macro_f1", "macro-F1"),
    ("eer", "EER"),
    ("tpr_at_1_fpr", "TPR at 1 % FPR"),
    ("tpr_at_5_fpr", "TPR at 5 % FPR"),
    ("ece", "calibration error"),
)
RANK_METRICS = ("auc", "eer", "tpr_at_1_fpr", "tpr_at_5_fpr")
"""Those that only ask for the order of the scores."""


@dataclass(frozen=True)
class Localization:
    """Average precision of intervals; empty with a reason where there are none to find."""

    ap: dict[str, float]
    """By least overlap, such as `0.5`."""
    num_videos: int
    num_intervals: int
    num_detections: int
    reason: str | None


@dataclass(frozen=True)
class ReviewResult:
    """How many evaluated videos the review band takes, and how many verdicts outside of it are wrong."""

    low: float
    """Lower edge on the calibrated p_fake."""
    high: float
    """Upper edge, not included; equal to `low` where there is no band."""
    num: int
    """Evaluated videos."""
    num_inside: int
    """Videos with the verdict `review`."""
    num_errors: int
    """Wrong verdicts among the others."""


@dataclass(frozen=True)
class MutedResult:
    """The evaluated videos without their sound, judged by the picture alone."""

    decision: Decision
    """The model's own for such videos."""
    metrics: LevelMetrics
    """By video."""
    review: ReviewResult

    @property
    def text(self) -> str:
        """One line for people."""
        video = self.metrics.metrics
        auc = f"{format_number(video.auc)}{format_interval(self.metrics.auc)}"
        return (
            f"muted, by the picture alone: video AUC {auc}, balanced accuracy "
            f"{format_number(video.balanced_accuracy)}, {self.review.num_inside} of {self.review.num} review; "
            f"{self.decision.text}"
        )

    def to_json(self) -> dict[str, Any]:
        """Entry `muted` of `report.json`."""
        return {
            "decision": self.decision.to_facts(),
            "video": level_metrics_json(self.metrics),
            "review": asdict(self.review),
        }


@dataclass(frozen=True)
class VideoAnswer:
    """What is said of one evaluated video."""

    verdict: VerdictName | None
    """None of a foreign detector's score that is no probability."""
    p_fake: float | None
    """Calibrated; None likewise."""
    worst_clip_start_s: float | None = None
    """None of a foreign detector, like the next one."""
    worst_clip_p_fake: float | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that `dfkit evaluate` found, with the answers that all of it is made of."""

    scores: ScoresFile
    decision: Decision | None
    """None for a foreign detector's scores that are no probabilities."""
    levels: dict[str, Level]
    level_metrics: dict[str, LevelMetrics]
    fitted: ValidationFit
    reliability: tuple[ReliabilityBin, ...]
    review: ReviewResult | None
    """None as of `decision`."""
    localization: Localization
    gains: tuple[AucGain, ...]
    warnings: tuple[str, ...]
    answers: tuple[VideoAnswer, ...]
    """Of the evaluated videos."""
    muted: MutedResult | None = None
    """None of a model that gives no verdict without sound."""
    output_dir: str = ""
    generators: SeenGenerators | None = None
    """AUC on generators that the models trained on and on others; every evaluation has it."""
    columns: tuple[ColumnTable, ...] = ()
    """AUC by the values of columns that were asked for."""

    @property
    def name(self) -> str:
        """Of the evaluation."""
        return self.scores.name

    @property
    def videos(self) -> list[ScoredVideo]:
        """The evaluated ones, in the order of the video level."""
        return self.scores.answered

    @property
    def video_names(self) -> tuple[str, ...]:
        """Of the evaluated videos."""
        return tuple(video.path for video in self.videos)

    @property
    def uncertainty_names(self) -> tuple[str, ...]:
        """Measures of uncertainty, such as `std`; empty without repeated predictions."""
        return tuple(self.videos[0].uncertainty)

    @property
    def decision_text(self) -> str:
        """Threshold, temperature and aggregation, and where they come from."""
        if self.decision is None:
            found = "no threshold"
        elif self.scores.scores == "p_fake":
            found = f"threshold {self.decision.threshold:.3f} on p_fake as it was given"
        else:
            found = self.decision.text
        return f"{found}: {self.scores.decision_source}"

    @property
    def baseline_comparison(self) -> str | None:
        """The network against the baseline, in words; None without a baseline on the same videos."""
        bar = self.scores.baseline
        if bar is None:
            return None
        return format_baseline_comparison(self.level_metrics["video"].metrics.auc, bar)

    @property
    def thin_reading(self) -> str | None:
        """How many evaluated videos would be `review` for what could not be read of them; None where none would."""
        shares = [None if video.read is None else video.read.read_share for video in self.videos]
        num_thin = sum(share is not None and share < MIN_READ_SHARE for share in shares)
        if not num_thin:
            return None
        return (
            f"{num_thin} of {len(shares)} videos were read to less than {MIN_READ_SHARE:.0%}: dfkit predict calls "
            "them review"
        )

    @property
    def p_videos(self) -> np.ndarray:
        """Calibrated p_fake of each evaluated video, (V,); a foreign detector's scores as they are."""
        return self.levels["video"].p_fake(1.0 if self.decision is None else self.decision.temperature)

    def summary(self) -> list[str]:
        """The report as lines of text."""
        video = self.level_metrics["video"]
        counts = f"{video.metrics.num_real} real, {video.metrics.num_fake} fake videos"
        lines = [
            f"{' + '.join(model.path for model in self.scores.models)} on {self.scores.data}, {self.scores.split} part "
            f"({self.scores.split_source}): {counts}, {len(video.by_group)} groups",
            self.scores.protocol.text,
            self.decision_text,
            *table_lines(("", *self.level_metrics), self.metric_rows()),
        ]
        lines += [] if self.generators is None else self.generators.texts
        lines += [line for table in self.columns for line in table.summary()]
        if video.metrics.undefined:
            lines.append(f"metrics without a value: {video.metrics.undefined}")
        lines += [format_gain(gain) for gain in self.gains]
        lines += [] if self.muted is None else [self.muted.text]
        lines += [] if self.thin_reading is None else [self.thin_reading]
        lines += [f"localization: AP {name} {format_number(value)}" for name, value in self.localization.ap.items()]
        if self.baseline_comparison:
            lines.append(self.baseline_comparison)
        lines += [f"warning: {text}" for text in (*self.warnings, *self.scores.audit_warnings)]
        return [*lines, f"report: {self.output_dir}"]

    def metric_rows(self) -> list[list[str]]:
        """Name and formatted value of every metric, one column per level; the AUC with its interval.

        Of scores that are no probabilities only what their order gives.
        """
        rows = []
        for key, name in METRIC_NAMES:
            if self.decision is None and key not in RANK_METRICS:
                continue
            cells = [format_number(getattr(level.metrics, key)) for level in self.level_metrics.values()]
            if key == "auc":
                intervals = [format_interval(level.auc) for level in self.level_metrics.values()]
                cells = [cell + interval for cell, interval in zip(cells, intervals, strict=True)]
            rows.append([name, *cells])
        return rows

    def to_json(self) -> dict[str, Any]:
        """Content of `report.json`, and where it lies."""
        return {**self.content(), "output": self.output_dir}

    def content(self) -> dict[str, Any]:
        """Content of `report.json`; NaN is None."""
        scores = self.scores
        return {
            "name": scores.name,
            "command": scores.command,
            "date": scores.date,
            "models": [model.model_dump(mode="json") for model in scores.models],
            "data": scores.data,
            "split": scores.split,
            "split_source": scores.split_source,
            "protocol": scores.protocol.to_json(),
            "decision": {
                **({} if self.decision is None else self.decision.to_facts()),
                "source": scores.decision_source,
            },
            "levels": {name: level_metrics_json(level) for name, level in self.level_metrics.items()},
            "generators": None if self.generators is None else self.generators.to_json(),
            "columns": [table.to_json() for table in self.columns],
            "fitted_on_validation": self.fitted.to_json(),
            "reliability": [asdict(row) for row in self.reliability],
            "review": None if self.review is None else asdict(self.review),
            "muted": None if self.muted is None else self.muted.to_json(),
            "thin_reading": self.thin_reading,
            "localization": {
                **asdict(self.localization),
                "ap": {name: finite_or_none(value) for name, value in self.localization.ap.items()},
            },
            "gains": [
                {
                    "name": gain.name,
                    "auc": finite_or_none(gain.auc),
                    "reference_auc": finite_or_none(gain.reference_auc),
                    "difference": interval_json(gain.difference),
                }
                for gain in self.gains
            ],
            "baseline": {
                "name": None if scores.baseline is None else scores.baseline.name,
                "auc": None if scores.baseline is None else scores.baseline.auc,
                "said": self.baseline_comparison,
            },
            "audit_warnings": list(scores.audit_warnings),
            "warnings": list(self.warnings),
            "videos": self._video_rows(),
        }

    def _video_rows(self) -> list[dict[str, Any]]:
        """The evaluated videos, and behind them those that have no answer."""
        rows = [_video_json(video, answer) for video, answer in zip(self.videos, self.answers, strict=True)]
        return [*rows, *(_video_json(video, None) for video in self.scores.videos if not video.answered)]


def _video_json(video: ScoredVideo, answer: VideoAnswer | None) -> dict[str, Any]:
    said = VideoAnswer(None, None) if answer is None else answer
    return {
        "video": video.path,
        "label": video.label,
        "group": video.group,
        "method": (video.method or NO_METHOD) if video.label else None,
        "answered": answer is not None,
        **({} if video.clips is not None else {"score": video.score}),
        **asdict(said),
        **({} if video.read is None else video.read.model_dump()),
        **({"uncertainty": video.uncertainty} if video.uncertainty else {}),
    }


def format_interval(interval: Interval) -> str:
    """The ends of an interval in brackets, behind a blank; an empty string where it has none."""
    return "" if interval.reason else f" ({format_number(interval.low)}-{format_number(interval.high)})"


def format_gain(gain: AucGain) -> str:
    """One line about a gain in AUC, with its interval or why there is none."""
    difference = gain.difference
    if difference.reason:
        interval = f"; no interval: {difference.reason}"
    else:
        interval = f" ({difference.low:+.3f} to {difference.high:+.3f})"
    return f"{gain.name}: AUC {format_number(gain.auc)}, {difference.value:+.3f} over one model{interval}"
