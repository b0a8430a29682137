"""What an evaluation found, as lines, as JSON and as the content of its page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dfkit.benchmarks.table import format_number, table_lines
from dfkit.distill.evaluate import Decision
from dfkit.evaluation.calibration import ReliabilityBin
from dfkit.evaluation.ensembles import Gain
from dfkit.evaluation.levels import Level, Measured, interval_json, measured_json, no_nan
from dfkit.evaluation.points import Fitted
from dfkit.runtime.results import p_fake_of, verdict_of

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
class Beside:
    """What other commands left in the data folder."""

    baseline_auc: float | None = None
    baseline_said: str | None = None
    audit_warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReviewResult:
    """The band's effect on the judged videos."""

    low: float
    high: float
    num: int
    num_inside: int
    num_errors: int


@dataclass(frozen=True)
class EvaluationReport:
    """One evaluation."""

    name: str
    command: str
    date: str
    models: tuple[dict[str, Any], ...]
    """Path, kind, modalities of each."""
    data_path: str
    split: str
    split_source: str
    decision: Decision
    decision_source: str
    levels: dict[str, Level]
    measured: dict[str, Measured]
    fitted: Fitted
    reliability: tuple[ReliabilityBin, ...]
    review: ReviewResult
    localization: Localization
    gains: tuple[Gain, ...]
    beside: Beside
    warnings: tuple[str, ...]
    video_names: tuple[str, ...]
    """Of the judged videos, in the order of the video level."""
    spread: dict[str, np.ndarray] = field(default_factory=dict)
    """Uncertainty of each judged video by name, (V,): mean over its clips."""
    output_dir: str = ""

    @property
    def p_videos(self) -> np.ndarray:
        """(V,) calibrated p_fake."""
        temperature = self.decision.calibration.calibration_temperature
        return p_fake_of(self.levels["video"].logits, calibration_temperature=temperature)

    def summary(self) -> list[str]:
        """Lines for people."""
        video = self.measured["video"]
        counts = f"{video.metrics.num_real} real, {video.metrics.num_fake} fake videos"
        lines = [
            f"{' + '.join(str(m['path']) for m in self.models)} on {self.data_path}, {self.split} part "
            f"({self.split_source}): {counts}, {len(video.by_group)} groups",
            f"threshold {self.decision.operating_point.threshold:.3f}: {self.decision_source}",
            *table_lines(("", *self.measured), self._metric_rows()),
        ]
        if video.metrics.undefined:
            lines.append(f"metrics without a value: {video.metrics.undefined}")
        lines += [gain_line(gain) for gain in self.gains]
        lines += [f"localization: AP {name} {format_number(value)}" for name, value in self.localization.ap.items()]
        if self.beside.baseline_said:
            lines.append(self.beside.baseline_said)
        lines += [f"warning: {text}" for text in (*self.warnings, *self.beside.audit_warnings)]
        return [*lines, f"report: {self.output_dir}"]

    def _metric_rows(self) -> list[list[str]]:
        rows = []
        for key, name in METRIC_NAMES:
            values = [format_number(getattr(m.metrics, key)) for m in self.measured.values()]
            if key == "auc":
                ranges = [m.auc for m in self.measured.values()]
                values = [f"{v}{interval_text(r)}" for v, r in zip(values, ranges, strict=True)]
            rows.append([name, *values])
        return rows

    def to_json(self) -> dict[str, Any]:
        """A JSON object; NaN is None."""
        return {
            "name": self.name,
            "command": self.command,
            "date": self.date,
            "models": list(self.models),
            "data": self.data_path,
            "split": self.split,
            "split_source": self.split_source,
            "decision": {
                "calibration": self.decision.calibration.model_dump(),
                "operating_point": self.decision.operating_point.model_dump(),
                "source": self.decision_source,
            },
            "levels": {name: measured_json(measured) for name, measured in self.measured.items()},
            "fitted_on_validation": self.fitted.to_json(),
            "reliability": [asdict(row) for row in self.reliability],
            "review": asdict(self.review),
            "localization": {
                **asdict(self.localization),
                "ap": {name: no_nan(value) for name, value in self.localization.ap.items()},
            },
            "gains": [
                {
                    "name": gain.name,
                    "auc": no_nan(gain.auc),
                    "reference_auc": no_nan(gain.reference_auc),
                    "difference": interval_json(gain.difference),
                }
                for gain in self.gains
            ],
            "baseline": {"auc": self.beside.baseline_auc, "said": self.beside.baseline_said},
            "audit_warnings": list(self.beside.audit_warnings),
            "warnings": list(self.warnings),
            "videos": self._video_rows(),
            "output": self.output_dir,
        }

    def _video_rows(self) -> list[dict[str, Any]]:
        level, p_videos = self.levels["video"], self.p_videos
        return [
            {
                "video": name,
                "label": int(level.labels[n]),
                "group": str(level.groups[n]),
                "method": str(level.methods[n]) or None,
                "p_fake": float(p_videos[n]),
                "verdict": verdict_of(float(p_videos[n]), self.decision.operating_point),
                **({"uncertainty": {k: float(v[n]) for k, v in self.spread.items()}} if self.spread else {}),
            }
            for n, name in enumerate(self.video_names)
        ]


def interval_text(interval: Any) -> str:
    """The ends of an interval, or nothing where it has none."""
    return "" if interval.reason else f" ({format_number(interval.low)}-{format_number(interval.high)})"


def gain_line(gain: Gain) -> str:
    """A gain for people."""
    change = gain.difference
    reason = f"; no interval: {change.reason}" if change.reason else ""
    said = f"AUC {format_number(gain.auc)}, {change.value:+.3f} over one model"
    ends = "" if change.reason else f" ({change.low:+.3f} to {change.high:+.3f})"
    return f"{gain.name}: {said}{ends}{reason}"
