"""From logits to probabilities: Platt scaling, and how good probabilities are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 10
"""Of the reliability diagram."""
MAX_STEPS = 100


@dataclass(frozen=True)
class Platt:
    """p_fake = 1 / (1 + exp(-(slope * margin + offset))), margin = logit of fake less logit of real."""

    slope: float
    offset: float

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """(..., 2) logits to (...) p_fake."""
        return sigmoid(self.slope * margins(logits) + self.offset)


def margins(logits: np.ndarray) -> np.ndarray:
    """(..., 2) to (...) float64: logit of fake less logit of real."""
    values = np.asarray(logits, np.float64)
    return values[..., 1] - values[..., 0]


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Without overflow on either side."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64)))


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> Platt:
    """Slope and offset that minimise cross-entropy against softened targets, by damped Newton steps.

    Args:
        logits: (N, 2), of validation data.
        labels: (N,) 0 or 1, both present.
    Source: Platt 1999, with the targets (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), which keep the slope finite on
        data that a threshold separates; Newton as in Lin, Lin and Weng 2007, algorithm 1.
    """
    x, truth = margins(logits), np.asarray(labels)
    fakes = int(truth.sum())
    targets = np.where(truth == 1, (fakes + 1) / (fakes + 2), 1 / (truth.size - fakes + 2))
    # Columns: margin, one.
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.array([0.0, np.log((fakes + 1) / (truth.size - fakes + 1))])

    def loss(at: np.ndarray) -> float:
        scores = design @ at
        return float((np.logaddexp(0, scores) - targets * scores).sum())

    for _ in range(MAX_STEPS):
        p = sigmoid(design @ weights)
        gradient = design.T @ (p - targets)
        if np.abs(gradient).max() < 1e-10 * truth.size:
            break
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-10:
            size /= 2
        weights = weights - size * step
    return Platt(float(weights[0]), float(weights[1]))


def cross_entropy(labels: np.ndarray, p_fake: np.ndarray) -> float:
    """Mean -log of the probability of the label, in nats; NaN without answers."""
    if not len(labels):
        return float("nan")
    p = np.clip(np.where(np.asarray(labels) == 1, p_fake, 1 - np.asarray(p_fake)), 1e-15, 1)
    return float(-np.log(p).mean())


def brier(labels: np.ndarray, p_fake: np.ndarray) -> float:
    """Mean squared distance of p_fake from the label; NaN without answers. Source: Brier 1950."""
    return float(((np.asarray(p_fake) - np.asarray(labels)) ** 2).mean()) if len(labels) else float("nan")


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose p_fake lies in one bin."""

    low: float
    high: float
    num: int
    mean_p_fake: float
    share_fake: float


def reliability_bins(labels: np.ndarray, p_fake: np.ndarray, *, num_bins: int = NUM_BINS) -> list[ReliabilityBin]:
    """Bins of equal width over [0, 1]; empty ones are left out.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
        num_bins: The last one includes 1.
    """
    truth, scores = np.asarray(labels), np.asarray(p_fake, np.float64)
    places = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    return [
        ReliabilityBin(
            place / num_bins,
            (place + 1) / num_bins,
            int((places == place).sum()),
            float(scores[places == place].mean()),
            float(truth[places == place].mean()),
        )
        for place in np.unique(places)
    ]
