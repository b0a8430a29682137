"""How far answers agree: spread of repeated passes, entropy, and what of it more knowledge could remove."""

from __future__ import annotations

import numpy as np

TINY = 1e-12
"""Probabilities are kept this far from 0 and 1 before a logarithm."""


def logits_of(p_fake: np.ndarray) -> np.ndarray:
    """Logits whose softmax is a probability: (...) to (..., 2), log(1 - p) and log(p)."""
    p = np.clip(np.asarray(p_fake, np.float64), TINY, 1 - TINY)
    return np.stack([np.log1p(-p), np.log(p)], axis=-1)


def entropy(p_fake: np.ndarray) -> np.ndarray:
    """Entropy of real against fake, in nats, at most log 2; (...) to (...)."""
    p = np.clip(np.asarray(p_fake, np.float64), TINY, 1 - TINY)
    return -(p * np.log(p) + (1 - p) * np.log1p(-p))


def spread_of(passes: np.ndarray) -> dict[str, np.ndarray]:
    """Uncertainty of repeated answers.

    Args:
        passes: (N, B) p_fake of each pass.
    Returns:
        `std` of p_fake, `entropy` of the mean answer (all uncertainty, nats), and `mutual_information`, the part
        of it that comes from the passes' disagreement (never negative); each (B,).
    Source: Houlsby et al. 2011, arXiv:1112.5745, section 2; Gal 2016, thesis, section 3.3.1.
    """
    whole = entropy(passes.mean(axis=0))
    own = entropy(passes).mean(axis=0)
    return {"std": passes.std(axis=0), "entropy": whole, "mutual_information": np.maximum(whole - own, 0.0)}
