"""Corrections of class imbalance, and what several of them do together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dfkit.config import FitConfig
from dfkit.console import note
from dfkit.distill.losses import balanced_class_weights, effective_number_weights
from dfkit.errors import DataError


def class_weights(labels: Sequence[int], config: FitConfig) -> torch.Tensor | None:
    """Weights of real and fake for the loss, (2,) float32; None for equal ones.

    Args:
        labels: Of the training clips.
        config: Section of the run.
    """
    chosen = config.loss.class_weights
    if chosen is None:
        return None
    if chosen == "balanced":
        return balanced_class_weights(list(labels))
    if chosen == "effective_number":
        return effective_number_weights(list(labels), beta=config.loss.effective_beta)
    return torch.tensor(chosen)


@dataclass(frozen=True)
class Balance:
    """What a class's clips count for, all corrections taken together."""

    corrections: tuple[str, ...]
    """Those that are switched on."""
    per_clip: tuple[float, float]
    """Effective weight of one real and of one fake clip; mean 1 over the training clips."""
    share: tuple[float, float]
    """Share of both classes in the whole loss."""

    def line(self) -> str:
        """The effective weights in words."""
        return (
            f"{len(self.corrections)} corrections of class imbalance at once ({', '.join(self.corrections)}): a real "
            f"clip counts {self.per_clip[0]:.3f}, a fake one {self.per_clip[1]:.3f}; of the loss "
            f"{self.share[0]:.1%} is real and {self.share[1]:.1%} fake"
        )


def effective_balance(labels: Sequence[int], config: FitConfig) -> Balance:
    """Multiplies sampler, class weights and focal alpha.

    Args:
        labels: Of the training clips, both classes present.
        config: Section of the run.
    Raises:
        DataError: A class is missing.
    """
    counts = np.bincount(np.asarray(labels, dtype=int), minlength=2).astype(np.float64)
    if (counts == 0).any():
        raise DataError(
            f"the training clips are {counts[0]:.0f} real and {counts[1]:.0f} fake; both classes are needed"
        )
    corrections: list[str] = []
    factors = np.ones(2)
    if config.sampling.type == "weighted":
        corrections.append("weighted sampler")
        factors *= counts.sum() / (2 * counts)
    weights = class_weights(labels, config)
    if weights is not None:
        corrections.append(f"class weights {weights[0]:.3f} and {weights[1]:.3f}")
        factors *= weights.double().numpy()
    if config.loss.type == "focal" and config.loss.focal_alpha is not None:
        corrections.append(f"focal alpha {config.loss.focal_alpha[0]:g} and {config.loss.focal_alpha[1]:g}")
        factors *= np.asarray(config.loss.focal_alpha)
    total = factors * counts
    real, fake = (factors * counts.sum() / total.sum()).tolist()
    real_share, fake_share = (total / total.sum()).tolist()
    return Balance(tuple(corrections), (real, fake), (real_share, fake_share))


def announce_balance(labels: Sequence[int], config: FitConfig) -> None:
    """Says on stderr what two or more corrections do together, before training."""
    balance = effective_balance(labels, config)
    if len(balance.corrections) > 1:
        note(balance.line())
