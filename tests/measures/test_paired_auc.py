"""AUC within folds, of weighted resamples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dfkit.measures.bootstrap import stratified_weights
from dfkit.measures.paired_auc import PairedAuc, auc_within_folds


def test_scores_of_one_fold_are_compared_with_each_other_alone() -> None:
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert auc_within_folds(labels, scores, np.array([1, 1, 2, 2])) == 1
    assert auc_within_folds(labels, scores, np.array([1, 1, 1, 1])) == 0.75
    assert np.isnan(auc_within_folds(labels, scores, np.array([1, 2, 3, 4])))
    assert np.isnan(auc_within_folds(np.zeros(0, int), np.zeros(0), np.zeros(0, int)))


def test_weights_are_answers_drawn_so_often() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    # Few values: many ties.
    scores = rng.integers(0, 8, 60) / 8
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    found = PairedAuc(labels, scores, np.zeros(60, int), np.arange(60)).values(weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        at = np.repeat(np.arange(60), row)
        assert value == pytest.approx(roc_auc_score(labels[at], scores[at]))


def test_draws_keep_groups_whole_and_strata_full() -> None:
    groups = ["a", "a", "b", "c", "d", "d", "e"]
    strata = ["x", "x", "x", "y", "y", "y", "y"]
    weights = np.concatenate(list(stratified_weights(groups, strata, repeats=300, seed=1)))
    assert weights.shape == (300, 7)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 4] == weights[:, 5]).all()
    assert (weights[:, 0] + weights[:, 2] == 2).all()
    assert (weights[:, 3] + weights[:, 4] + weights[:, 6] == 3).all()
    # Each group is drawn once on average: 0.1 is more than two standard errors of the mean of 300 draws.
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)


def test_draws_come_in_pieces_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfkit.measures.bootstrap.WEIGHTS_AT_ONCE", 20)
    pieces = list(stratified_weights(list("abcdefg"), ["x"] * 7, repeats=5))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
