"""Optimizer and learning-rate schedule: warm-up, then one of four schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import lightning
import torch

from dfkit.config import LOGGED_METRICS, OptimizerConfig, ScheduleConfig


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter],
    config: OptimizerConfig,
    *,
    trunk: Sequence[torch.nn.Parameter] = (),
    trunk_rate: float = 1.0,
) -> torch.optim.Optimizer:
    """Adam or AdamW at the peak rate, as configured.

    Args:
        parameters: All that may be trained.
        config: Kind, rate and decay.
        trunk: Those of `parameters` with a rate of their own.
        trunk_rate: That rate as a share of the others'; 0 freezes them: they get no gradient any more.
    """
    in_trunk = {id(parameter) for parameter in trunk}
    for parameter in trunk:
        parameter.requires_grad_(trunk_rate > 0)
    groups: list[dict[str, Any]] = [{"params": [each for each in parameters if id(each) not in in_trunk]}]
    if trunk and trunk_rate:
        groups.append({"params": list(trunk), "lr": config.learning_rate * trunk_rate})
    optimizer = torch.optim.AdamW if config.type == "adamw" else torch.optim.Adam
    return optimizer(groups, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


class LearningRateFactor:
    """Learning rate of each step as a multiple of the peak rate.

    An object with plain numbers and not a function: torch's `LambdaLR` stores its attributes in the checkpoint, so that
    a resumed run knows the state of a plateau.
    """

    def __init__(
        self, optimizer: OptimizerConfig, schedule: ScheduleConfig, *, total_steps: int, steps_per_epoch: float
    ) -> None:
        """Converts the schedule's epochs to steps.

        Args:
            optimizer: Peak rate and warm-up.
            schedule: What follows the warm-up.
            total_steps: Optimizer steps of the whole run.
            steps_per_epoch: Optimizer steps of one epoch.
        """
        self.type: str = schedule.type
        self.floor = min(1.0, schedule.min_learning_rate / optimizer.learning_rate)
        self.warmup = round(optimizer.warmup_share * total_steps)
        end = total_steps if schedule.cosine_epochs is None else schedule.cosine_epochs * steps_per_epoch
        self.cosine_steps = max(1.0, end - self.warmup)
        self.cycle_steps = max(1.0, schedule.restart_epochs * steps_per_epoch)
        self.growth = schedule.restart_growth
        self.plateau_factor, self.patience, self.min_delta = schedule.factor, schedule.patience, schedule.min_delta
        self.sign = 1.0 if LOGGED_METRICS[schedule.monitor] == "min" else -1.0
        self.best, self.waited, self.reduced = math.inf, 0, 1.0

    def __call__(self, step: int) -> float:
        """Factor of an optimizer step, counted from 0; in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = float(step - self.warmup)
        if self.type == "constant":
            return 1.0
        if self.type == "plateau":
            return max(self.floor, self.reduced)
        if self.type == "cosine":
            return self._cosine(min(1.0, done / self.cosine_steps))
        cycle = self.cycle_steps
        while done >= cycle:
            done, cycle = done - cycle, cycle * self.growth
        return self._cosine(done / cycle)

    def _cosine(self, progress: float) -> float:
        """Factor that falls from 1 to the floor as progress goes from 0 to 1.

        Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5.
        """
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))

    def observe(self, value: float) -> None:
        """Records an epoch's value of the monitored metric; `patience` epochs without a better one lower the rate."""
        if self.sign * value < self.best - self.min_delta:
            self.best, self.waited = self.sign * value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.reduced, self.waited = self.reduced * self.plateau_factor, 0


class PlateauCallback(lightning.Callback):
    """Gives the monitored metric to the plateau schedule after every epoch, before the checkpoint is written."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lowers the rate, if the schedule says so, after the epoch's validation."""
        (schedule,) = (config.scheduler for config in trainer.lr_scheduler_configs)
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        (factor,) = schedule.lr_lambdas
        assert isinstance(factor, LearningRateFactor)
        factor.observe(float(trainer.callback_metrics[self.monitor]))
        # The schedule has set the next step's rate already, after the epoch's last one.
        for group, peak in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
            group["lr"] = peak * factor(schedule.last_epoch)
