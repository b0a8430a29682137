"""Several models as one: soft voting, plain and weighted by each model's confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dfkit.evaluation.uncertainty import binary_entropy, logits_from_p_fake
from dfkit.measures.decision import p_fake_of
from dfkit.training.scoring import ClipLogits


def soft_vote(p_fake: np.ndarray) -> np.ndarray:
    """Soft voting: the mean probability of M models.

    Args:
        p_fake: (M, ...) in [0, 1].
    Returns:
        (...) float64 in [0, 1].
    """
    return np.asarray(p_fake, np.float64).mean(axis=0)


def weighted_vote(p_fake: np.ndarray) -> np.ndarray:
    """Soft voting in which each model is weighted by its confidence.

    Args:
        p_fake: (M, ...) in [0, 1], of M models.
    Returns:
        (...) float64: mean under the weights 1 - H(p) / log 2, H the entropy in nats; the plain mean where every
        model is undecided, that is at p = 0.5.
    """
    probabilities = np.asarray(p_fake, np.float64)
    confidences = 1 - binary_entropy(probabilities) / np.log(2)
    total_confidence = confidences.sum(axis=0)
    # A confidence of 1e-9 is rounding.
    any_confident = total_confidence > 1e-9
    divisor = np.where(any_confident, total_confidence, 1.0)
    weighted_mean = (confidences * probabilities).sum(axis=0) / divisor
    return np.where(any_confident, weighted_mean, probabilities.mean(axis=0))


def mean_logits(
    members: Sequence[np.ndarray], temperatures: Sequence[float], shares: Sequence[float] | None = None
) -> np.ndarray:
    """The mean of several models' calibrated logits: a model that is surer has more of a say than in a vote of
    probabilities, which is why ensembles are distilled so and judged by `soft_vote`.

    Args:
        members: Logits of each model for the same clips, frames or videos, (..., 2).
        temperatures: Calibration temperature of each model; > 0.
        shares: Of each model in the mean; equal where left out.
    Returns:
        (..., 2) float32.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2 (geometric mean of an ensemble's predictions).
    """
    calibrated = [
        np.asarray(logits, np.float64) / temperature for logits, temperature in zip(members, temperatures, strict=True)
    ]
    return np.average(np.stack(calibrated), axis=0, weights=shares).astype(np.float32)


def combine_members(members: Sequence[ClipLogits], temperatures: Sequence[float], *, weighted: bool) -> ClipLogits:
    """Combines the calibrated predictions of several models into one per clip and frame.

    Args:
        members: Logits of each model for the same clips in the same order.
        temperatures: Calibration temperature of each model; > 0.
        weighted: Whether models are weighted by their confidence; else the plain mean is taken.
    Returns:
        Logits whose softmax is the voted probability.
    """
    vote = weighted_vote if weighted else soft_vote
    clip_probabilities = [
        p_fake_of(member.clip, calibration_temperature=temperature)
        for member, temperature in zip(members, temperatures, strict=True)
    ]
    frame_probabilities = [
        p_fake_of(member.frame, calibration_temperature=temperature)
        for member, temperature in zip(members, temperatures, strict=True)
    ]
    return ClipLogits(
        members[0].indices,
        clip=logits_from_p_fake(vote(np.stack(clip_probabilities))),
        frame=logits_from_p_fake(vote(np.stack(frame_probabilities))),
    )
