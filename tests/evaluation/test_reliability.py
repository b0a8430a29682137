from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from dfkit.evaluation.reliability import (
    PlattScaling,
    brier,
    cross_entropy,
    fit_platt_scaling,
    reliability_bins,
)
from dfkit.measures import metrics


def scores(seed: int = 1, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    margin = rng.normal(3.0 * labels - 0.5, 2.0)
    return labels, np.stack([np.zeros(count), margin], axis=1)


def test_platt_scaling_is_at_the_minimum_of_its_loss() -> None:
    labels, logits = scores()
    fakes, count = labels.sum(), len(labels)
    high, low = (fakes + 1) / (fakes + 2), 1 / (count - fakes + 2)
    targets = np.where(labels == 1, high, low)

    def loss(parameters: np.ndarray) -> float:
        """Cross-entropy as Platt 1999 writes it, against soft targets."""
        values = parameters[0] * logits[:, 1] + parameters[1]
        return float((np.logaddexp(0, values) - targets * values).sum())

    reference = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    fitted = fit_platt_scaling(logits, labels)
    # Half of a double's digits: a loss is flat at its minimum.
    assert (fitted.slope, fitted.offset) == pytest.approx(reference.x, abs=1e-6)


def test_platt_stays_finite_on_separable_data() -> None:
    logits = np.array([[0, -2.0], [0, -1.0], [0, 1.0], [0, 2.0]])
    fitted = fit_platt_scaling(logits, np.array([0, 0, 1, 1]))
    assert 0 < fitted.slope < 10 and fitted.offset == pytest.approx(0, abs=1e-6)
    assert PlattScaling(1.0, 0.0)(np.array([[3.0, 3.0], [0.0, 900.0]])).tolist() == [0.5, 1.0]


def test_measures_equal_scikit_learn() -> None:
    labels, logits = scores(2)
    p = PlattScaling(1.0, 0.0)(logits)
    assert cross_entropy(labels, p) == pytest.approx(log_loss(labels, p))
    assert brier(labels, p) == pytest.approx(brier_score_loss(labels, p))
    assert metrics.macro_f1(labels, p, threshold=0.3) == pytest.approx(f1_score(labels, p >= 0.3, average="macro"))
    assert np.isnan(cross_entropy(labels[:0], p[:0]))


def test_reliability_bins_by_hand() -> None:
    bins = reliability_bins(np.array([0, 1, 1, 1]), np.array([0.05, 0.15, 0.19, 1.0]))
    assert [(b.low, b.num, b.share_fake) for b in bins] == [(0.0, 1, 0.0), (0.1, 2, 1.0), (0.9, 1, 1.0)]
    assert bins[1].mean_p_fake == pytest.approx(0.17)
