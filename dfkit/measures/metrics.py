"""Metrics of a two-class detector, numpy only: training, bench and audit count with the same ones.

Labels are 0 (real) and 1 (fake); a score rises with the evidence for fake. Where a metric has no meaning,
because one class is missing or a score is not finite, it is NaN and `why_undefined` says why: a NaN passes
no gate, and a made-up 0 or 0.5 would.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from dfkit.measures.finite import finite_or_none

NAN = float("nan")
ECE_BINS = 15
"""Bins of equal width in [0, 1]; 15 as in Guo et al. 2017, arXiv:1706.04599, section 2."""


@dataclass(frozen=True)
class BinaryMetrics:
    """All metrics of one list of scores; NaN where `undefined` gives a reason."""

    num: int
    num_real: int
    num_fake: int
    threshold: float
    auc: float
    accuracy: float
    balanced_accuracy: float
    mcc: float
    f1: float
    macro_f1: float
    """Mean of the F1 of the fakes and that of the real ones."""
    eer: float
    tpr_at_1_fpr: float
    """TPR at no more than 1 % false alarms."""
    tpr_at_5_fpr: float
    ece: float
    """Calibration error of `p_fake`, in [0, 1]."""
    answers_one_class: bool
    """True where every answer falls on one side of the threshold."""
    undefined: str | None
    """Why metrics are NaN."""

    def to_json(self) -> dict[str, Any]:
        """The fields, NaN as None (JSON has no NaN)."""
        return {key: finite_or_none(value) for key, value in asdict(self).items()}


def why_undefined(labels: np.ndarray, scores: np.ndarray) -> str | None:
    """Says why ranking metrics of these answers have no value.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
    Returns:
        The reason, or None where they have one.
    Raises:
        ValueError: Lengths differ or a label is neither 0 nor 1.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be one list each, of one length")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {sorted(set(labels.tolist()) - {0, 1})[:5]}")
    if labels.size == 0:
        return "no answers"
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        return f"{broken} of {scores.size} scores are not finite"
    if labels.min() == labels.max():
        return f"all {labels.size} labels are {'fake' if labels[0] else 'real'}"
    return None


def average_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1 on, equal scores sharing the mean of their places.

    Args:
        scores: (N,) finite.
    Returns:
        (N,) float64.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a fake scores above a real one, ties counting half.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,); only their order matters.
    Returns:
        In [0, 1], or NaN (see `why_undefined`).
    Source: Mann and Whitney 1947 (U statistic); Hanley and McNeil 1982.
    """
    if why_undefined(labels, scores):
        return NAN
    labels = np.asarray(labels)
    num_fake = int(labels.sum())
    num_real = labels.size - num_fake
    rank_sum = average_ranks(np.asarray(scores, dtype=np.float64))[labels == 1].sum()
    return float((rank_sum - num_fake * (num_fake + 1) / 2) / (num_fake * num_real))


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the ROC curve, from nothing called fake to everything.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) finite.
    Returns:
        False positive rate, true positive rate, and the threshold (fake from here on) of each point; the
        first threshold is infinite. One point for each distinct score.
    Raises:
        ValueError: `why_undefined` has a reason.
    """
    reason = why_undefined(labels, scores)
    if reason:
        raise ValueError(f"no ROC curve: {reason}")
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    sorted_scores = np.asarray(scores, dtype=np.float64)[order]
    sorted_labels = np.asarray(labels)[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), sorted_scores.size - 1)
    hits = np.cumsum(sorted_labels)[ends]
    false_alarms = ends + 1 - hits
    fpr = np.concatenate([[0.0], false_alarms / (sorted_labels.size - sorted_labels.sum())])
    tpr = np.concatenate([[0.0], hits / sorted_labels.sum()])
    return fpr, tpr, np.concatenate([[np.inf], sorted_scores[ends]])


