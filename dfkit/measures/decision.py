"""From logits to a verdict: calibration, operating point, and how both are chosen on validation videos."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, PositiveFloat

from dfkit.measures import metrics
from dfkit.measures.review import review_band

Verdict = Literal["real", "fake", "review"]


def p_fake_of(logits: np.ndarray, *, calibration_temperature: float) -> np.ndarray:
    """Probability of fake.

    Args:
        logits: (..., 2), class 1 fake.
        calibration_temperature: Divides the logits; > 0.
    Returns:
        (...) float64 in [0, 1].
    """
    gap = (logits[..., 0].astype(np.float64) - logits[..., 1]) / calibration_temperature
    # exp of more than 709 overflows a double; the answer is 0 long before.
    return np.asarray(1.0 / (1.0 + np.exp(np.minimum(gap, 700.0))))


def verdict_of(p_fake: float, point: OperatingPoint) -> Verdict:
    """Verdict at an operating point: `review` from `review_low` up to, not including, `review_high`."""
    if point.review_low <= p_fake < point.review_high:
        return "review"
    return "fake" if p_fake >= point.threshold else "real"


class Calibration(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """From logits to `p_fake`: softmax(logits / temperature)[1]."""

    calibration_temperature: PositiveFloat = 1.0
    """Unitless."""
    fitted_on: str = "not fitted"
    """Which data it was fitted on."""


class OperatingPoint(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Where `p_fake` becomes a verdict."""

    threshold: float = Field(ge=0, le=1)
    """Fake from here on."""
    review_low: float = Field(ge=0, le=1)
    """`review` from here ..."""
    review_high: float = Field(ge=0, le=1)
    """... to here; both equal to the threshold where there is no band."""
    name: str
    """Operating point and the data it was chosen on, such as `EER on 3 validation groups`."""


# Below this many validation videos of each class a fitted temperature or threshold is noise.
MIN_VIDEOS_PER_CLASS = 10


@dataclass(frozen=True)
class Decision:
    """Calibration and operating point: all that turns logits into a verdict."""

    calibration: Calibration = field(default_factory=Calibration)
    operating_point: OperatingPoint = field(
        default_factory=lambda: OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="0.5, not fitted")
    )


def decide_on(labels: np.ndarray, video_logits: np.ndarray) -> Decision:
    """Fits calibration, threshold and review band on validation videos.

    Args:
        labels: (V,) 0 or 1.
        video_logits: (V, 2), class 1 fake; the mean over each video's clips.
    Returns:
        The decision; with fewer than `MIN_VIDEOS_PER_CLASS` videos of a class nothing is fitted, and it says so.
    """
    counts = np.bincount(labels, minlength=2)
    seen = f"{counts[0]} real and {counts[1]} fake validation videos"
    if counts.min() < MIN_VIDEOS_PER_CLASS:
        reason = f"0.5, not fitted: {seen}, at least {MIN_VIDEOS_PER_CLASS} of each are needed"
        point = OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name=reason)
        return Decision(Calibration(fitted_on=f"not fitted: {seen}"), point)
    temperature = fit_temperature(video_logits, labels)
    scores = p_fake_of(video_logits, calibration_temperature=temperature)
    threshold = metrics.operating_threshold(labels, scores, point="eer")
    band = review_band(labels, scores, threshold=threshold)
    name = f"EER on {seen}; {band.description}"
    point = OperatingPoint(threshold=threshold, review_low=band.low, review_high=band.high, name=name)
    return Decision(Calibration(calibration_temperature=temperature, fitted_on=seen), point)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature that minimises cross-entropy, between 0.05 and 20.

    Args:
        logits: (N, 2).
        labels: (N,) 0 or 1.
    Returns:
        Unitless; divides the logits.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2, by golden-section search over its logarithm.
    """
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) * np.where(labels == 1, 1, -1)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -margin / np.exp(log_temperature)).mean())

    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))
