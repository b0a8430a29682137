from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as reference

from dfkit.measures import metrics


def answers(seed: int, *, ties: bool = False, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    p_fake = np.clip(0.5 + 0.18 * (2 * labels - 1) + 0.25 * rng.standard_normal(count), 0, 1)
    return labels, np.round(p_fake, 1) if ties else p_fake


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int, ties: bool) -> None:
    labels, p_fake = answers(seed, ties=ties)
    called = p_fake >= 0.4
    found = metrics.measure(labels, p_fake, threshold=0.4)
    # Both sum the same numbers in double precision.
    close = {"abs": 1e-12}
    assert found.auc == pytest.approx(reference.roc_auc_score(labels, p_fake), **close)
    assert found.accuracy == pytest.approx(reference.accuracy_score(labels, called), **close)
    assert found.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, called), **close)
    assert found.mcc == pytest.approx(reference.matthews_corrcoef(labels, called), **close)
    assert found.f1 == pytest.approx(reference.f1_score(labels, called), **close)
    fpr, tpr, thresholds = reference.roc_curve(labels, p_fake, drop_intermediate=False)
    for own, other in zip(metrics.roc_curve(labels, p_fake), (fpr, tpr, thresholds), strict=True):
        assert own == pytest.approx(other, **close)
    for limit, own in ((0.01, found.tpr_at_1_fpr), (0.05, found.tpr_at_5_fpr)):
        assert own == pytest.approx(tpr[fpr <= limit].max(), **close)
    assert metrics.confusion(labels, p_fake, threshold=0.4) == tuple(reference.confusion_matrix(labels, called).ravel())


def test_auc_by_hand() -> None:
    # Pairs (fake, real): 0.9 beats both, 0.4 beats 0.3 and ties 0.4: 3.5 of 4.
    assert metrics.auc(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.3])) == 3.5 / 4
    assert metrics.average_ranks(np.array([3.0, 1.0, 3.0, 3.0, 0.0])).tolist() == [4, 2, 4, 4, 1]


def test_auc_is_unchanged_by_a_rising_map_and_mirrored_by_a_falling_one() -> None:
    labels, p_fake = answers(7)
    own = metrics.auc(labels, p_fake)
    for rising in (np.exp, np.arctan, lambda x: 3 * x - 5, lambda x: x**3):
        assert metrics.auc(labels, rising(p_fake)) == own
    assert metrics.auc(labels, -p_fake) == pytest.approx(1 - own, abs=1e-12)
    assert metrics.auc(1 - labels, p_fake) == pytest.approx(1 - own, abs=1e-12)


