from __future__ import annotations

import numpy as np
import pytest

from dfkit.measures.bootstrap import group_bootstrap
from dfkit.measures.metrics import auc


def test_interval_of_a_mean_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(400)
    found = group_bootstrap([str(n) for n in range(400)], lambda at: float(values[at].mean()))
    # Normal theory: mean +- 1.96 s / sqrt(n); 2,000 resamples put the ends within a tenth of that width.
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_copies_inside_a_group_add_no_certainty() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal(40)
    once = group_bootstrap([str(n) for n in range(40)], lambda at: float(values[at].mean()))
    copied = np.repeat(values, 10)
    groups = [str(n // 10) for n in range(400)]
    grouped = group_bootstrap(groups, lambda at: float(copied[at].mean()))
    alone = group_bootstrap([str(n) for n in range(400)], lambda at: float(copied[at].mean()))
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    # Taken for 400 independent values the interval would be sqrt(10) too short.
    assert alone.high - alone.low == pytest.approx((once.high - once.low) / np.sqrt(10), rel=0.1)


def test_pairing_cancels_what_both_models_share() -> None:
    rng = np.random.default_rng(2)
    hardness = 5 * rng.standard_normal(200)
    a, b = hardness + 0.1 * rng.standard_normal(200), hardness - 0.2 + 0.1 * rng.standard_normal(200)
    paired = group_bootstrap([str(n) for n in range(200)], lambda at: float((a[at] - b[at]).mean()))
    assert 0.1 < paired.low < 0.2 < paired.high < 0.3


def test_too_little_to_resample_has_no_interval_but_a_reason() -> None:
    found = group_bootstrap(["one"] * 5, lambda at: float(at.mean()))
    assert found.value == 2 and np.isnan(found.low) and np.isnan(found.high)
    assert found.reason == "1 group(s), 2 are needed to resample"
    assert np.isnan(group_bootstrap([], lambda at: float(at.mean())).value)


def test_resamples_of_one_class_are_not_quietly_dropped() -> None:
    labels, scores = np.array([0, 1]), np.array([0.2, 0.8])
    found = group_bootstrap(["a", "b"], lambda at: auc(labels[at], scores[at]))
    # Half of all draws of two groups take the same one twice.
    assert found.value == 1 and np.isnan(found.low)
    assert found.reason is not None and "hold one class only" in found.reason


def test_the_same_seed_draws_the_same() -> None:
    values = np.random.default_rng(3).random(50)
    groups = [str(n // 2) for n in range(50)]
    first, again, other = (
        group_bootstrap(groups, lambda at: float(values[at].mean()), seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
