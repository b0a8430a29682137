"""What a network begins with: the weights of a trunk that came with some, and first weights that take inputs of any
scale, as if what no CNN of its own made came with mean 0 and deviation 1.

The first of 40 MFCC is of the order of -300, the last of 5, and motion of 0.5: a GRU of plain first weights begins
saturated by a few of them. Here the same network begins with these weights divided by each input's deviation, and its
biases take the means off: format, graph and phone know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from dfkit.config import DistillConfig, TrainConfig
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.measures.spacing import evenly_spaced
from dfkit.models.efficientnet_lite import load_lite0_blocks, packaged_weights
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.training.fit import compute_device
from dfkit.training.fitted_statistics import fit_statistics, fixed_steps
from dfkit.training.objective import Batch
from dfkit.training.task import ClipNetwork

NUM_CLIPS = 256
"""Training clips that means and deviations are taken of, spread over all."""
SMALLEST_SHARE = 0.01
"""Of the largest deviation: what hardly varies, perhaps by rounding alone, is raised a hundredfold at most."""


def new_network(spec: NetworkSpec, *, dropout: float, dense_dropout: float) -> MMMSBA:
    """A network of random weights, and those that its face trunk came with.

    Args:
        spec: Architecture.
        dropout: After each GRU.
        dense_dropout: Before each dense layer.
    Raises:
        MissingExtraError: The trunk's weights are not installed.
    """
    network = MMMSBA(spec, gru_dropout=dropout, dense_dropout=dense_dropout)
    if network.trunk_parameters():
        trunk = load_lite0_blocks(packaged_weights(), spec.face_blocks)
        network.set_submodule("visual_feature_extractor.trunk", trunk)
    return network


def start_on(
    model: ClipNetwork,
    data: PreparedData,
    clips: list[int],
    section: TrainConfig | DistillConfig,
    *,
    standardised: bool,
) -> None:
    """Suits a new network to its training clips, in place: its clip statistics, and the scale of its inputs. The clips
    run through it where the training does.

    Args:
        model: Of fresh weights, on the CPU, where it is afterwards, too.
        data: Prepared data.
        clips: Training clips.
        section: Of the run.
        standardised: Whether first weights take inputs of any scale.
    """
    model.to(compute_device(section))
    fit_statistics(model, data, clips, section)
    if standardised:
        standardise(model, data, clips)
    model.cpu()


@torch.no_grad()
def standardise(model: ClipNetwork, data: PreparedData, clips: list[int]) -> None:
    """Suits the input weights of a new network to its training clips, in place: of the GRUs of sound and motion, and of
    the face behind a trunk that came with weights; those behind a CNN that is new stay.

    Args:
        model: Of fresh weights.
        data: Prepared data.
        clips: Training clips.
    """
    for name, steps in _measure(model, data, clips).items():
        if name in model.network.spec.streams:
            _standardise(model.network.encoder(name).gru, torch.cat([each.flatten(0, 1) for each in steps]))


def divisors(deviations: Tensor) -> Tensor:
    """Deviations to divide by, (N,): none below a hundredth of the largest, and 1 where all are 0."""
    return deviations.clamp(min=SMALLEST_SHARE * float(deviations.max()) or 1.0)


def _standardise(gru: torch.nn.GRU, steps: Tensor) -> None:
    """Scales the input weights of a GRU by steps of training clips, (N, C)."""
    steps = steps.to(gru.get_parameter("weight_ih_l0").device)
    deviation = divisors(steps.std(0))
    for end in ("", "_reverse"):
        weight, bias = (gru.get_parameter(f"{name}_ih_l0{end}") for name in ("weight", "bias"))
        weight.div_(deviation)
        bias.sub_(weight @ steps.mean(0))


def _measure(model: ClipNetwork, data: PreparedData, clips: list[int]) -> Mapping[str, list[Tensor]]:
    """What the GRUs take of some clips, (1, T, C) each, by modality."""
    pictures = bool(model.network.trunk_parameters())
    dataset = ClipDataset(data, [clips[place] for place in evenly_spaced(len(clips), NUM_CLIPS)], pictures=pictures)
    found: dict[str, list[Tensor]] = {}
    for place in range(len(dataset)):
        for name, steps in fixed_steps(model, cast(Batch, collate_padded([dataset[place]]))).items():
            found.setdefault(name, []).append(steps)
    return found
