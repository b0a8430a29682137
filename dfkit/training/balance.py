"""Corrections of class imbalance, and the effect of several of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dfkit.config import FitConfig
from dfkit.console import note
from dfkit.errors import DataError
from dfkit.training.losses import balanced_class_weights, effective_number_weights


def class_weights(labels: Sequence[int], config: FitConfig) -> torch.Tensor | None:
    """Weights of real and fake for the loss, (2,) float32; None for equal ones.

    Args:
        labels: 0 or 1 of each training clip.
        config: Section of the run; its loss is used.
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
class ClassBalance:
    """Effective weight of each class in the loss, all corrections taken together."""

    corrections: tuple[str, ...]
    """The corrections that are switched on, with their weights, in words."""
    per_clip: tuple[float, float]
    """Effective weight of one real and of one fake clip; the mean over the training clips is 1."""
    share: tuple[float, float]
    """Share of real and of fake clips in the whole loss; the sum is 1."""

    def description(self) -> str:
        """Corrections and effective weights in one sentence."""
        return (
            f"{len(self.corrections)} corrections of class imbalance at once ({', '.join(self.corrections)}): a real "
            f"clip counts {self.per_clip[0]:.3f}, a fake one {self.per_clip[1]:.3f}; of the loss "
            f"{self.share[0]:.1%} is real and {self.share[1]:.1%} fake"
        )


def effective_class_balance(labels: Sequence[int], config: FitConfig) -> ClassBalance:
    """Effective class weights of sampler, loss weights and focal alpha together.

    Args:
        labels: 0 or 1 of each training clip, both classes present.
        config: Section of the run; its sampling and loss are used.
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
    class_totals = factors * counts
    real_weight, fake_weight = (factors * counts.sum() / class_totals.sum()).tolist()
    real_share, fake_share = (class_totals / class_totals.sum()).tolist()
    return ClassBalance(tuple(corrections), (real_weight, fake_weight), (real_share, fake_share))


def note_class_balance(labels: Sequence[int], config: FitConfig) -> None:
    """Notes on stderr, before training, what two or more corrections do together; nothing for fewer."""
    balance = effective_class_balance(labels, config)
    if len(balance.corrections) > 1:
        note(balance.description())
