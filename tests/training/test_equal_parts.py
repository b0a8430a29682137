"""Parts of a network's logits: equally loud over the training clips, and nothing else of it changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.mmms_ba import MMMSBA, PARTS
from dfkit.training.equal_parts import equal_scales, equalise_parts
from dfkit.training.fitted_statistics import fit_statistics
from dfkit.training.task import ClipNetwork
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import COUNTING, SPEC, eight_videos, tiny_config

TEACHER: dict[str, Any] = {"modalities": ["audio", "lip", "motion"], "clip_statistics": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return eight_videos(tmp_path_factory.mktemp("data") / "x")


def margins(model: ClipNetwork, data: PreparedData, clips: list[int]) -> Tensor:
    """Of each part, and of the whole in the last column."""
    output = model.eval()(collate_padded([ClipDataset(data, clips)[place] for place in range(len(clips))]))
    logits = torch.cat([output.features[PARTS], output.clip_logits[:, None]], dim=1).detach().double()
    return logits[..., 1] - logits[..., 0]


def deviations(model: ClipNetwork, data: PreparedData, clips: list[int]) -> list[float]:
    return margins(model, data, clips).std(0, correction=0).tolist()


def test_scales_make_parts_equal_and_keep_their_sum_as_loud_as_it_was() -> None:
    torch.manual_seed(0)
    parts = torch.randn(200, 4, dtype=torch.float64) * torch.tensor([3.0, 0.5, 0.0, 0.1]) + 2
    scales = equal_scales(parts)
    after = parts * scales
    assert scales[2] == 1
    loudness = after.std(0, correction=0)[[0, 1, 3]].tolist()
    assert loudness == pytest.approx([loudness[0]] * 3)
    assert float(after.sum(1).std()) == pytest.approx(float(parts.sum(1).std()))
    assert equal_scales(torch.full((5, 2), 7.0)).tolist() == [1, 1]


def test_a_part_that_varies_by_rounding_alone_stays_unheard() -> None:
    torch.manual_seed(0)
    parts = torch.randn(200, 2, dtype=torch.float64) * torch.tensor([1.0, 1e-8])
    scales = equal_scales(parts)
    assert float((parts * scales)[:, 1].std()) < 1e-5


def test_parts_that_cancel_each_other_stay_finite() -> None:
    """On two clips two parts that disagree are exact opposites once they are equally loud."""
    parts = torch.tensor([[1.0, -3.0], [2.0, -9.0]], dtype=torch.float64)
    after = parts * equal_scales(parts)
    deviation = float(torch.tensor([0.5, 3.0]).norm() / 2**0.5)
    assert after.std(0, correction=0).tolist() == pytest.approx([deviation, deviation])
    opposites = torch.tensor([[1.0, -1.0], [2.0, -2.0]], dtype=torch.float64)
    assert equal_scales(opposites).tolist() == pytest.approx([1, 1])


def test_a_networks_parts_become_equal_and_stay_what_they_say(data: PreparedData) -> None:
    torch.manual_seed(0)
    model = ClipNetwork(MMMSBA(COUNTING), SPEC)
    clips = list(range(len(data)))
    fit_statistics(model, data, clips, tiny_config().train)
    with torch.no_grad():
        model.network.classifier[0].weight.mul_(5)
    before, state = margins(model, data, clips), {name: each.clone() for name, each in model.state_dict().items()}
    batches = [collate_padded([ClipDataset(data)[place]]) for place in clips]
    equalise_parts(model, batches)
    after = margins(model, data, clips)
    loudness = after.std(0, correction=0).tolist()
    assert loudness[:3] == pytest.approx([loudness[0]] * 3, rel=1e-3) and loudness[0] > 0 == loudness[3]
    assert loudness[4] == pytest.approx(float(before.std(0, correction=0)[4]), rel=1e-3)
    # Each part is what it was times a number: at 0 it says nothing, before as after.
    for part in range(3):
        ratio = after[:, part] / before[:, part]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)
    changed = {name for name, each in model.state_dict().items() if not torch.equal(each, state[name])}
    assert changed == {
        f"network.{layer}.{each}"
        for layer in ("classifier.0", "statistics.audio.linear", "statistics.audio_deviation.linear")
        for each in ("weight", "bias")
    }
    equalise_parts(model, batches)
    torch.testing.assert_close(margins(model, data, clips), after, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("equal_parts", [True, False])
def test_training_ends_with_equal_parts_unless_told_otherwise(
    data: PreparedData, tmp_path: Path, equal_parts: bool
) -> None:
    config = tiny_config(teacher=TEACHER | {"equal_parts": equal_parts})
    checkpoint = load_checkpoint(train_teacher(data.path, Workspace(tmp_path), config).checkpoint)
    found = deviations(ClipNetwork(checkpoint.network, SPEC), data, split_clips(data, config.split)["train"])
    assert (found[0] == pytest.approx(found[1], rel=1e-3)) is equal_parts
