"""The result of an evaluation, as lines of text and as JSON; `page` renders it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dfkit.evaluation.by_column import ColumnTable
from dfkit.evaluation.ensembles import AucGain
from dfkit.evaluation.generators import SeenGenerators
from dfkit.evaluation.levels import Level, LevelMetrics, interval_json, level_metrics_json
from dfkit.evaluation.operating_points import ValidationFit
from dfkit.evaluation.reliability import ReliabilityBin
from dfkit.measures.bootstrap import Interval
from dfkit.measures.decision import Decision, Verdict, p_fake_of
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
class DataFindings:
    """What `dfkit baseline` and `dfkit audit` found on the data."""

    baseline_auc: float | None = None
    """AUC by video of the strongest baseline that sees pictures and sound; None without one."""
    baseline_comparison: str | None = None
    """The network against the baseline, in words."""
    audit_warnings: tuple[str, ...] = ()
    """Lines about facts of the files that give the label away."""


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
class EvaluationReport:
    """Everything that `dfkit evaluate` found, with the inputs that it rests on."""

    name: str
    command: str
    date: str
    models: tuple[dict[str, Any], ...]
    """`path`, `kind`, `modalities` and `preset` of each model."""
    data_path: str
    split: str
    split_source: str
    decision: Decision
    decision_source: str
    levels: dict[str, Level]
    level_metrics: dict[str, LevelMetrics]
    fitted: ValidationFit
    reliability: tuple[ReliabilityBin, ...]
    review: ReviewResult
    localization: Localization
    gains: tuple[AucGain, ...]
    findings: DataFindings
    warnings: tuple[str, ...]
    video_names: tuple[str, ...]
    """Of the evaluated videos, in the order of the video level."""
    verdicts: tuple[Verdict, ...]
    """Of these videos."""
    uncertainty: dict[str, np.ndarray] = field(default_factory=dict)
    """By measure (such as `std`), (V,): mean over each evaluated video's clips; empty without repeated predictions."""
    muted: MutedResult | None = None
    """None of a model that gives no verdict without sound."""
    reads: tuple[dict[str, Any], ...] = ()
    """How much was read of each evaluated video when it was prepared, see `VideoRow.read_json`."""
    output_dir: str = ""
    generators: SeenGenerators | None = None
    """AUC on generators that the models trained on and on others; every evaluation has it."""
    columns: tuple[ColumnTable, ...] = ()
    """AUC by the values of columns that were asked for."""

    @property
    def thin_reading(self) -> str | None:
        """How many evaluated videos would be `review` for what could not be read of them; None where none would."""
        thin = [read for read in self.reads if read["read_share"] is not None and read["read_share"] < MIN_READ_SHARE]
        if not thin:
            return None
        return (
            f"{len(thin)} of {len(self.reads)} videos were read to less than {MIN_READ_SHARE:.0%}: dfkit predict calls "
            "them review"
        )

    @property
    def p_videos(self) -> np.ndarray:
        """Calibrated p_fake of each evaluated video, (V,)."""
        temperature = self.decision.calibration.calibration_temperature
        return p_fake_of(self.levels["video"].logits, calibration_temperature=temperature)

    def summary(self) -> list[str]:
        """The report as lines of text."""
        video = self.level_metrics["video"]
        counts = f"{video.metrics.num_real} real, {video.metrics.num_fake} fake videos"
        lines = [
            f"{' + '.join(str(m['path']) for m in self.models)} on {self.data_path}, {self.split} part "
            f"({self.split_source}): {counts}, {len(video.by_group)} groups",
            f"{self.decision.text}: {self.decision_source}",
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
        if self.findings.baseline_comparison:
            lines.append(self.findings.baseline_comparison)
        lines += [f"warning: {text}" for text in (*self.warnings, *self.findings.audit_warnings)]
        return [*lines, f"report: {self.output_dir}"]

    def metric_rows(self) -> list[list[str]]:
        """Name and formatted value of every metric, one column per level; the AUC with its interval."""
        rows = []
        for key, name in METRIC_NAMES:
            cells = [format_number(getattr(level.metrics, key)) for level in self.level_metrics.values()]
            if key == "auc":
                intervals = [format_interval(level.auc) for level in self.level_metrics.values()]
                cells = [cell + interval for cell, interval in zip(cells, intervals, strict=True)]
            rows.append([name, *cells])
        return rows

    def to_json(self) -> dict[str, Any]:
        """Content of `report.json`; NaN is None."""
        return {
            "name": self.name,
            "command": self.command,
            "date": self.date,
            "models": list(self.models),
            "data": self.data_path,
            "split": self.split,
            "split_source": self.split_source,
            "decision": {
                **self.decision.to_facts(),
                "source": self.decision_source,
            },
            "levels": {name: level_metrics_json(level) for name, level in self.level_metrics.items()},
            "generators": None if self.generators is None else self.generators.to_json(),
            "columns": [table.to_json() for table in self.columns],
            "fitted_on_validation": self.fitted.to_json(),
            "reliability": [asdict(row) for row in self.reliability],
            "review": asdict(self.review),
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
            "baseline": {"auc": self.findings.baseline_auc, "said": self.findings.baseline_comparison},
            "audit_warnings": list(self.findings.audit_warnings),
            "warnings": list(self.warnings),
            "videos": self._video_rows(),
            "output": self.output_dir,
        }

    def _video_rows(self) -> list[dict[str, Any]]:
        level = self.levels["video"]
        return [
            {
                "video": name,
                "label": int(level.labels[n]),
                "group": str(level.groups[n]),
                "method": str(level.methods[n]) or None,
                "p_fake": self.verdicts[n].p_fake,
                "verdict": self.verdicts[n].verdict,
                "worst_clip_start_s": self.verdicts[n].worst_clip_start_s,
                "worst_clip_p_fake": self.verdicts[n].worst_clip_p_fake,
                **self.reads[n],
                **self._uncertainty_json(n),
            }
            for n, name in enumerate(self.video_names)
        ]

    def _uncertainty_json(self, place: int) -> dict[str, Any]:
        if not self.uncertainty:
            return {}
        return {"uncertainty": {name: float(values[place]) for name, values in self.uncertainty.items()}}


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
