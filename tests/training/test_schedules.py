"""Learning rates by hand: peak 1, 100 steps in 10 epochs."""

from __future__ import annotations

import math

import pytest
import torch

from dfkit.config import OptimizerConfig, ScheduleConfig
from dfkit.training.schedules import LearningRateFactor, make_optimizer


def rates(*, warmup_share: float = 0.0, **schedule: object) -> LearningRateFactor:
    optimizer = OptimizerConfig(learning_rate=1.0, warmup_share=warmup_share)
    return LearningRateFactor(optimizer, ScheduleConfig.model_validate(schedule), total_steps=100, steps_per_epoch=10)


@pytest.mark.parametrize("kind", ["cosine", "warm_restarts", "plateau", "constant"])
def test_all_schedules_warm_up(kind: str) -> None:
    factor = rates(warmup_share=0.2, type=kind)
    assert [factor(step) for step in (0, 9, 19, 20)] == pytest.approx([0.05, 0.5, 1.0, 1.0])


def test_cosine() -> None:
    factor = rates(type="cosine", min_learning_rate=0.2)
    # From 1 to the floor of 0.2: the middle lies half-way, a quarter in at 0.2 + 0.8 * (1 + cos 45°) / 2.
    quarter = 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2
    assert [factor(step) for step in (0, 25, 50, 100)] == pytest.approx([1.0, quarter, 0.6, 0.2])
    short = rates(type="cosine", cosine_epochs=4)
    assert [short(step) for step in (20, 40, 70)] == pytest.approx([0.5, 0.0, 0.0])


def test_cosine_equals_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.1)
    factor = rates(type="cosine", min_learning_rate=0.1)
    for step in range(100):
        assert factor(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_warm_restarts_equal_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=20, T_mult=2)
    factor = rates(type="warm_restarts", restart_epochs=2, restart_growth=2)
    for step in range(100):
        assert factor(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("monitor", "values"), [("val_loss", [1.0, 0.95, 0.97, 0.2]), ("val_auc", [0, 0.05, 0.03, 1])])
def test_plateau_goes_down_after_patience(monitor: str, values: list[float]) -> None:
    factor = rates(type="plateau", monitor=monitor, patience=2, min_delta=0.1, factor=0.5, min_learning_rate=0.3)
    seen = []
    for value in values:
        factor.observe(value)
        seen.append(factor(50))
    # 0.05 better is no improvement where 0.1 is asked for: down after the second such epoch.
    assert seen == [1.0, 1.0, 0.5, 0.5]
    factor.observe(values[-1])
    factor.observe(values[-1])
    assert factor(50) == 0.3  # 0.25 lies below the floor


def test_plateau_survives_a_checkpoint(tmp_path) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))

    def schedule() -> tuple[LearningRateFactor, torch.optim.lr_scheduler.LambdaLR]:
        factor = rates(type="plateau", patience=1, factor=0.5)
        return factor, torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([weight], lr=1.0), factor)

    factor, kept = schedule()
    factor.observe(1.0)
    factor.observe(2.0)
    torch.save(kept.state_dict(), tmp_path / "state")
    other, fresh = schedule()
    fresh.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert vars(other) == vars(factor) and other(3) == 0.5


def test_optimizers() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    config = OptimizerConfig(type="adam", learning_rate=0.1, betas=(0.8, 0.9), weight_decay=0.5)
    adam = make_optimizer([weight], config)
    assert type(adam) is torch.optim.Adam
    assert (adam.defaults["lr"], adam.defaults["betas"], adam.defaults["weight_decay"]) == (0.1, (0.8, 0.9), 0.5)
    # L2 in the gradient: the first step of Adam is the rate, whatever the gradient's size; AdamW decays beside it.
    weight.grad = torch.zeros(1)
    adam.step()
    assert weight.item() == pytest.approx(0.9)
    decoupled = torch.nn.Parameter(torch.ones(1))
    decoupled.grad = torch.zeros(1)
    make_optimizer([decoupled], config.model_copy(update={"type": "adamw"})).step()
    assert decoupled.item() == pytest.approx(1 - 0.1 * 0.5)