def test_eer_by_interpolation() -> None:
    # ROC: (0,0) (0,1/2) (1/3,1/2) (1/3,1) (2/3,1) (1,1); misses 1 - TPR. On (0,1/2)-(1/3,1/2) false alarms stay
    # below 1/2; on the vertical part at 1/3 misses fall from 1/2 to 0 and meet 1/3.
    labels = np.array([1, 0, 1, 0, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    assert metrics.eer(labels, scores) == pytest.approx(1 / 3, abs=1e-12)
    # False alarms and misses per cut: 0, 1/2 | 1/3, 1/2 | 1/3, 0: nearest behind 0.8, in the middle to 0.7.
    assert metrics.operating_threshold(labels, scores, point="eer") == pytest.approx(0.75)
    # Between two points: FPR 0 to 1/2 while misses stay 1/2, crossing in the corner itself.
    assert metrics.eer(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx(0.5)
    # A slanted piece (a tie of one of each): FPR t, misses 1 - t, equal at one half.
    assert metrics.eer(np.array([1, 0]), np.array([0.5, 0.5])) == pytest.approx(0.5)
    assert metrics.eer(np.array([1, 0]), np.array([0.9, 0.1])) == 0


def test_eer_is_where_both_errors_meet() -> None:
    labels, p_fake = answers(3, count=4000)
    rate, threshold = metrics.eer(labels, p_fake), metrics.operating_threshold(labels, p_fake, point="eer")
    tn, fp, fn, tp = metrics.confusion(labels, p_fake, threshold=threshold)
    # One answer more or less on either side.
    assert fp / (fp + tn) == pytest.approx(rate, abs=1 / 1500)
    assert fn / (fn + tp) == pytest.approx(rate, abs=1 / 1500)


def test_ece_by_hand() -> None:
    # Two bins of [0, 1]: {0.2, 0.4} holds one fake of two, mean p 0.3: gap 0.2. {0.9} holds a fake: gap 0.1.
    labels, p_fake = np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9])
    assert metrics.ece(labels, p_fake, num_bins=2) == pytest.approx((2 * 0.2 + 1 * 0.1) / 3)
    assert metrics.ece(np.ones(3, int), np.ones(3)) == 0
    assert metrics.ece(np.zeros(3, int), np.ones(3)) == 1
    assert np.isnan(metrics.ece(np.array([1]), np.array([1.2])))


def test_ece_against_a_loop() -> None:
    labels, p_fake = answers(11)
    total = 0.0
    edges = np.linspace(0, 1, metrics.ECE_BINS + 1)
    for number, (low, high) in enumerate(pairwise(edges)):
        last = number == metrics.ECE_BINS - 1
        inside = (p_fake >= low) & ((p_fake <= high) if last else (p_fake < high))
        if inside.any():
            total += inside.mean() * abs(labels[inside].mean() - p_fake[inside].mean())
    assert metrics.ece(labels, p_fake) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], "all 3 labels are real"),
        ([1, 1], [0.1, 0.2], "all 2 labels are fake"),
        ([], [], "no answers"),
        ([0, 1], [0.1, float("nan")], "1 of 2 scores are not finite"),
        ([0, 1], [float("inf"), 0.1], "1 of 2 scores are not finite"),
    ],
)
def test_what_has_no_meaning_is_nan_with_a_reason(labels: list[int], scores: list[float], reason: str) -> None:
    found = metrics.measure(np.array(labels, int), np.array(scores), threshold=0.5)
    assert found.undefined == reason
    for name in ("auc", "balanced_accuracy", "mcc", "f1", "eer", "tpr_at_1_fpr", "tpr_at_5_fpr"):
        assert np.isnan(getattr(found, name)), name
    assert found.to_json()["auc"] is None
    with pytest.raises(ValueError, match=reason):
        metrics.roc_curve(np.array(labels, int), np.array(scores))


def test_one_class_answers_are_called_that() -> None:
    labels, p_fake = answers(1)
    constant = metrics.measure(labels, np.full_like(p_fake, 0.9), threshold=0.5)
    assert constant.answers_one_class and constant.mcc == 0 and constant.auc == 0.5
    assert not metrics.measure(labels, p_fake, threshold=0.5).answers_one_class


def test_wrong_input_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="one length"):
        metrics.auc(np.array([0, 1]), np.array([0.1]))
    with pytest.raises(ValueError, match="0 or 1"):
        metrics.auc(np.array([0, 2]), np.array([0.1, 0.2]))


def test_operating_points() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    p_fake = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])
    # All of 0.7 and up without a false alarm; TPR 3/4. Youden: 3/4 - 0 = 1 - 1/4, the fewer alarms win.
    assert metrics.operating_threshold(labels, p_fake, point="max_fpr", max_fpr=0.0) == pytest.approx(0.65)
    assert metrics.operating_threshold(labels, p_fake, point="youden") == pytest.approx(0.65)
    # One false alarm in four lets all fakes be found: between 0.4 and 0.3.
    assert metrics.operating_threshold(labels, p_fake, point="max_fpr", max_fpr=0.25) == pytest.approx(0.35)
    # Equal errors, 1/4 each, between 0.6 and 0.4.
    assert metrics.operating_threshold(labels, p_fake, point="eer") == pytest.approx(0.5)
    assert np.isnan(metrics.operating_threshold(np.zeros(3, int), np.ones(3), point="eer"))
    rng = np.random.default_rng(0)
    labels, p_fake = rng.integers(0, 2, 500), rng.random(500)
    for max_fpr in (0.0, 0.05, 0.3):
        threshold = metrics.operating_threshold(labels, p_fake, point="max_fpr", max_fpr=max_fpr)
        tn, fp, _, tp = metrics.confusion(labels, p_fake, threshold=threshold)
        assert fp / (fp + tn) <= max_fpr
        assert tp / labels.sum() == pytest.approx(metrics.tpr_at_fpr(labels, p_fake, max_fpr=max_fpr))
