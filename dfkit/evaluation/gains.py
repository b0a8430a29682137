"""What another way of scoring gains in AUC over a single model, on the same videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfkit.measures.bootstrap import Interval, group_bootstrap
from dfkit.measures.metrics import auc


@dataclass(frozen=True)
class AucGain:
    """AUC of an ensemble, Monte-Carlo dropout or test-time augmentation against one model's, on the same videos."""

    name: str
    auc: float
    reference_auc: float
    difference: Interval
    """AUC less the reference's, paired bootstrap over groups."""


def auc_gain(
    name: str, labels: np.ndarray, groups: Sequence[str], p_fake: np.ndarray, reference: np.ndarray
) -> AucGain:
    """What a method gains in AUC over a single model.

    Args:
        name: Of the method.
        labels: (V,) 0 or 1.
        groups: (V,) drawn as a whole by the bootstrap.
        p_fake: (V,) the method's.
        reference: (V,) the single model's p_fake.
    """

    def difference(places: np.ndarray) -> float:
        return auc(labels[places], p_fake[places]) - auc(labels[places], reference[places])

    return AucGain(name, auc(labels, p_fake), auc(labels, reference), group_bootstrap(groups, difference))
