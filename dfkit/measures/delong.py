"""DeLong's test: whether two detectors' AUC on the same videos differ, from the scores' placements.

It takes every video for an independent answer. Where videos of one person stand or fall together it is too sure:
beside it stands the paired bootstrap over groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from dfkit.measures.finite import finite_or_none
from dfkit.measures.metrics import average_ranks, why_undefined

MIN_PER_CLASS = 2
"""A sample variance needs two values."""


@dataclass(frozen=True)
class DeLongResult:
    """Two correlated AUC and the test of their difference; NaN where `reason` says why."""

    first_auc: float
    second_auc: float
    difference: float
    """First less second."""
    standard_error: float
    """Of the difference."""
    z: float
    p_value: float
    """Two-sided, of equal AUC."""
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field; NaN is None."""
        return {name: finite_or_none(value) for name, value in vars(self).items()}


def placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structural components of an AUC, in O(N log N).

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) finite.
    Returns:
        Of each fake the share of the reals that it outranks, (fakes,), and of each real the share of the fakes that
        outrank it, (reals,), ties counting half. The mean of either is the AUC.
    Source: DeLong, DeLong and Clarke-Pearson 1988, equations 4 and 5; by ranks as in Sun and Xu 2014.
    """
    is_fake = np.asarray(labels) == 1
    values = np.asarray(scores, np.float64)
    ranks = average_ranks(values)
    num_fake, num_real = int(is_fake.sum()), int((~is_fake).sum())
    of_fakes = (ranks[is_fake] - average_ranks(values[is_fake])) / num_real
    of_reals = 1 - (ranks[~is_fake] - average_ranks(values[~is_fake])) / num_fake
    return of_fakes, of_reals


def auc_covariance(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Covariance of the AUC of several detectors on the same answers.

    Args:
        labels: (N,) 0 or 1, at least two of each.
        scores: (K, N) finite.
    Returns:
        (K, K) float64.
    Source: DeLong et al. 1988, equation 6: S10 / m + S01 / n.
    """
    pairs = [placements(labels, row) for row in scores]
    of_fakes, of_reals = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    covariance = (
        np.atleast_2d(np.cov(of_fakes)) / of_fakes.shape[1] + np.atleast_2d(np.cov(of_reals)) / of_reals.shape[1]
    )
    return np.asarray(covariance, np.float64)


def delong_test(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLongResult:
    """Tests whether two detectors have the same AUC.

    Args:
        labels: (N,) 0 or 1.
        first: (N,) scores that rise with the evidence for fake.
        second: (N,) the other detector's, of the same videos in the same order.
    Returns:
        The test; where all placements of both agree the difference is 0 and the p-value 1.
    Source: DeLong et al. 1988, equation 7.
    """
    truth = np.asarray(labels)
    reason = why_undefined(truth, first) or why_undefined(truth, second)
    if reason is None and min(np.bincount(truth, minlength=2)) < MIN_PER_CLASS:
        reason = f"fewer than {MIN_PER_CLASS} videos of a class"
    if reason is not None:
        nan = math.nan
        return DeLongResult(nan, nan, nan, nan, nan, nan, reason)
    scores = np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    first_auc, second_auc = (float(placements(truth, row)[0].mean()) for row in scores)
    covariance = auc_covariance(truth, scores)
    difference = first_auc - second_auc
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Rounding leaves up to 1e-17 where the two rank all videos alike.
    if variance < 1e-15:
        if abs(difference) < 1e-12:
            return DeLongResult(first_auc, second_auc, 0.0, 0.0, 0.0, 1.0)
        return DeLongResult(
            first_auc, second_auc, difference, 0.0, math.nan, math.nan, "the difference has no variance here"
        )
    error = math.sqrt(variance)
    z = difference / error
    return DeLongResult(first_auc, second_auc, difference, error, z, 2 * NormalDist().cdf(-abs(z)))
