"""What configurations say is what happens: the files of configs/ train, runs stop, gradients are accumulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dfkit.config import Config
from dfkit.errors import ConfigError
from dfkit.experiment import read_config
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import SPEC, WIDTHS, tiny_config
from tools.speed.made_data import make_synthetic_data

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HALVES = {"refit": False, "val_share": 0.25, "test_share": 0.25}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=8, spec=SPEC)


def last_weights(data_dir: Path, folder: Path, **train: Any) -> dict[str, torch.Tensor]:
    summary = train_teacher(data_dir, Workspace(folder), tiny_config(split=HALVES, **train))
    weights = torch.load(Path(summary.run_dir) / "last.pth", weights_only=True)["model_state_dict"]
    return dict(weights)


@pytest.mark.parametrize("name", ["robust", "focal", "alike"])
def test_configurations_train(data_dir: Path, tmp_path: Path, name: str) -> None:
    content = read_config(CONFIGS / f"{name}.yaml").model_dump(mode="json")
    content["clip"], content["split"] = SPEC.model_dump(), HALVES
    small = {"epochs": 2, "batch_size": 2, "num_workers": 0, "num_threads": 1, "widths": WIDTHS}
    content["train"] |= {**small, "accelerator": "cpu"}
    summary = train_teacher(data_dir, Workspace(tmp_path), Config.model_validate(content))
    rows = [
        json.loads(line) for line in (Path(summary.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert content["train"]["monitor"] in rows[0]


def test_a_run_stops_when_the_monitored_metric_stands_still(data_dir: Path, tmp_path: Path) -> None:
    # No AUC gains 2: the first epoch sets the mark, two more do not pass it.
    config = tiny_config(split=HALVES, epochs=9, monitor="val_auc", min_delta=2.0, patience=2)
    summary = train_teacher(data_dir, Workspace(tmp_path), config)
    lines = (Path(summary.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


def test_accumulated_gradients_equal_a_larger_batch(data_dir: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"dropout": 0.0, "loss": {"class_weights": None}}
    whole = last_weights(data_dir, tmp_path / "a", batch_size=4, **plain)
    parts = last_weights(data_dir, tmp_path / "b", batch_size=2, gradient_accumulation_steps=2, **plain)
    for name, value in whole.items():
        # float32 sums in another order, through two steps of Adam.
        torch.testing.assert_close(parts[name], value, atol=1e-4, rtol=0)


def test_modality_dropout_needs_two_modalities(data_dir: Path, tmp_path: Path) -> None:
    config = tiny_config(split=HALVES, modality_dropout=0.2)
    train = config.train.model_copy(update={"modalities": ("audio",)})
    with pytest.raises(ConfigError, match=r"modality_dropout 0\.2: a network of audio alone"):
        train_teacher(data_dir, Workspace(tmp_path), config.model_copy(update={"train": train}))
