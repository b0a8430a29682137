"""What is fitted on validation videos alone: named thresholds, temperature, Platt scaling; and how they then do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dfkit.benchmarks import metrics
from dfkit.distill.evaluate import MIN_VIDEOS_PER_CLASS, Decision, fit_temperature
from dfkit.evaluation.calibration import Platt, brier, cross_entropy, fit_platt
from dfkit.evaluation.levels import Level, no_nan
from dfkit.runtime.results import p_fake_of

POINTS: tuple[tuple[str, Literal["eer", "youden", "max_fpr"], float], ...] = (
    ("EER", "eer", 1.0),
    ("Youden", "youden", 1.0),
    ("FPR 5 %", "max_fpr", 0.05),
    ("FPR 1 %", "max_fpr", 0.01),
)


@dataclass(frozen=True)
class PointResult:
    """A threshold with a name, chosen on validation videos, and what it does on the judged ones."""

    name: str
    threshold: float
    tpr: float
    """Share of the fakes found; NaN without any."""
    fpr: float
    """Share of the real ones called fake; NaN without any."""
    balanced_accuracy: float


@dataclass(frozen=True)
class CalibrationResult:
    """How good the probabilities of the judged videos are under one scaling."""

    name: str
    parameters: dict[str, float]
    cross_entropy: float
    brier: float
    ece: float


@dataclass(frozen=True)
class Fitted:
    """All of it; empty with a reason where validation data do not suffice."""

    points: tuple[PointResult, ...]
    calibrations: tuple[CalibrationResult, ...]
    fitted_on: str
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """The fields, NaN as None."""
        return {
            "operating_points": [{k: no_nan(v) for k, v in asdict(point).items()} for point in self.points],
            "calibration": [{k: no_nan(v) for k, v in asdict(row).items()} for row in self.calibrations],
            "fitted_on": self.fitted_on,
            "reason": self.reason,
        }


def fit_and_apply(validation: Level | None, judged: Level, decision: Decision) -> Fitted:
    """Fits thresholds and scalings on validation videos and applies them to the judged ones.

    Args:
        validation: Videos; None where there are none.
        judged: Videos.
        decision: What the model carries; its temperature makes the scale that thresholds lie on.
    """
    temperature = decision.calibration.calibration_temperature
    scalings: dict[str, tuple[dict[str, float], np.ndarray]] = {
        "none": ({}, p_fake_of(judged.logits, calibration_temperature=1.0)),
    }
    if temperature != 1.0:
        scalings["carried by the model"] = (
            {"temperature": temperature},
            p_fake_of(judged.logits, calibration_temperature=temperature),
        )
    counts = np.bincount(validation.labels, minlength=2) if validation is not None else np.zeros(2, int)
    seen = f"{counts[0]} real and {counts[1]} fake validation videos"
    if validation is None or counts.min() < MIN_VIDEOS_PER_CLASS:
        reason = f"{seen}, at least {MIN_VIDEOS_PER_CLASS} of each are needed"
        return Fitted((), _calibrations(judged.labels, scalings), seen, reason)
    fitted = fit_temperature(validation.logits, validation.labels)
    platt = fit_platt(validation.logits, validation.labels)
    scalings["temperature"] = ({"temperature": fitted}, p_fake_of(judged.logits, calibration_temperature=fitted))
    scalings["Platt"] = (_platt_parameters(platt), platt(judged.logits))
    p_validation = p_fake_of(validation.logits, calibration_temperature=temperature)
    p_judged = p_fake_of(judged.logits, calibration_temperature=temperature)
    points = []
    for name, point, max_fpr in POINTS:
        threshold = metrics.operating_threshold(validation.labels, p_validation, point=point, max_fpr=max_fpr)
        points.append(apply_point(name, threshold, judged.labels, p_judged))
    return Fitted(tuple(points), _calibrations(judged.labels, scalings), seen, None)


def _platt_parameters(platt: Platt) -> dict[str, float]:
    return {"slope": platt.slope, "offset": platt.offset}


def _calibrations(
    labels: np.ndarray, scalings: dict[str, tuple[dict[str, float], np.ndarray]]
) -> tuple[CalibrationResult, ...]:
    return tuple(
        CalibrationResult(name, parameters, cross_entropy(labels, p), brier(labels, p), metrics.ece(labels, p))
        for name, (parameters, p) in scalings.items()
    )


def apply_point(name: str, threshold: float, labels: np.ndarray, p_fake: np.ndarray) -> PointResult:
    """What a threshold does on some videos."""
    true_real, alarms, misses, found = metrics.confusion(labels, p_fake, threshold=threshold)
    nan = float("nan")
    return PointResult(
        name,
        threshold,
        tpr=found / (found + misses) if found + misses else nan,
        fpr=alarms / (alarms + true_real) if alarms + true_real else nan,
        balanced_accuracy=metrics.balanced_accuracy(labels, p_fake, threshold=threshold),
    )
