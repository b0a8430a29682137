"""A linear probe of a face trunk that came with weights, as the stream that a network begins with.

A regression on features that nobody trained here carries over to other generators better than a GRU that is trained on
the same few people, and fine-tuning bends what it starts from least where the head fits already (Kumar et al. 2022,
arXiv:2202.10054).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from dfkit.config.augment import AugmentConfig
from dfkit.data.datasets import ClipDataset
from dfkit.data.storage import PreparedData
from dfkit.measures.spacing import evenly_spaced
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.pictures import to_unit_range
from dfkit.training.augment import Augmenter

PICTURES = 8
"""Faces of a clip that are looked at."""
LINEAR = 0.25
"""Margins are shrunk by it before two tanh, which leave those up to one unit as they are (5 %) and bound any other."""
SMALL = 1e-3
"""Of recurrent weights, which begin as good as nothing."""
OPEN_GATE = -8.0
"""Bias of an update gate that lets nothing of the state before through: sigmoid(-8) = 3e-4."""


@dataclass(frozen=True)
class LinearProbe:
    """A logistic regression on the trunk's features of one picture."""

    weight: NDArray[np.float64]
    """(F,) of the features as they are."""
    bias: float

    def margin(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log odds of fake: (..., F) to (...,)."""
        return cast("NDArray[np.float64]", features @ self.weight + self.bias)


@torch.no_grad()
def probe_features(
    network: MMMSBA, data: PreparedData, clips: list[int], augment: AugmentConfig, *, copies: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean features of clips, as they are and augmented anew for every copy.

    Args:
        network: With a face trunk; of it the trunk alone is run.
        data: Prepared data.
        clips: Labelled ones.
        augment: What the copies go through.
        copies: Beside the clips as they are.
        seed: Of the copies.
    Returns:
        (N (1 + copies), F) and the labels (N (1 + copies),).
    """
    trunk = network.picture_network("face")
    rows, labels = [], []
    for copy in range(1 + copies):
        dataset = ClipDataset(data, clips, augmenter=Augmenter(augment, seed, data.spec) if copy else None)
        for place in range(len(clips)):
            sample = dataset[(copy, place)]
            faces = sample["face"][evenly_spaced(len(sample["face"]), PICTURES)]
            rows.append(trunk(to_unit_range(faces)).mean(0).numpy())
            labels.append(int(sample["label"]))
    return np.stack(rows), np.array(labels)


def fit_probe(features: NDArray[np.float32], labels: NDArray[np.int64], *, strength: float) -> LinearProbe:
    """Fits a regression on standardised features, both classes weighed alike.

    Args:
        features: (N, F).
        labels: (N,) 0 or 1.
        strength: Inverse of the L2 penalty, scikit-learn's C.
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features.mean(0), features.std(0) + 1e-6
    fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(
        (features - mean) / deviation, labels
    )
    weight = fitted.coef_[0] / deviation
    return LinearProbe(weight, float(fitted.intercept_[0] - weight @ mean))


@torch.no_grad()
def set_probe(network: MMMSBA, probe: LinearProbe) -> None:
    """Makes the face stream answer as the probe does, in place; other streams and blocks are no longer read.

    Every unit of the GRU holds each frame's margin, and hands it through the dense layer to the head; the gates keep
    nothing of the frames before. The margin is spread over all units, in different sizes, since INT8 takes the grid of
    a layer from its largest value, and since units that are all alike would stay so in further training.

    Args:
        network: Its head reads the face stream alone afterwards.
        probe: Of its trunk's features.
    """
    gru, dense = network.encoder("face").gru, network.dense("face")[1]
    hidden, width = network.spec.gru_hidden, network.spec.dense_dim
    sizes = torch.linspace(0.5, 1.5, hidden) * LINEAR
    generator = torch.Generator().manual_seed(0)
    for end in ("", "_reverse"):
        weight_ih, weight_hh, bias_ih, bias_hh = (
            gru.get_parameter(f"{kind}_l0{end}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        for tensor in (weight_ih, bias_ih, bias_hh):
            tensor.zero_()
        weight_hh.copy_(torch.randn(weight_hh.shape, generator=generator) * SMALL)
        bias_ih[hidden : 2 * hidden] = OPEN_GATE
        weight_ih[2 * hidden :] = sizes[:, None] * torch.from_numpy(probe.weight).float()
        bias_ih[2 * hidden :] = sizes * probe.bias
    scales = torch.linspace(0.5, 1.5, width)[:, None] / (2 * hidden)
    cast(torch.Tensor, dense.weight).copy_(scales.expand(-1, 2 * hidden))
    cast(torch.Tensor, dense.bias).zero_()
    head = cast(torch.nn.Linear, network.classifier[0])
    head.weight.zero_()
    head.bias.zero_()
    own = network.spec.columns["face"]
    head.weight[0, own], head.weight[1, own] = -0.5 / (LINEAR * width), 0.5 / (LINEAR * width)
