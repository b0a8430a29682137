"""Several models as one: soft voting, plain and weighted by how sure each model is; and what that gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dfkit.benchmarks.bootstrap import Interval, group_bootstrap
from dfkit.benchmarks.metrics import auc
from dfkit.distill.evaluate import ClipLogits
from dfkit.evaluation.uncertainty import entropy, logits_of
from dfkit.runtime.results import p_fake_of


def soft_vote(p_fake: np.ndarray) -> np.ndarray:
    """Mean probability: (M, ...) of M models to (...)."""
    return np.asarray(p_fake, np.float64).mean(axis=0)


def weighted_vote(p_fake: np.ndarray) -> np.ndarray:
    """Mean probability, each model weighted by how far its own answer is from a coin's.

    Args:
        p_fake: (M, ...) of M models.
    Returns:
        (...): weights 1 - H(p) / log 2, H the entropy in nats; the plain mean where all models toss coins.
    """
    p = np.asarray(p_fake, np.float64)
    weights = 1 - entropy(p) / np.log(2)
    total = weights.sum(axis=0)
    # Weights of 1e-9 are rounding, not knowledge.
    sure = total > 1e-9
    return np.where(sure, (weights * p).sum(axis=0) / np.where(sure, total, 1.0), p.mean(axis=0))


def join_members(members: Sequence[ClipLogits], temperatures: Sequence[float], *, weighted: bool) -> ClipLogits:
    """One answer per clip and frame out of several models' calibrated ones.

    Args:
        members: Of the same clips in the same order.
        temperatures: Calibration temperature of each.
        weighted: By each answer's entropy; else the plain mean.
    Returns:
        Logits whose softmax is the voted probability.
    """
    vote = weighted_vote if weighted else soft_vote
    joined = [
        logits_of(
            vote(
                np.stack(
                    [
                        p_fake_of(getattr(member, level), calibration_temperature=temperature)
                        for member, temperature in zip(members, temperatures, strict=True)
                    ]
                )
            )
        )
        for level in ("clip", "frame")
    ]
    return ClipLogits(members[0].indices, *joined)


@dataclass(frozen=True)
class Gain:
    """One way of answering against a single model, on the same videos."""

    name: str
    auc: float
    reference_auc: float
    difference: Interval
    """AUC less the reference's, paired bootstrap over groups."""

    def to_json(self) -> dict[str, Any]:
        """The fields; NaN is left to the writer."""
        return asdict(self)


def auc_gain(name: str, labels: np.ndarray, groups: Sequence[str], p_fake: np.ndarray, reference: np.ndarray) -> Gain:
    """AUC over that of one model.

    Args:
        name: Of the way of answering.
        labels: (V,) 0 or 1.
        groups: (V,) drawn as a whole.
        p_fake: (V,) of the way.
        reference: (V,) of one model.
    """

    def difference(at: np.ndarray) -> float:
        return auc(labels[at], p_fake[at]) - auc(labels[at], reference[at])

    return Gain(name, auc(labels, p_fake), auc(labels, reference), group_bootstrap(groups, difference))
