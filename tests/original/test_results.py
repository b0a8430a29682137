"""Result files in the original's shapes, against hand counts and scikit-learn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from dfkit.errors import ShapeError
from dfkit.original.results import kfold_results, original_results, write_kfold_results, write_original_results

LABELS = [0, 0, 0, 1, 1, 1, 1]
P_FAKE = [0.1, 0.5, 0.4, 0.9, 0.2, 0.7, 0.6]


def test_counts_by_hand(tmp_path: Path) -> None:
    path = write_original_results(tmp_path / "test_results.json", LABELS, P_FAKE, 0.5)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content) == ["metrics", "confusion_matrix", "predictions", "labels", "probabilities"]
    # At 0.5 and above a video is called fake: of three reals one is, of four fakes one is not.
    assert content["predictions"] == [0, 1, 0, 1, 0, 1, 1]
    assert content["confusion_matrix"] == [[2, 1], [1, 3]]
    assert (content["labels"], content["probabilities"]) == (LABELS, P_FAKE)
    measured = content["metrics"]
    assert [measured[f"true_{n}"] for n in ("negatives", "positives")] == [2, 3]
    assert [measured[f"false_{n}"] for n in ("positives", "negatives")] == [1, 1]
    assert measured["accuracy"] == pytest.approx(5 / 7)
    # 12 pairs of a fake and a real: 0.9, 0.7, 0.6 beat all three reals, 0.2 beats one.
    assert measured["auc"] == pytest.approx(10 / 12)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.95])
def test_equals_scikit_learn(threshold: float) -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.uniform(0, 1, 200)
    measured = original_results(labels.tolist(), scores.tolist(), threshold=threshold)["metrics"]
    called = scores >= threshold
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, called, average="binary", zero_division=0)
    assert (measured["precision"], measured["recall"], measured["f1_score"]) == pytest.approx((precision, recall, f1))
    assert measured["accuracy"] == pytest.approx(sk.accuracy_score(labels, called))
    assert measured["auc"] == pytest.approx(sk.roc_auc_score(labels, scores))


def test_one_class_has_no_auc() -> None:
    measured = original_results([0, 0], [0.1, 0.2])["metrics"]
    assert measured["auc"] is None and measured["precision"] == measured["recall"] == measured["f1_score"] == 0


@pytest.mark.parametrize(("labels", "p_fake"), [([0, 1], [0.5]), ([], []), ([0, 1], [0.5, math.nan])])
def test_unusable_answers_are_refused(labels: list[int], p_fake: list[float]) -> None:
    with pytest.raises(ShapeError, match="expected two equal"):
        original_results(labels, p_fake)


def test_mean_and_spread_over_folds(tmp_path: Path) -> None:
    folds = [
        {"fold": n, "best_val_acc": a, "best_val_loss": 1.0, "best_val_precision": 0.5, "best_val_recall": 0.5}
        | {"best_val_f1": None, "best_epoch": n}
        for n, a in ((1, 0.5), (2, 0.7), (3, 0.9))
    ]
    path = write_kfold_results(tmp_path / "kfold_results.json", folds)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(kfold_results(folds)))
    assert (content["n_folds"], content["fold_results"]) == (3, folds)
    # (0.2^2 + 0 + 0.2^2) / (3 - 1) = 0.04.
    assert content["average_metrics"]["val_acc_mean"] == pytest.approx(0.7)
    assert content["average_metrics"]["val_acc_std"] == pytest.approx(0.2)
    assert content["average_metrics"]["val_f1_mean"] is None
