"""DeLong's test against hand arithmetic, a sum over all pairs, and a published value."""

from __future__ import annotations

import numpy as np
import pytest

from dfkit.measures.delong import auc_covariance, delong_test, placements
from dfkit.measures.metrics import auc


def covariance_by_pairs(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """DeLong et al. 1988, equations 4 to 6, as they stand there: a kernel for every pair of a fake and a real."""
    fakes, reals = scores[:, labels == 1], scores[:, labels == 0]
    kernel = (fakes[:, :, None] > reals[:, None, :]) + 0.5 * (fakes[:, :, None] == reals[:, None, :])
    theta, v10, v01 = kernel.mean(axis=(1, 2)), kernel.mean(axis=2), kernel.mean(axis=1)
    num_fake, num_real = fakes.shape[1], reals.shape[1]
    s10 = (v10 - theta[:, None]) @ (v10 - theta[:, None]).T / (num_fake - 1)
    s01 = (v01 - theta[:, None]) @ (v01 - theta[:, None]).T / (num_real - 1)
    return s10 / num_fake + s01 / num_real


def test_by_hand() -> None:
    """Two fakes and two reals. A ranks 4 3 | 2 1: AUC 1. B ranks 4 1 | 3 2: AUC 1/2, of placements 1, 0 | 1/2, 1/2."""
    labels = np.array([1, 1, 0, 0])
    a, b = np.array([4.0, 3, 2, 1]), np.array([4.0, 1, 3, 2])
    assert [part.tolist() for part in placements(labels, b)] == [[1.0, 0.0], [0.5, 0.5]]
    # Variance of (1, 0) with ddof 1 is 1/2, over two fakes 1/4; A's placements do not vary.
    np.testing.assert_allclose(auc_covariance(labels, np.stack([a, b])), [[0, 0], [0, 0.25]])
    found = delong_test(labels, a, b)
    assert (found.first_auc, found.second_auc, found.difference, found.standard_error) == (1.0, 0.5, 0.5, 0.5)
    # z is 1: two-sided 0.3173, as in any table of the normal distribution.
    assert found.z == 1.0 and found.p_value == pytest.approx(0.3173, abs=5e-5)


@pytest.mark.parametrize("seed", range(4))
def test_against_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0, 0, 1, 1, *(rng.random(40) < 0.4)]).astype(int)
    # Rounded: with ties within and across the classes.
    scores = np.round(labels + rng.normal(0, 1.5, (3, 44)), 1)
    np.testing.assert_allclose(auc_covariance(labels, scores), covariance_by_pairs(labels, scores), atol=1e-14)
    for row in scores:
        fakes, reals = placements(labels, row)
        assert fakes.mean() == pytest.approx(auc(labels, row)) == pytest.approx(reals.mean())


def test_a_published_variance() -> None:
    """Golden value of test.py in yandexdataschool/roc_comparison at 62da5b8, another's code for Sun and Xu 2014."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    iris = load_iris()
    x_train, x_test, y_train, y_test = train_test_split(
        iris.data, (iris.target == 1).astype(int), test_size=0.8, random_state=42
    )
    p_class = LogisticRegression(solver="lbfgs").fit(x_train, y_train).predict_proba(x_test)[:, 1]
    assert auc_covariance(y_test, p_class[None])[0, 0] == pytest.approx(0.0015359814789736538, rel=1e-12)


def test_properties() -> None:
    rng = np.random.default_rng(9)
    labels = np.arange(50) % 2
    a, b = labels + rng.normal(0, 1, 50), labels + rng.normal(0, 2, 50)
    found, swapped = delong_test(labels, a, b), delong_test(labels, b, a)
    assert (swapped.difference, swapped.z, swapped.p_value) == (-found.difference, -found.z, found.p_value)
    risen = delong_test(labels, np.exp(a), b)
    assert risen == found
    same = delong_test(labels, a, 3 * a + 1)
    assert (same.difference, same.z, same.p_value, same.reason) == (0.0, 0.0, 1.0, None)


def test_what_has_no_value() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    assert "labels are real" in str(delong_test(np.zeros(4, int), scores, scores).reason)
    assert "fewer than 2" in str(delong_test(np.array([0, 1, 1, 1]), scores, scores).reason)
    nan = delong_test(labels, scores, np.array([0.1, np.nan, 0.3, 0.4]))
    assert "not finite" in str(nan.reason) and nan.to_json()["p_value"] is None
    # One separates perfectly, the other perfectly the wrong way round: a difference of 1 without any variance.
    turned = delong_test(labels, scores, -scores)
    assert turned.difference == 1.0 and np.isnan(turned.p_value) and "no variance" in str(turned.reason)
