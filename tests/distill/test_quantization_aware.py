"""The last epochs run under rounding, the best of them is kept, and it lies on the grid of the INT8 graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from dfkit.config import Config
from dfkit.distill.distill import distill_student
from dfkit.distill.quantization_aware import QuantizationAware
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.int8_rounding import Int8Rounding, rounded_weights
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import CUT, SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data


def with_distill(config: Config, **changes: object) -> Config:
    content = config.model_dump(mode="json")
    content["distill"] |= changes
    return Config.model_validate(content)


def off_grid(path: str | Path) -> float:
    network = load_checkpoint(path).network
    return max(
        float((value - network.get_parameter(name)).detach().abs().max())
        for name, value in rounded_weights(network).items()
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("qat")
    data = make_synthetic_data(folder / "x", num_videos=6, spec=SPEC)
    return data, Path(train_teacher(data, Workspace(folder), tiny_config(epochs=1)).checkpoint)


def test_last_epochs_are_rounded_and_win(taught: tuple[Path, Path], tmp_path: Path) -> None:
    data, teacher = taught
    config = with_distill(tiny_config(epochs=3), quantization_aware_epochs=1)
    student = distill_student(teacher, data, Workspace(tmp_path), config, make_view=lambda *_: pytest.fail("one view"))
    # Whatever the float epochs reached: their weights were never rounded.
    assert student.best_epoch == 2
    assert off_grid(student.checkpoint) < 1e-6
    rows = [
        json.loads(line) for line in (tmp_path / "runs/tiny/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [row["epoch"] for row in rows] == [0, 1, 2]


def test_first_epochs_are_as_without(taught: tuple[Path, Path], tmp_path: Path) -> None:
    data, teacher = taught
    losses = []
    for number, epochs in enumerate((0, 1)):
        config = with_distill(tiny_config(epochs=2), quantization_aware_epochs=epochs)
        workspace = Workspace(tmp_path / str(number))
        student = distill_student(teacher, data, workspace, config, make_view=lambda *_: pytest.fail("one view"))
        lines = (Path(student.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(line)["train_loss"] for line in lines])
        if not epochs:
            assert off_grid(student.checkpoint) > 1e-4
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]
    assert all(torch.isfinite(torch.tensor(row)).all() for row in losses)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_aware_epochs": 3}, "epochs is 2"),
        ({"quantization_aware_epochs": 1, "patience": 1}, "stops early"),
        ({"quantization_aware_epochs": 1, "precision": "bf16"}, "bf16 has no room"),
    ],
)
def test_refuses_what_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_distill(tiny_config(), **changes)


def test_ranges_outlive_an_interruption() -> None:
    config = with_distill(tiny_config(epochs=2), quantization_aware_epochs=1).distill
    before, after = QuantizationAware(config), QuantizationAware(config)
    network = MMMSBA(NetworkSpec(**CUT))
    before.rounding = Int8Rounding(network, {"lip.1": 2.5})
    after.load_state_dict(before.state_dict())
    assert after.activation_maxima == {"lip.1": 2.5}
    after.load_state_dict({"tops": {"lip.4": 1.5}})  # as an older dfkit stored it
    assert after.activation_maxima == {"lip.4": 1.5}
    assert QuantizationAware(config).state_dict() == {"activation_maxima": {}}
