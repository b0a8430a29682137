"""Thresholds and calibrations fitted on validation videos alone, and their metrics on the evaluated ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dfkit.evaluation.levels import Level
from dfkit.evaluation.reliability import PlattScaling, brier, cross_entropy, fit_platt_scaling
from dfkit.evaluation.scores_file import ValidationFacts
from dfkit.measures import metrics
from dfkit.measures.decision import MIN_VIDEOS_PER_CLASS, Decision, fit_temperature, p_fake_of_margin
from dfkit.measures.finite import finite_or_none

Scaling = tuple[dict[str, float], np.ndarray]
"""Parameters of a calibration, and the p_fake of the evaluated videos under it, (V,)."""
POINTS: tuple[tuple[str, Literal["eer", "youden", "max_fpr"], float], ...] = (
    ("EER", "eer", 1.0),
    ("Youden", "youden", 1.0),
    ("FPR 5 %", "max_fpr", 0.05),
    ("FPR 1 %", "max_fpr", 0.01),
)
"""Name, rule of `operating_threshold`, and the largest false positive rate where the rule takes one."""


@dataclass(frozen=True)
class OperatingPointResult:
    """A named threshold, chosen on validation videos, and its rates on the evaluated ones."""

    name: str
    threshold: float
    """On the calibrated p_fake."""
    tpr: float
    """Share of the fakes that are called fake; NaN without fakes."""
    fpr: float
    """Share of the real ones that are called fake; NaN without real ones."""
    balanced_accuracy: float


@dataclass(frozen=True)
class CalibrationResult:
    """Quality of the evaluated videos' probabilities under one calibration."""

    name: str
    parameters: dict[str, float]
    """Such as `temperature`, or Platt's `slope` and `offset`."""
    cross_entropy: float
    """Nats."""
    brier: float
    ece: float
    """Expected calibration error."""


@dataclass(frozen=True)
class ValidationFit:
    """Operating points and calibrations that were fitted on validation videos."""

    points: tuple[OperatingPointResult, ...]
    """Empty where there are too few validation videos."""
    calibrations: tuple[CalibrationResult, ...]
    """Of too few validation videos only `none` and what the model carries."""
    fitted_on: str
    """How many validation videos of each class, in words."""
    reason: str | None
    """Why nothing was fitted; None where it was."""

    def to_json(self) -> dict[str, Any]:
        """Entry `fitted_on_validation` of `report.json`; NaN is None."""
        return {
            "operating_points": [_finite_fields(point) for point in self.points],
            "calibration": [_finite_fields(calibration) for calibration in self.calibrations],
            "fitted_on": self.fitted_on,
            "reason": self.reason,
        }


def _finite_fields(result: OperatingPointResult | CalibrationResult) -> dict[str, Any]:
    return {name: finite_or_none(value) for name, value in asdict(result).items()}


def fit_on_validation(
    margins: np.ndarray, labels: np.ndarray, decision: Decision, *, unfitted: str | None = None
) -> ValidationFacts:
    """Fits thresholds and calibrations on validation videos.

    Args:
        margins: (V,) of the validation videos; may be empty.
        labels: (V,) 0 or 1.
        decision: Stored in the model; thresholds lie on p_fake under its calibration temperature.
        unfitted: Why nothing is to be fitted, where that was decided already.
    """
    counts = np.bincount(labels, minlength=2) if len(labels) else np.zeros(2, int)
    fitted_on = f"{counts[0]} real and {counts[1]} fake validation videos"
    if counts.min() < MIN_VIDEOS_PER_CLASS:
        reason = unfitted or f"{fitted_on}, at least {MIN_VIDEOS_PER_CLASS} of each are needed"
        return ValidationFacts(fitted_on=fitted_on, reason=reason, num_real=int(counts[0]))
    platt = fit_platt_scaling(np.stack([np.zeros_like(margins), margins], axis=1), labels)
    p_fake = p_fake_of_margin(margins, calibration_temperature=decision.temperature)
    return ValidationFacts(
        fitted_on=fitted_on,
        reason=None,
        num_real=int(counts[0]),
        temperature=fit_temperature(margins, labels).temperature,
        platt=(platt.slope, platt.offset),
        thresholds={
            name: metrics.operating_threshold(labels, p_fake, point=point, max_fpr=max_fpr)
            for name, point, max_fpr in POINTS
        },
    )


def apply_fit(fit: ValidationFacts, evaluated: Level, decision: Decision | None) -> ValidationFit:
    """Metrics of the evaluated videos under what was fitted on others.

    Args:
        fit: Of the validation videos.
        evaluated: Video level of the evaluated split.
        decision: Stored in the model; None for scores that are no probabilities, to which nothing applies.
    """
    if decision is None:
        return ValidationFit((), (), fit.fitted_on, fit.reason)
    temperature, p_evaluated = decision.temperature, evaluated.p_fake(decision.temperature)
    scalings: dict[str, Scaling] = {"none": ({}, evaluated.p_fake(1.0))}
    if temperature != 1.0:
        scalings["carried by the model"] = ({"temperature": temperature}, p_evaluated)
    if fit.temperature is not None:
        scalings["temperature"] = ({"temperature": fit.temperature}, evaluated.p_fake(fit.temperature))
    if fit.platt is not None:
        platt = PlattScaling(*fit.platt)
        scalings["Platt"] = ({"slope": platt.slope, "offset": platt.offset}, platt(evaluated.logits))
    points = tuple(
        evaluate_threshold(name, threshold, evaluated.labels, p_evaluated) for name, threshold in fit.thresholds.items()
    )
    return ValidationFit(points, _calibrations(evaluated.labels, scalings), fit.fitted_on, fit.reason)


def _calibrations(labels: np.ndarray, scalings: dict[str, Scaling]) -> tuple[CalibrationResult, ...]:
    return tuple(
        CalibrationResult(name, parameters, cross_entropy(labels, p), brier(labels, p), metrics.ece(labels, p))
        for name, (parameters, p) in scalings.items()
    )


def evaluate_threshold(name: str, threshold: float, labels: np.ndarray, p_fake: np.ndarray) -> OperatingPointResult:
    """Rates of a threshold.

    Args:
        name: Of the operating point.
        threshold: On p_fake.
        labels: (V,) 0 or 1.
        p_fake: (V,) calibrated.
    """
    true_negatives, false_positives, false_negatives, true_positives = metrics.confusion(
        labels, p_fake, threshold=threshold
    )
    num_fake, num_real = true_positives + false_negatives, true_negatives + false_positives
    return OperatingPointResult(
        name,
        threshold,
        tpr=true_positives / num_fake if num_fake else float("nan"),
        fpr=false_positives / num_real if num_real else float("nan"),
        balanced_accuracy=metrics.balanced_accuracy(labels, p_fake, threshold=threshold),
    )
