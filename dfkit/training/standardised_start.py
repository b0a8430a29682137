"""First weights that take inputs of any scale: as if what no CNN of its own made came with mean 0 and deviation 1.

The first of 40 MFCC is of the order of -300, the last of 5, and motion of 0.5: a GRU of plain first weights begins
saturated by a few of them. Here the same network begins with these weights divided by each input's deviation, and its
biases take the means off: format, graph and phone know nothing of it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.measures.spacing import evenly_spaced
from dfkit.models.pictures import to_unit_range
from dfkit.training.objective import Batch
from dfkit.training.task import ClipNetwork

NUM_CLIPS = 64
"""Training clips that means and deviations are taken of, spread over all."""
SMALLEST_SHARE = 0.01
"""Of a stream's largest deviation: an input that hardly varies is raised a hundredfold at most."""


@torch.no_grad()
def standardise_start(model: ClipNetwork, data: PreparedData, clips: list[int]) -> None:
    """Scales the input weights of the GRUs of sound and motion, and of the face behind a trunk that came with weights,
    in place; those behind a CNN that is new stay.

    Args:
        model: Of fresh weights, on the CPU.
        data: Prepared data.
        clips: Training clips.
    """
    pictures = bool(model.network.trunk_parameters())
    dataset = ClipDataset(data, [clips[place] for place in evenly_spaced(len(clips), NUM_CLIPS)], pictures=pictures)
    found: dict[str, list[Tensor]] = {}
    for place in range(len(dataset)):
        for name, steps in _steps(model, cast(Batch, collate_padded([dataset[place]]))).items():
            found.setdefault(name, []).append(steps.flatten(0, 1))
    for name, parts in found.items():
        steps = torch.cat(parts)
        deviation = steps.std(0)
        deviation = deviation.clamp(min=SMALLEST_SHARE * float(deviation.max()) or 1.0)
        for end in ("", "_reverse"):
            weight, bias = (
                model.network.encoder(name).gru.get_parameter(f"{n}_ih_l0{end}") for n in ("weight", "bias")
            )
            weight.div_(deviation)
            bias.sub_(weight @ steps.mean(0))


def _steps(model: ClipNetwork, batch: Batch) -> dict[str, Tensor]:
    """What the GRUs take of that, (1, T, C) by modality."""
    steps = {}
    if "audio" in model.network.spec.modalities:
        steps["audio"] = batch["mfcc"] if model.front_end is None else model.front_end(batch["waveform"])
    if model.motion is not None:
        steps["motion"] = model.motion(batch["landmarks"])
    if model.network.trunk_parameters():
        steps["face"] = model.network.frame_features("face", to_unit_range(batch["face"]))
    return steps
