"""A student whose weights suit int8 badly: trained under rounding, its INT8 graph answers as its float self."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from dfkit.export import tflite
from dfkit.export.recipes import recipe_named
from dfkit.models import MMMSBA
from dfkit.runtime.backends import TfliteGraphs
from dfkit.training.int8_rounding import Int8Rounding
from dfkit.training.task import ClipNetwork
from tests.export.tiny import SPEC, tiny_clip, tiny_network

CLIPS = [tiny_clip(seed) for seed in range(4)]
OUTLIER = 12.0
NUM_STEPS = 60


def badly_scaled() -> MMMSBA:
    """One weight of every channel is twelve times the largest: the others share a twelfth of the int8 steps."""
    network = tiny_network()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                rows = weight.flatten(1)
                rows[:, 0] = OUTLIER * rows.abs().amax(1)
    return network


def batch() -> dict[str, Tensor]:
    arrays = {name: torch.from_numpy(np.stack([clip[name] for clip in CLIPS])) for name in ("face", "lip", "pcm")}
    return {"face": arrays["face"], "lip": arrays["lip"], "waveform": arrays["pcm"]}


def answers(network: MMMSBA) -> Tensor:
    with torch.no_grad():
        output = ClipNetwork(network, SPEC).eval()(batch())
    return torch.cat([output.clip_logits[:, None], output.frame_logits], dim=1)


def int8_cost(network: MMMSBA) -> float:
    """Mean change of a logit by exporting as mixed_int8."""
    plain = tflite.convert(network, SPEC)
    pictures = [{name: clip[name] for name in ("face", "lip")} for clip in CLIPS]
    model = tflite.quantize(plain, recipe_named("mixed_int8"), network, SPEC, pictures)
    backend = tflite.describe(model, network, SPEC, "mixed_int8")
    graphs = TfliteGraphs(backend, {tflite.MODEL_FILE: model}, num_threads=1, where="test")
    found = []
    for clip in CLIPS:
        frame, whole = graphs.score({**graphs.encode(clip), "pcm": clip["pcm"]})
        found.append(np.concatenate([whole[None], frame]))
    return float(np.abs(np.stack(found) - answers(network).numpy()).mean())


def train_under_rounding(network: MMMSBA, wanted: Tensor) -> MMMSBA:
    student = copy.deepcopy(network).train()
    rounding, model = Int8Rounding(student), ClipNetwork(student, SPEC)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    for _ in range(NUM_STEPS):
        output = rounding(model, batch())
        joined = torch.cat([output.clip_logits[:, None], output.frame_logits], dim=1)
        optimizer.zero_grad()
        (joined - wanted).square().mean().backward()
        optimizer.step()
    return rounding.rounded_network()


@pytest.mark.long
def test_int8_costs_less_after_training_under_rounding() -> None:
    network = badly_scaled()
    wanted = answers(network)
    plainly_rounded = Int8Rounding(copy.deepcopy(network)).rounded_network()
    trained = train_under_rounding(network, wanted)
    # Training repairs what rounding the weights does to the answers, ...
    before, after = ((answers(n) - wanted).abs().mean() for n in (plainly_rounded, trained))
    # ... and the rounded weights lie on the exporter's grid, so that exporting changes less.
    cost_before, cost_after = int8_cost(network), int8_cost(trained)
    print(f"rounded weights: {before:.4f} -> {after:.4f}; INT8 graph: {cost_before:.4f} -> {cost_after:.4f}")
    assert after < 0.5 * before
    assert cost_after < 0.5 * cost_before
