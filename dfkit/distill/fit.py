"""One training loop for teacher and student: Lightning, a run folder, best and last checkpoints."""

from __future__ import annotations

import json
import logging
import pickle
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, Sampler

import dfkit
from dfkit.config import Config
from dfkit.distill.task import Batch, ClipTask
from dfkit.errors import CheckpointError, ConfigError
from dfkit.models.checkpoint import save_checkpoint, whole_file

logger = logging.getLogger(__name__)
RESUME_FILE = "last.ckpt"
Kind = Literal["teacher", "student"]


class EpochOrder(Sampler[int]):
    """Positions in an order that depends on (seed, epoch) alone, so that a resumed run sees the same batches."""

    def __init__(self, video_of: Sequence[int], *, seed: int, keep_videos: bool) -> None:
        """Prepares the order.

        Args:
            video_of: Video of each position.
            seed: Of the order.
            keep_videos: Shuffle videos, keeping the clips of one together: distillation at video level takes
                the mean over a video's clips, which must meet in a batch.
        """
        self.video_of, self.seed, self.keep_videos = list(video_of), seed, keep_videos
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.video_of)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if not self.keep_videos:
            yield from rng.permutation(len(self.video_of)).tolist()
            return
        videos = rng.permutation(sorted(set(self.video_of)))
        for video in videos.tolist():
            yield from (place for place, owner in enumerate(self.video_of) if owner == video)


@dataclass(frozen=True)
class FitResult:
    """Where a run ended."""

    run_dir: Path
    best_path: Path
    last_path: Path
    best_epoch: int
    best_val_loss: float
    seconds: float


class RunRecorder(lightning.Callback):
    """Writes metrics.jsonl, the two checkpoints and one line per epoch to stderr."""

    def __init__(self, run_dir: Path, *, kind: Kind, facts: dict[str, Any], patience: int | None) -> None:
        self.run_dir, self.kind, self.facts, self.patience = run_dir, kind, facts, patience
        self.best_epoch, self.best_val_loss = -1, float("inf")
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_epoch": self.best_epoch, "best_val_loss": self.best_val_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.best_epoch, self.best_val_loss = state_dict["best_epoch"], state_dict["best_val_loss"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Runs after validation of the epoch."""
        assert isinstance(pl_module, ClipTask)
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row |= {"epoch": trainer.current_epoch, "seconds": round(time.monotonic() - self.started, 1)}
        with (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        facts = {**self.facts, "epoch": trainer.current_epoch, "val_loss": row.get("val_loss")}
        network, spec = pl_module.model.network, pl_module.model.spec
        save_checkpoint(self.run_dir / "last.pth", network, spec, kind=self.kind, facts=facts)
        improved = row.get("val_loss", float("inf")) < self.best_val_loss
        if improved or self.best_epoch < 0:
            self.best_epoch, self.best_val_loss = trainer.current_epoch, row.get("val_loss", float("inf"))
            save_checkpoint(self.run_dir / "best.pth", network, spec, kind=self.kind, facts=facts)
        with whole_file(self.run_dir / RESUME_FILE) as partial:
            trainer.save_checkpoint(partial)
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: train loss {row['train_loss']:.4f}, validation "
            f"loss {row.get('val_loss', float('nan')):.4f}{' (best)' if improved else ''}, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        if self.patience is not None and trainer.current_epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True


def environment() -> dict[str, str]:
    """Versions and hardware that a result depends on."""
    return {
        "dfkit": dfkit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
    }


def refuse_other_config(run_dir: Path, config: Config) -> None:
    """Refuses to go on with a run under another configuration.

    Raises:
        ConfigError: The configurations differ, or the run holds nothing to resume from.
    """
    path = run_dir / "config.json"
    if not (run_dir / RESUME_FILE).is_file() or not path.is_file():
        raise ConfigError(f"{run_dir}: nothing to resume: no {RESUME_FILE}", fix="start a new run without --resume")
    before = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(config.model_dump_json())
    changed = sorted(key for key in now if now[key] != before.get(key))
    if changed:
        raise ConfigError(
            f"{run_dir}: was started with another configuration; different: {', '.join(changed)}",
            fix=f"resume with --config {path}, or start a new run",
        )


def fit(
    task: ClipTask,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch],
    *,
    kind: Kind,
    run_dir: Path,
    config: Config,
    facts: dict[str, Any],
    resume: bool = False,
    on_trainer: Callable[[lightning.Trainer], None] | None = None,
) -> FitResult:
    """Trains a task and leaves `best.pth`, `last.pth`, `last.ckpt`, metrics and configuration in the run folder.

    Args:
        task: What to train.
        train_loader: Training clips.
        val_loader: Validation clips; the lowest loss on them is the best epoch.
        kind: Which kind of network comes out.
        run_dir: Existing folder of the run.
        config: Written beside the results.
        facts: Plain values that go into every checkpoint.
        resume: Go on from `last.ckpt`.
        on_trainer: Called with the trainer before it starts.
    Raises:
        CheckpointError: `last.ckpt` cannot be read.
    """
    section = task.config
    (run_dir / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
    (run_dir / "environment.json").write_text(json.dumps(environment(), indent=2), encoding="utf-8")
    recorder = RunRecorder(run_dir, kind=kind, facts=facts, patience=section.patience)
    quiet_lightning()
    trainer = lightning.Trainer(
        max_epochs=section.epochs,
        accelerator="auto",
        devices=1,
        logger=TensorBoardLogger(str(run_dir), name="tensorboard", version=""),
        callbacks=[recorder],
        gradient_clip_val=section.optimizer.max_norm,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    if on_trainer is not None:
        on_trainer(trainer)
    started = time.monotonic()
    checkpoint = str(run_dir / RESUME_FILE) if resume else None
    try:
        trainer.fit(task, train_loader, val_loader, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into exit code 1, which means a failed gate here.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if resume and not trainer.global_step:
            raise CheckpointError(
                f"{checkpoint}: cannot be resumed ({str(error).splitlines()[0]})",
                fix="start a new run without --resume",
            ) from error
        raise
    seconds = time.monotonic() - started
    return FitResult(
        run_dir,
        run_dir / "best.pth",
        run_dir / "last.pth",
        recorder.best_epoch,
        recorder.best_val_loss,
        seconds,
    )


def quiet_lightning() -> None:
    """Leaves Lightning's advice out of the terminal; dfkit prints one line per epoch itself."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*isinstance.treespec.*",
        ".*weights_only.*",
    ):
        warnings.filterwarnings("ignore", message=text)
