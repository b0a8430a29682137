"""Records a run: a line of metrics per epoch, best and last weights, and the state to resume from."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Literal

import lightning

from dfkit.config import FitConfig
from dfkit.errors import DivergedError
from dfkit.training.checkpoints import atomic_checkpoint, save_checkpoint
from dfkit.training.task import ClipTask

ModelKind = Literal["teacher", "student"]
"""Stored in checkpoints: which network it is."""
RESUME_FILE = "last.ckpt"
METRICS_FILE = "metrics.jsonl"
TRACKER_STATE = ("best_epoch", "best_value", "reference", "waited")
"""Attributes of `BestEpochTracker` that are stored in `last.ckpt`."""


class BestEpochTracker:
    """Tracks the best epoch by the monitored metric, and the epochs since the last improvement."""

    def __init__(self, config: FitConfig, *, keeps_last: bool = False) -> None:
        self.monitor, self.min_delta, self.keeps_last = config.monitor, config.min_delta, keeps_last
        self.sign = 1.0 if config.monitor_mode == "min" else -1.0
        self.best_epoch, self.best_value = -1, math.inf
        self.reference, self.waited = math.inf, 0

    def observe(self, epoch: int, value: float) -> bool:
        """Records an epoch's value of the monitored metric.

        Args:
            epoch: From 0 on.
            value: Of the monitored metric.
        Returns:
            Whether it is the best so far, by however little, or the last one where that counts; `waited` starts anew
            only when it is better than the value it started from by more than `min_delta`.
        Raises:
            DivergedError: The value is no number.
        """
        if self.keeps_last:
            self.best_epoch = epoch
            return True
        if not math.isfinite(value):
            raise DivergedError(
                f"epoch {epoch + 1}: {self.monitor} is {value}, so no epoch is the best by it",
                fix="set monitor to val_loss, or give the validation part videos of both classes and of several groups",
            )
        value = self.sign * value
        if value < self.reference - self.min_delta:
            self.reference, self.waited = value, 0
        else:
            self.waited += 1
        is_best = value < self.best_value
        if is_best:
            self.best_epoch, self.best_value = epoch, value
        return is_best


class RunRecorder(lightning.Callback):
    """Writes metrics.jsonl, the two checkpoints and one line per epoch to stderr; with several processes the first."""

    def __init__(
        self, run_dir: Path, *, kind: ModelKind, facts: dict[str, Any], config: FitConfig, keeps_last: bool = False
    ) -> None:
        self.run_dir, self.kind, self.facts, self.patience = run_dir, kind, facts, config.patience
        self.best_epoch_tracker = BestEpochTracker(config, keeps_last=keeps_last)
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """State of the best-epoch tracker, for a resumed run."""
        tracker = self.best_epoch_tracker
        return {name: getattr(tracker, name) for name in TRACKER_STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best-epoch tracker of a resumed run."""
        vars(self.best_epoch_tracker).update(state_dict)

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A run that patience had ended stays ended when it is resumed: Lightning's checkpoint does not say so."""
        self.stop_if_waited(trainer)

    def stop_if_waited(self, trainer: lightning.Trainer) -> None:
        """Ends the run after `patience` epochs without an improvement."""
        if self.patience is not None and self.best_epoch_tracker.waited >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Records the epoch after its validation; every process comes to the same decision about stopping."""
        assert isinstance(pl_module, ClipTask)
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row |= {"learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"])}
        row |= {"epoch": trainer.current_epoch, "seconds": round(time.monotonic() - self.started, 1)}
        # Some metrics are logged only where there is what they measure, as real clips with other sound.
        monitored = row.get(self.best_epoch_tracker.monitor, math.nan)
        is_best = self.best_epoch_tracker.observe(trainer.current_epoch, monitored)
        if trainer.is_global_zero:
            self.write_epoch(pl_module, row, is_best=is_best)
            with atomic_checkpoint(self.run_dir / RESUME_FILE) as partial:
                trainer.save_checkpoint(partial)
            self.print_epoch(row, max_epochs=trainer.max_epochs or 0, is_best=is_best)
        else:
            # All processes meet here; the others write nothing.
            trainer.save_checkpoint(self.run_dir / RESUME_FILE)
        self.stop_if_waited(trainer)

    def write_epoch(self, task: ClipTask, row: dict[str, float], *, is_best: bool) -> None:
        """Appends the epoch's line of metrics and writes its checkpoints.

        Args:
            task: Whose network is saved.
            row: Logged metrics, learning rate, epoch and seconds.
            is_best: Whether `best.pth` is written, too.
        """
        with (self.run_dir / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        facts = {**self.facts, "epoch": row["epoch"], "logged": row}
        if "val_loss" in row:
            facts["val_loss"] = row["val_loss"]
        network, spec = task.network_to_save(), task.model.spec
        for name in ("last.pth", "best.pth") if is_best else ("last.pth",):
            save_checkpoint(self.run_dir / name, network, spec, kind=self.kind, facts=facts)

    def print_epoch(self, row: dict[str, float], *, max_epochs: int, is_best: bool) -> None:
        """Prints one line about the epoch on stderr."""
        tracker = self.best_epoch_tracker
        parts = [f"train loss {row['train_loss']:.4f}"]
        if "val_loss" in row:
            parts.append(f"validation loss {row['val_loss']:.4f}")
        if tracker.monitor in row and tracker.monitor not in {"train_loss", "val_loss"}:
            parts.append(f"{tracker.monitor} {row[tracker.monitor]:.4f}")
        print(
            f"epoch {row['epoch'] + 1:.0f}/{max_epochs}: {', '.join(parts)}"
            f"{' (best)' if is_best and not tracker.keeps_last else ''}, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
