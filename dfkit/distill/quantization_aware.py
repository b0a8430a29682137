"""Switches the rounding of the INT8 graph on for the last epochs of a run."""

from __future__ import annotations

import math
from typing import Any

import lightning

from dfkit.config import DistillConfig
from dfkit.distill.int8_rounding import Int8Rounding
from dfkit.distill.recorder import RunRecorder
from dfkit.distill.task import ClipTask


class QuantizationAware(lightning.Callback):
    """From an epoch on, training and validation see the INT8 graph's rounding, and the best epoch is one of those."""

    def __init__(self, config: DistillConfig) -> None:
        """Takes the number of epochs from the section."""
        self.first_epoch = config.epochs - config.quantization_aware_epochs
        self.rounding: Int8Rounding | None = None
        self.tops: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """The ranges, for a run that resumes."""
        return {"tops": self.rounding.tops if self.rounding is not None else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.tops = dict(state_dict["tops"])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts rounding, once."""
        assert isinstance(pl_module, ClipTask)
        if self.rounding is not None or trainer.current_epoch < self.first_epoch:
            return
        self.rounding = pl_module.rounding = Int8Rounding(pl_module.model.network, self.tops)
        if trainer.current_epoch > self.first_epoch:
            return
        # An epoch before rounding would win by its float loss, and its weights were never rounded.
        for recorder in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(recorder, RunRecorder):
                recorder.improvement.best_value = math.inf
