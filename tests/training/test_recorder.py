"""Best epoch and early stopping, by any logged metric."""

from __future__ import annotations

import math

import pytest

from dfkit.config import TrainConfig
from dfkit.errors import DivergedError
from dfkit.training.recorder import BestEpochTracker


def feed(tracker: BestEpochTracker, values: list[float]) -> list[tuple[bool, int]]:
    return [(tracker.observe(epoch, value), tracker.waited) for epoch, value in enumerate(values)]


def test_least_loss_is_best() -> None:
    tracker = BestEpochTracker(TrainConfig())
    assert feed(tracker, [1.0, 0.8, 0.9, 0.8, 0.7]) == [
        (True, 0),
        (True, 0),
        (False, 1),
        (False, 2),
        (True, 0),
    ]
    assert tracker.best_epoch == 4


def test_gains_below_min_delta_are_kept_but_do_not_prolong_the_run() -> None:
    tracker = BestEpochTracker(TrainConfig(monitor="val_auc", min_delta=0.05))
    # 0.70 -> 0.73 is the best epoch so far and still no tracker; 0.76 is one, against 0.70.
    assert feed(tracker, [0.70, 0.73, 0.74, 0.76, 0.60]) == [
        (True, 0),
        (True, 1),
        (True, 2),
        (True, 0),
        (False, 1),
    ]
    assert tracker.best_epoch == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_is_no_best_epoch(value: float) -> None:
    with pytest.raises(DivergedError, match=r"epoch 1: val_auc is (nan|inf)"):
        BestEpochTracker(TrainConfig(monitor="val_auc")).observe(0, value)
