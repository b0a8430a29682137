"""Uncertainty of repeated stochastic predictions: standard deviation, entropy and mutual information."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-12
"""Probabilities are kept this far from 0 and 1 before a logarithm."""


def logits_from_p_fake(p_fake: np.ndarray) -> np.ndarray:
    """Logits whose softmax is a given probability.

    Args:
        p_fake: (...) in [0, 1].
    Returns:
        (..., 2) float64: log(1 - p) and log(p).
    """
    p = np.clip(np.asarray(p_fake, np.float64), EPSILON, 1 - EPSILON)
    return np.stack([np.log1p(-p), np.log(p)], axis=-1)


def binary_entropy(p_fake: np.ndarray) -> np.ndarray:
    """Entropy of the binary distribution real or fake.

    Args:
        p_fake: (...) in [0, 1].
    Returns:
        (...) float64 in nats, at most log 2.
    """
    p = np.clip(np.asarray(p_fake, np.float64), EPSILON, 1 - EPSILON)
    return -(p * np.log(p) + (1 - p) * np.log1p(-p))


def predictive_uncertainty(passes: np.ndarray) -> dict[str, np.ndarray]:
    """Uncertainty of repeated stochastic predictions of the same clips.

    Args:
        passes: (N, B) p_fake in [0, 1], of N passes over B clips.
    Returns:
        `std` of p_fake, `entropy` of the mean prediction (the total uncertainty, nats), and `mutual_information`, the
        part of it that comes from disagreement between passes (nats, never negative); each (B,).
    Source: Houlsby et al. 2011, arXiv:1112.5745, section 2; Gal 2016, thesis, section 3.3.1.
    """
    total_entropy = binary_entropy(passes.mean(axis=0))
    mean_pass_entropy = binary_entropy(passes).mean(axis=0)
    return {
        "std": passes.std(axis=0),
        "entropy": total_entropy,
        "mutual_information": np.maximum(total_entropy - mean_pass_entropy, 0.0),
    }
