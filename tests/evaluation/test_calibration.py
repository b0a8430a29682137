from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from dfkit.benchmarks import metrics
from dfkit.evaluation.calibration import Platt, brier, cross_entropy, fit_platt, margins, reliability_bins


def scores(seed: int = 1, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    margin = rng.normal(3.0 * labels - 0.5, 2.0)
    return labels, np.stack([np.zeros(count), margin], axis=1)


def test_platt_equals_logistic_regression_on_its_own_targets() -> None:
    labels, logits = scores()
    fakes, count = labels.sum(), len(labels)
    # Softened targets as weighted hard ones: an independent solver for the same minimum.
    high, low = (fakes + 1) / (fakes + 2), 1 / (count - fakes + 2)
    targets = np.where(labels == 1, high, low)
    x = np.concatenate([margins(logits)] * 2)[:, None]
    y = np.concatenate([np.ones(count), np.zeros(count)])
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        x, y, sample_weight=np.concatenate([targets, 1 - targets])
    )
    fitted = fit_platt(logits, labels)
    assert fitted.slope == pytest.approx(reference.coef_[0, 0], abs=1e-4)
    assert fitted.offset == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_platt_stays_finite_on_separable_data() -> None:
    logits = np.array([[0, -2.0], [0, -1.0], [0, 1.0], [0, 2.0]])
    fitted = fit_platt(logits, np.array([0, 0, 1, 1]))
    assert 0 < fitted.slope < 10 and fitted.offset == pytest.approx(0, abs=1e-6)
    assert Platt(1.0, 0.0)(np.array([[3.0, 3.0], [0.0, 900.0]])).tolist() == [0.5, 1.0]


def test_measures_equal_scikit_learn() -> None:
    labels, logits = scores(2)
    p = Platt(1.0, 0.0)(logits)
    assert cross_entropy(labels, p) == pytest.approx(log_loss(labels, p))
    assert brier(labels, p) == pytest.approx(brier_score_loss(labels, p))
    assert metrics.macro_f1(labels, p, threshold=0.3) == pytest.approx(f1_score(labels, p >= 0.3, average="macro"))
    assert np.isnan(cross_entropy(labels[:0], p[:0]))


def test_reliability_bins_by_hand() -> None:
    bins = reliability_bins(np.array([0, 1, 1, 1]), np.array([0.05, 0.15, 0.19, 1.0]))
    assert [(b.low, b.num, b.share_fake) for b in bins] == [(0.0, 1, 0.0), (0.1, 2, 1.0), (0.9, 1, 1.0)]
    assert bins[1].mean_p_fake == pytest.approx(0.17)
