"""Checkpoints in the original's format: the way there and back changes no bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dfkit.errors import CheckpointError
from dfkit.models import MMMSBA, NetworkSpec, load_teacher
from dfkit.original.checkpoints import save_original
from dfkit.weights.file import read_checkpoint


def test_round_trip_is_exact(original_checkpoint: Path, tmp_path: Path) -> None:
    there = torch.load(original_checkpoint, weights_only=True)
    metrics = {name: there[f"best_val_{name}"] for name in ("acc", "loss", "precision", "recall", "f1")}
    path = save_original(
        tmp_path / "fold4.pth",
        load_teacher(original_checkpoint),
        epoch=there["epoch"],
        metrics=metrics,
        optimizer_state=there["optimizer_state_dict"],
        scheduler_state=there["scheduler_state_dict"],
        config=there["config"],
    )
    back = torch.load(path, weights_only=True)
    assert list(back) == list(there)
    assert {name: type(value) for name, value in back.items()} == {name: type(value) for name, value in there.items()}
    for name in there.keys() - {"model_state_dict"}:
        assert back[name] == there[name], name
    assert list(back["model_state_dict"]) == list(there["model_state_dict"])
    again = load_teacher(path).state_dict()
    for name, value in there["model_state_dict"].items():
        assert torch.equal(back["model_state_dict"][name].view(torch.int32), value.view(torch.int32)), name
        assert torch.equal(again[name].view(torch.int32), value.view(torch.int32)), name
    assert [entry.name for entry in tmp_path.iterdir()] == ["fold4.pth"]


def test_states_open_in_the_original_optimizer_and_schedule(tmp_path: Path) -> None:
    """What a reader of the original does: Adam and a cosine schedule over the same parameters."""
    network = MMMSBA(NetworkSpec(gru_hidden=8))
    content = read_checkpoint(save_original(tmp_path / "x.pth", network))
    adam = torch.optim.Adam(network.parameters())
    adam.load_state_dict(content["optimizer_state_dict"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=3)
    schedule.load_state_dict(content["scheduler_state_dict"])
    # TEACHER, section 4: lr 5e-4, weight decay 1e-4, T_max 15, eta_min 1e-5.
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (5e-4, 1e-4)
    assert (schedule.T_max, schedule.eta_min) == (15, 1e-5)
    assert content["epoch"] == 0 and math.isnan(content["best_val_acc"]) and "config" not in content


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (NetworkSpec(modalities=("audio", "face"), gru_hidden=8), "modalities audio, face instead of"),
        (NetworkSpec(face_channels=(8, 8, 8), gru_hidden=8), r"face_channels \(8, 8, 8\) instead of \(64, 128, 256\)"),
    ],
)
def test_networks_that_the_original_cannot_build_are_refused(spec: NetworkSpec, named: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=named):
        save_original(tmp_path / "x.pth", MMMSBA(spec))
    assert not list(tmp_path.iterdir())
