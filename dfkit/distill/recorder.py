"""What a run leaves behind: one line per epoch, its best and last weights, and the state to go on from."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Literal

import lightning

from dfkit.config import FitConfig
from dfkit.distill.task import ClipTask
from dfkit.errors import DivergedError
from dfkit.models.checkpoint import save_checkpoint, whole_file

Kind = Literal["teacher", "student"]
RESUME_FILE = "last.ckpt"
METRICS_FILE = "metrics.jsonl"


class Improvement:
    """Which epoch is the best by the monitored metric, and for how long none was better."""

    def __init__(self, config: FitConfig) -> None:
        self.monitor, self.min_delta = config.monitor, config.min_delta
        self.sign = 1.0 if config.monitor_mode == "min" else -1.0
        self.best_epoch, self.best_value = -1, math.inf
        self.reference, self.waited = math.inf, 0

    def observe(self, epoch: int, value: float) -> bool:
        """Takes an epoch's value.

        Returns:
            Whether it is the best so far, by however little; `waited` starts anew only when it is better than
            the value it started from by more than `min_delta`.
        Raises:
            DivergedError: The value is no number.
        """
        if not math.isfinite(value):
            raise DivergedError(
                f"epoch {epoch + 1}: {self.monitor} is {value}, so no epoch is the best by it",
                fix="set monitor to val_loss, or give the validation part videos of both classes",
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

    def __init__(self, run_dir: Path, *, kind: Kind, facts: dict[str, Any], config: FitConfig) -> None:
        self.run_dir, self.kind, self.facts, self.patience = run_dir, kind, facts, config.patience
        self.improvement = Improvement(config)
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {name: getattr(self.improvement, name) for name in ("best_epoch", "best_value", "reference", "waited")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        vars(self.improvement).update(state_dict)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Runs after validation of the epoch; every process comes to the same decision."""
        assert isinstance(pl_module, ClipTask)
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row |= {"learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"])}
        row |= {"epoch": trainer.current_epoch, "seconds": round(time.monotonic() - self.started, 1)}
        is_best = self.improvement.observe(trainer.current_epoch, row[self.improvement.monitor])
        if trainer.is_global_zero:
            self.write_epoch(pl_module, row, is_best=is_best)
            with whole_file(self.run_dir / RESUME_FILE) as partial:
                trainer.save_checkpoint(partial)
            self.print_epoch(row, max_epochs=trainer.max_epochs or 0, is_best=is_best)
        else:
            # All processes meet here; the others write nothing.
            trainer.save_checkpoint(self.run_dir / RESUME_FILE)
        if self.patience is not None and self.improvement.waited >= self.patience:
            trainer.should_stop = True

    def write_epoch(self, task: ClipTask, row: dict[str, float], *, is_best: bool) -> None:
        """The epoch's line of metrics and its weights."""
        with (self.run_dir / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        facts = {**self.facts, "epoch": row["epoch"], "val_loss": row["val_loss"], "logged": row}
        network, spec = task.network_to_save(), task.model.spec
        for name in ("last.pth", "best.pth") if is_best else ("last.pth",):
            save_checkpoint(self.run_dir / name, network, spec, kind=self.kind, facts=facts)

    def print_epoch(self, row: dict[str, float], *, max_epochs: int, is_best: bool) -> None:
        """One line on stderr."""
        monitor = self.improvement.monitor
        watched = "" if monitor in {"train_loss", "val_loss"} else f", {monitor} {row[monitor]:.4f}"
        print(
            f"epoch {row['epoch'] + 1:.0f}/{max_epochs}: train loss {row['train_loss']:.4f}, validation "
            f"loss {row['val_loss']:.4f}{watched}{' (best)' if is_best else ''}, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
