"""Clip statistics as regressions: the fit itself, whose say counts how much, and that training leaves them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dfkit.config import TrainConfig
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.clip_statistics import NUM_RAMPS, ClipStatistics
from dfkit.models.mmms_ba import DEVIATION, MMMSBA, clip_values
from dfkit.training.fitted_statistics import STRENGTH, fit_regression, fit_statistics, fixed_steps, video_weights
from dfkit.training.task import ClipNetwork
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import COUNTING, SPEC, eight_videos, tiny_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return eight_videos(tmp_path_factory.mktemp("data") / "x")


def test_it_is_the_regression_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(60, 12)).astype(np.float32)
    labels = (features[:, 0] + 0.3 * rng.standard_normal(60) > 0.5).astype(int)
    weights = rng.uniform(0.2, 2, 60)
    expected = LogisticRegression(C=0.7, tol=1e-8, max_iter=1000).fit(
        features.astype(np.float64), labels, sample_weight=weights
    )
    weight, bias = fit_regression(*map(torch.from_numpy, (features, labels, weights)), strength=0.7)
    np.testing.assert_allclose(weight.numpy(), expected.coef_[0], atol=2e-4)
    assert float(bias) == pytest.approx(float(expected.intercept_[0]), abs=2e-4)


def test_a_long_video_counts_as_a_short_one_and_reals_as_fakes() -> None:
    videos = torch.tensor([7, 7, 7, 7, 2, 5, 5, 9])
    labels = torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 0])
    weights = video_weights(videos, labels)
    assert weights is not None and float(weights.sum()) == pytest.approx(4)
    real = [float(weights[videos == video].sum()) for video in (7, 2, 9)]
    assert real == pytest.approx([2 / 3] * 3) and float(weights[videos == 5].sum()) == pytest.approx(2)
    # A clip that is fake in part counts on both sides.
    part = video_weights(torch.tensor([0, 1, 2]), torch.tensor([0.0, 1.0, 0.5]))
    assert part is not None and float((part * torch.tensor([0.0, 1.0, 0.5])).sum()) == pytest.approx(1.5)
    assert video_weights(videos, torch.zeros(8)) is None


def fitted(data: PreparedData, clips: list[int]) -> MMMSBA:
    torch.manual_seed(0)
    network = MMMSBA(COUNTING)
    fit_statistics(ClipNetwork(network, SPEC), data, clips, TrainConfig())
    return network


def test_each_modality_says_its_share(data: PreparedData) -> None:
    network = fitted(data, list(range(len(data))))
    videos = torch.tensor([clip.video_index for clip in data.clips])
    labels = torch.tensor([float(clip.label or 0) for clip in data.clips])
    weights = video_weights(videos, labels)
    assert weights is not None
    batch = collate_padded([ClipDataset(data)[place] for place in range(len(data))])
    steps = fixed_steps(ClipNetwork(network, SPEC), batch)
    assert set(steps) == {"audio", "motion"} == set(network.statistics) - {DEVIATION}
    for name, part in network.statistics.items():
        statistics = cast(ClipStatistics, part)
        values = clip_values(name, steps, dict.fromkeys(steps))
        margin, bias = fit_regression(statistics.ramps(values), labels, weights, strength=STRENGTH)
        logits = statistics(values).detach()
        expected = (statistics.ramps(values) @ margin + bias) / 4  # of three, and the network beside them
        torch.testing.assert_close(logits[:, 1] - logits[:, 0], expected, atol=1e-4, rtol=1e-3)
        assert float(statistics.edges.diff().min()) > 0 and statistics.edges.shape[1] == NUM_RAMPS + 1


def test_of_one_class_nothing_is_fitted(data: PreparedData) -> None:
    reals = [clip.index for clip in data.clips if clip.label == 0]
    for part in fitted(data, reals).statistics.values():
        assert not cast(ClipStatistics, part).linear.weight.any()


def test_training_itself_leaves_them_as_they_were_fitted(data: PreparedData, tmp_path: Path) -> None:
    teacher: dict[str, Any] = {"modalities": ["audio", "lip", "motion"], "clip_statistics": True, "equal_parts": False}
    config = tiny_config(teacher=teacher)
    run = train_teacher(data.path, Workspace(tmp_path), config)
    checkpoint = load_checkpoint(run.checkpoint)
    fresh = MMMSBA(checkpoint.network.spec)
    fit_statistics(ClipNetwork(fresh, SPEC), data, split_clips(data, config.split)["train"], config.train)
    for name, value in fresh.statistics.state_dict().items():
        assert torch.equal(value, checkpoint.network.statistics.state_dict()[name])
    assert any(cast(ClipStatistics, part).linear.weight.any() for part in fresh.statistics.values())
