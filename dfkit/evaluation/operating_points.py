"""Thresholds and calibrations fitted on validation videos alone, and their metrics on the evaluated ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dfkit.evaluation.levels import Level
from dfkit.evaluation.reliability import brier, cross_entropy, fit_platt_scaling
from dfkit.measures import metrics
from dfkit.measures.decision import MIN_VIDEOS_PER_CLASS, Decision, fit_temperature, margins_of, p_fake_of
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


def fit_and_apply(
    validation: Level | None, evaluated: Level, decision: Decision, *, unfitted: str | None = None
) -> ValidationFit:
    """Fits thresholds and calibrations on validation videos and applies them to the evaluated ones.

    Args:
        validation: Video level of the validation split; None where it is empty.
        evaluated: Video level of the evaluated split.
        decision: Stored in the model; thresholds lie on p_fake under its calibration temperature.
        unfitted: Why nothing is to be fitted, where that was decided already.
    """
    temperature = decision.calibration.calibration_temperature
    scalings: dict[str, Scaling] = {
        "none": ({}, p_fake_of(evaluated.logits, calibration_temperature=1.0)),
    }
    if temperature != 1.0:
        scalings["carried by the model"] = (
            {"temperature": temperature},
            p_fake_of(evaluated.logits, calibration_temperature=temperature),
        )
    counts = np.zeros(2, int) if validation is None else np.bincount(validation.labels, minlength=2)
    fitted_on = f"{counts[0]} real and {counts[1]} fake validation videos"
    if validation is None or counts.min() < MIN_VIDEOS_PER_CLASS:
        reason = unfitted or f"{fitted_on}, at least {MIN_VIDEOS_PER_CLASS} of each are needed"
        return ValidationFit((), _calibrations(evaluated.labels, scalings), fitted_on, reason)
    new_temperature = fit_temperature(margins_of(validation.logits), validation.labels).temperature
    platt = fit_platt_scaling(validation.logits, validation.labels)
    scalings["temperature"] = (
        {"temperature": new_temperature},
        p_fake_of(evaluated.logits, calibration_temperature=new_temperature),
    )
    scalings["Platt"] = ({"slope": platt.slope, "offset": platt.offset}, platt(evaluated.logits))
    p_validation = p_fake_of(validation.logits, calibration_temperature=temperature)
    p_evaluated = p_fake_of(evaluated.logits, calibration_temperature=temperature)
    points = []
    for name, point, max_fpr in POINTS:
        threshold = metrics.operating_threshold(validation.labels, p_validation, point=point, max_fpr=max_fpr)
        points.append(evaluate_threshold(name, threshold, evaluated.labels, p_evaluated))
    return ValidationFit(tuple(points), _calibrations(evaluated.labels, scalings), fitted_on, None)


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
