"""Switches the rounding of the INT8 graph on for the last epochs of a run."""

from __future__ import annotations

import math
from typing import Any

import lightning

from dfkit.config import DistillConfig
from dfkit.training.int8_rounding import Int8Rounding
from dfkit.training.recorder import RunRecorder
from dfkit.training.task import ClipTask


class QuantizationAware(lightning.Callback):
    """From an epoch on, training and validation see the INT8 graph's rounding, and the best epoch is one of those."""

    def __init__(self, config: DistillConfig) -> None:
        """Sets the first epoch under rounding.

        Args:
            config: `epochs` and `quantization_aware_epochs` are used.
        """
        self.first_epoch = config.epochs - config.quantization_aware_epochs
        self.rounding: Int8Rounding | None = None
        self.activation_maxima: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Ranges of the CNNs' activations, for a resumed run."""
        return {"activation_maxima": self.rounding.activation_maxima if self.rounding is not None else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the ranges of a resumed run."""
        # Runs that were started by an older dfkit call them `tops`.
        key = "tops" if "tops" in state_dict else "activation_maxima"
        self.activation_maxima = dict(state_dict[key])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts rounding at the first epoch under it, or at once in a run that resumes after it."""
        assert isinstance(pl_module, ClipTask)
        if self.rounding is not None or trainer.current_epoch < self.first_epoch:
            return
        self.rounding = pl_module.rounding = Int8Rounding(pl_module.model.network, self.activation_maxima)
        if trainer.current_epoch > self.first_epoch:
            return
        # An epoch before rounding would win by its float loss, and its weights were never rounded.
        for recorder in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(recorder, RunRecorder):
                recorder.best_epoch_tracker.best_value = math.inf
