"""Platt scaling of logits, and how well calibrated probabilities are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfkit.measures.decision import margins_of

NUM_BINS = 10
"""Of the reliability diagram."""
SOLVER_TOLERANCE = 1e-10
"""Largest gradient at which Platt scaling has converged; in nats per unit of the slope."""


@dataclass(frozen=True)
class PlattScaling:
    """p_fake = 1 / (1 + exp(-(slope * margin + offset))), margin = logit of fake less logit of real."""

    slope: float
    offset: float

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Probability of fake: (..., 2) logits to (...) float64 in [0, 1]."""
        return sigmoid(self.slope * margins_of(logits) + self.offset)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Logistic function, (...) to (...) float64, without overflow on either side."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64)))


def fit_platt_scaling(logits: np.ndarray, labels: np.ndarray) -> PlattScaling:
    """Slope and offset that minimise cross-entropy against softened targets, by scikit-learn's logistic regression.

    Args:
        logits: (N, 2), of validation data.
        labels: (N,) 0 or 1, both present.
    Source: Platt 1999, with the targets (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), which keep the slope finite on
        data that a threshold separates.
    """
    from sklearn.linear_model import LogisticRegression

    is_fake = np.asarray(labels) == 1
    num_fake, num_real = int(is_fake.sum()), int((~is_fake).sum())
    targets = np.where(is_fake, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))
    # A soft target is two hard ones: each row counts once as fake with weight t and once as real with weight 1 - t.
    margins = np.tile(margins_of(logits), 2)[:, None]
    hard_labels = np.repeat([1, 0], len(targets))
    weights = np.concatenate([targets, 1 - targets])
    # C is infinite: no penalty on the slope.
    regression = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=SOLVER_TOLERANCE)
    regression.fit(margins, hard_labels, sample_weight=weights)
    return PlattScaling(slope=float(regression.coef_[0, 0]), offset=float(regression.intercept_[0]))


def cross_entropy(labels: np.ndarray, p_fake: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
    Returns:
        Nats; NaN where N is 0.
    """
    if not len(labels):
        return float("nan")
    p_label = np.where(np.asarray(labels) == 1, p_fake, 1 - np.asarray(p_fake))
    return float(-np.log(np.clip(p_label, 1e-15, 1)).mean())


def brier(labels: np.ndarray, p_fake: np.ndarray) -> float:
    """Brier score: mean squared difference of p_fake and label.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
    Returns:
        In [0, 1]; NaN where N is 0.
    Source: Brier 1950.
    """
    if not len(labels):
        return float("nan")
    return float(((np.asarray(p_fake) - np.asarray(labels)) ** 2).mean())


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions whose p_fake lies in one bin."""

    low: float
    """Lower edge, in [0, 1]."""
    high: float
    """Upper edge."""
    num: int
    """Predictions in the bin, at least 1."""
    mean_p_fake: float
    share_fake: float
    """Share of them whose label is fake."""


def reliability_bins(labels: np.ndarray, p_fake: np.ndarray, *, num_bins: int = NUM_BINS) -> list[ReliabilityBin]:
    """Bins of equal width over [0, 1]; empty ones are left out.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
        num_bins: The last one includes 1.
    """
    truth, scores = np.asarray(labels), np.asarray(p_fake, np.float64)
    bin_of_score = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    bins = []
    for number in np.unique(bin_of_score):
        inside = bin_of_score == number
        bins.append(
            ReliabilityBin(
                low=number / num_bins,
                high=(number + 1) / num_bins,
                num=int(inside.sum()),
                mean_p_fake=float(scores[inside].mean()),
                share_fake=float(truth[inside].mean()),
            )
        )
    return bins
