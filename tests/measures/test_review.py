from __future__ import annotations

import numpy as np
import pytest

from dfkit.measures.review import review_band


def test_the_smallest_band_by_hand() -> None:
    # Errors at 0.5: the real one at 0.55 and the fake at 0.45. With both inside none is left.
    labels = np.array([0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1])
    scores = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.55, 0.7, 0.8, 0.9, 0.95, 0.97])
    band = review_band(labels, scores, threshold=0.5)
    assert (band.low, band.high) == (pytest.approx(0.375), pytest.approx(0.625))
    assert (band.num_inside, band.num_errors, band.met) == (2, 0, True)
    # Nothing needs to be inside where one error in six is allowed.
    loose = review_band(labels, scores, threshold=0.5, target_error=2 / 12)
    assert (loose.low, loose.high, loose.num_inside, loose.num_errors) == (0.5, 0.5, 0, 2)
    # One error among eleven is 9.1 %: the side with the single error is cheaper than both.
    one = review_band(labels, scores, threshold=0.5, target_error=0.1)
    assert one.num_inside == 1 and one.num_errors == 1


def test_no_band_where_the_model_guesses() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    band = review_band(labels, rng.permutation(np.linspace(0.1, 0.9, 60)), threshold=0.5)
    assert not band.met and band.low == band.high == 0.5
    assert "no review band" in band.description


def test_nothing_to_choose_on_is_no_band() -> None:
    band = review_band(np.zeros(0, int), np.zeros(0), threshold=0.4)
    assert not band.met and band.low == band.high == 0.4


def test_the_band_keeps_its_promise_on_random_scores() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 200)
        scores = np.clip(rng.normal(0.4 + 0.25 * labels, 0.15), 0, 1)
        band = review_band(labels, scores, threshold=0.5, target_error=0.08)
        outside = (scores < band.low) | (scores >= band.high)
        wrong = outside & ((scores >= 0.5) != (labels == 1))
        assert wrong.sum() == band.num_errors and (~outside).sum() == band.num_inside
        if band.met:
            assert wrong.sum() <= 0.08 * outside.sum() and band.low <= 0.5 <= band.high
