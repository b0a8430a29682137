"""Result files in the original's format: `{split}_results.json` and `kfold_results.json`."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.errors import ShapeError
from dfkit.files import write_atomically
from dfkit.measures import metrics as measures

KFOLD_FILE = "kfold_results.json"
AVERAGED_METRICS = ("acc", "loss", "precision", "recall", "f1")


def results_name(split: str) -> str:
    """File name of a split's results."""
    return f"{split}_results.json"


def original_results(labels: Sequence[int], p_fake: Sequence[float], *, threshold: float = 0.5) -> dict[str, Any]:
    """The content of a `{split}_results.json`.

    Args:
        labels: (N,) 0 real, 1 fake; one per video.
        p_fake: (N,) in [0, 1].
        threshold: On p_fake; a video is called fake from it on. The original's is 0.5.
    Returns:
        `metrics`, `confusion_matrix` ([[TN, FP], [FN, TP]]), `predictions`, `labels` and `probabilities` (P fake).
        Precision, recall and F1 are of the class fake, and 0 where nothing is called fake or is fake; `auc` is None
        where one class is missing.
    Raises:
        ShapeError: The two differ in length, are empty, or a probability is NaN.
    """
    truth, scores = np.asarray(labels, np.int64), np.asarray(p_fake, np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape or not truth.size or not np.isfinite(scores).all():
        raise ShapeError(
            f"labels of shape {truth.shape} and p_fake of shape {scores.shape}: expected two equal (N,) without NaN"
        )
    tn, fp, fn, tp = measures.confusion(truth, scores, threshold=threshold)
    auc = measures.auc(truth, scores)
    return {
        "metrics": {
            "accuracy": (tp + tn) / truth.size,
            "precision": tp / max(tp + fp, 1),
            "recall": tp / max(tp + fn, 1),
            "f1_score": 2 * tp / max(2 * tp + fp + fn, 1),
            "true_negatives": tn,
            "false_positives": fp,
            "false_negatives": fn,
            "true_positives": tp,
            "auc": auc if math.isfinite(auc) else None,
        },
        "confusion_matrix": [[tn, fp], [fn, tp]],
        "predictions": (scores >= threshold).astype(int).tolist(),
        "labels": truth.tolist(),
        "probabilities": scores.tolist(),
    }


def write_original_results(
    path: str | Path, labels: Sequence[int], p_fake: Sequence[float], threshold: float = 0.5
) -> Path:
    """Writes a `{split}_results.json` as the original's evaluation does.

    Args:
        path: The file, `results_name(split)` by convention.
        labels: (N,) 0 real, 1 fake.
        p_fake: (N,) in [0, 1].
        threshold: On `p_fake`.
    Returns:
        The path.
    Raises:
        ShapeError: Labels and p_fake do not fit together; see `original_results`.
    """
    return _write(Path(path), original_results(labels, p_fake, threshold=threshold))


def kfold_results(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a `kfold_results.json`.

    Args:
        folds: Per fold `fold` (from 1 on), `best_val_acc`, `best_val_loss`, `best_val_precision`,
            `best_val_recall`, `best_val_f1`, `best_epoch` (from 0 on).
    Returns:
        `n_folds`, `fold_results`, and `average_metrics` with `val_*_mean` and `val_*_std`, the sample's
        standard deviation (ddof 1); None where a fold has no value.
    """
    averages: dict[str, float | None] = {}
    for name in AVERAGED_METRICS:
        values = [fold[f"best_val_{name}"] for fold in folds]
        is_complete = all(value is not None and math.isfinite(value) for value in values)
        averages[f"val_{name}_mean"] = statistics.fmean(values) if is_complete else None
        averages[f"val_{name}_std"] = statistics.stdev(values) if is_complete and len(values) > 1 else None
    return {"n_folds": len(folds), "fold_results": [dict(fold) for fold in folds], "average_metrics": averages}


def write_kfold_results(path: str | Path, folds: Sequence[Mapping[str, Any]]) -> Path:
    """Writes a `kfold_results.json`.

    Args:
        path: The file, `KFOLD_FILE` by convention.
        folds: One row per fold; see `kfold_results`.
    Returns:
        The path.
    """
    return _write(Path(path), kfold_results(folds))


def _write(path: Path, content: dict[str, Any]) -> Path:
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path