def eer(labels: np.ndarray, scores: np.ndarray) -> float:
    """Equal error rate: where false alarms equal misses on the ROC curve, whose points are joined by lines.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
    Returns:
        In [0, 1]; NaN where undefined.
    """
    if why_undefined(labels, scores):
        return NAN
    fpr, tpr, _ = roc_curve(labels, scores)
    gap = fpr - (1 - tpr)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(fpr[before] + share * (fpr[after] - fpr[before]))


def tpr_at_fpr(labels: np.ndarray, scores: np.ndarray, *, max_fpr: float) -> float:
    """Share of the fakes found with no more than the given share of false alarms.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        max_fpr: In [0, 1]. Not interpolated: a threshold either keeps to it or not.
    Returns:
        In [0, 1], or NaN.
    """
    if why_undefined(labels, scores):
        return NAN
    fpr, tpr, _ = roc_curve(labels, scores)
    return float(tpr[fpr <= max_fpr].max())


def confusion(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> tuple[int, int, int, int]:
    """Confusion matrix at a threshold.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
        threshold: Fake from here on.
    Returns:
        True negatives, false positives, false negatives, true positives; fake is the positive class.
    """
    called_fake = np.asarray(p_fake, dtype=np.float64) >= threshold
    is_fake = np.asarray(labels) == 1
    true_negatives = int((~called_fake & ~is_fake).sum())
    false_positives = int((called_fake & ~is_fake).sum())
    false_negatives = int((~called_fake & is_fake).sum())
    true_positives = int((called_fake & is_fake).sum())
    return true_negatives, false_positives, false_negatives, true_positives


def accuracy(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> float:
    """Share of right answers; NaN without answers or with a score that is not finite."""
    scores = np.asarray(p_fake, dtype=np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        return NAN
    true_negatives, _, _, true_positives = confusion(labels, scores, threshold=threshold)
    return (true_negatives + true_positives) / scores.size


def balanced_accuracy(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> float:
    """Mean of the shares of right answers among the real and among the fake; NaN where undefined."""
    if why_undefined(labels, p_fake):
        return NAN
    tn, fp, fn, tp = confusion(labels, p_fake, threshold=threshold)
    return (tn / (tn + fp) + tp / (tp + fn)) / 2


def mcc(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> float:
    """Matthews correlation of answers and labels.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
        threshold: Fake from here on.
    Returns:
        In [-1, 1]; 0 where all answers are one class, NaN where all labels are.
    Source: Matthews 1975; the 0 is the limit that Chicco and Jurman 2020 give for an empty row.
    """
    if why_undefined(labels, p_fake):
        return NAN
    tn, fp, fn, tp = (float(v) for v in confusion(labels, p_fake, threshold=threshold))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return 0.0 if product == 0 else (tp * tn - fp * fn) / float(np.sqrt(product))


def f1(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> float:
    """Harmonic mean of precision and recall of the fakes; NaN where undefined."""
    if why_undefined(labels, p_fake):
        return NAN
    _, fp, fn, tp = confusion(labels, p_fake, threshold=threshold)
    return 2 * tp / (2 * tp + fp + fn)


def macro_f1(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> float:
    """Mean of the F1 of both classes; NaN where undefined."""
    if why_undefined(labels, p_fake):
        return NAN
    tn, fp, fn, tp = confusion(labels, p_fake, threshold=threshold)
    # With both classes there, neither denominator can be 0.
    f1_fake = 2 * tp / (2 * tp + fp + fn)
    f1_real = 2 * tn / (2 * tn + fp + fn)
    return (f1_fake + f1_real) / 2


def ece(labels: np.ndarray, p_fake: np.ndarray, *, num_bins: int = ECE_BINS) -> float:
    """Calibration error: how far the share of fakes lies from `p_fake`, over bins of equal width.

    Args:
        labels: (N,) 0 or 1; one class alone is fine.
        p_fake: (N,) in [0, 1].
        num_bins: Bins over [0, 1]; the last one includes 1.
    Returns:
        Mean distance weighted by the bins' counts, in [0, 1]; NaN without answers, with a score that is not
        finite or outside of [0, 1].
    Source: Naeini et al. 2015; on the probability of class 1, not on that of the class chosen.
    """
    scores = np.asarray(p_fake, dtype=np.float64)
    if scores.size == 0 or not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        return NAN
    bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=np.asarray(labels) - scores, minlength=num_bins)
    return float(np.abs(gaps).sum() / scores.size)


def operating_threshold(
    labels: np.ndarray,
    p_fake: np.ndarray,
    *,
    point: Literal["eer", "youden", "max_fpr"],
    max_fpr: float = 0.05,
) -> float:
    """Threshold of a named operating point.

    Args:
        labels: (N,) 0 or 1, of validation data.
        p_fake: (N,) in [0, 1].
        point: `eer` equal errors; `youden` largest TPR - FPR; `max_fpr` most fakes found with no more than
            `max_fpr` false alarms.
        max_fpr: Only for `max_fpr`.
    Returns:
        Fake from here on, in the middle between two neighbouring scores; NaN where undefined.
    Source: Youden 1950 for `youden`.
    """
    if why_undefined(labels, p_fake):
        return NAN
    fpr, tpr, thresholds = roc_curve(labels, p_fake)
    misses = 1 - tpr
    if point == "eer":
        # Nearest to equal errors; of equally near ones that with fewer of both.
        place = int(np.lexsort((fpr + misses, np.round(np.abs(fpr - misses), 12)))[0])
    elif point == "youden":
        # Of equally good points the one with fewer false alarms: argmax takes the first.
        place = int(np.argmax(tpr - fpr))
    else:
        place = int(np.argmax(np.where(fpr <= max_fpr, tpr, -1.0)))
    above = 1.0 if place == 0 else float(thresholds[place])
    below = float(thresholds[place + 1]) if place + 1 < thresholds.size else 0.0
    return (above + below) / 2


def measure(labels: np.ndarray, p_fake: np.ndarray, *, threshold: float) -> BinaryMetrics:
    """All metrics of one list of answers.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,) in [0, 1].
        threshold: Fake from here on.
    Returns:
        The metrics, NaN where undefined.
    """
    labels, scores = np.asarray(labels), np.asarray(p_fake, dtype=np.float64)
    called_fake = scores >= threshold
    return BinaryMetrics(
        num=labels.size,
        num_real=int((labels == 0).sum()),
        num_fake=int((labels == 1).sum()),
        threshold=threshold,
        auc=auc(labels, scores),
        accuracy=accuracy(labels, scores, threshold=threshold),
        balanced_accuracy=balanced_accuracy(labels, scores, threshold=threshold),
        mcc=mcc(labels, scores, threshold=threshold),
        f1=f1(labels, scores, threshold=threshold),
        macro_f1=macro_f1(labels, scores, threshold=threshold),
        eer=eer(labels, scores),
        tpr_at_1_fpr=tpr_at_fpr(labels, scores, max_fpr=0.01),
        tpr_at_5_fpr=tpr_at_fpr(labels, scores, max_fpr=0.05),
        ece=ece(labels, scores),
        answers_one_class=bool(labels.size and (called_fake.all() or not called_fake.any())),
        undefined=why_undefined(labels, scores),
    )


def measure_ranks(labels: np.ndarray, scores: np.ndarray) -> BinaryMetrics:
    """Metrics of scores that are no probabilities: those that only ask for their order; the others are NaN.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) of any range; they rise with the evidence for fake.
    """
    ranked = measure(labels, scores, threshold=NAN)
    no_threshold = dict.fromkeys(("accuracy", "balanced_accuracy", "mcc", "f1", "macro_f1", "ece"), NAN)
    return replace(ranked, **no_threshold, answers_one_class=False)  # type: ignore[arg-type]
