"""Checkpoints for the original implementation, written while a teacher is trained: `--save-format original`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from dfkit.clip import ClipSpec
from dfkit.config import TrainConfig
from dfkit.console import note
from dfkit.original.checkpoints import save_original
from dfkit.training.recorder import RunRecorder
from dfkit.training.task import ClipTask

LOCATION_FILE = "original.json"
"""In a run's folder: the folder of its checkpoints for the original."""
PREFIX, WEIGHTED_PREFIX = "mmms-ba_", "mmms-ba_balanced_"
LOGGED_NAMES = {
    "acc": "val_accuracy",
    "loss": "val_loss",
    "precision": "val_precision",
    "recall": "val_recall",
    "f1": "val_f1",
}
"""Logged metric behind each of the original's metrics."""


def file_prefix(config: TrainConfig) -> str:
    """Prefix of the file names `best.pth` and `last.pth`."""
    if config.save.prefix is not None:
        return config.save.prefix
    return PREFIX if config.loss.class_weights is None else WEIGHTED_PREFIX


def reserve_checkpoint_folders(config: TrainConfig, run_dirs: Sequence[Path], *, by_fold: bool = False) -> None:
    """Chooses folders for the checkpoints of new runs and records them in the runs; resumed runs keep theirs.

    Args:
        config: `save.dir` names the folder; the run's own where left out.
        run_dirs: One run, or all folds of a k-fold run.
        by_fold: Whether each run gets a folder of its own name (`fold_1`) inside that of `save.dir`.
    """
    if config.save.format != "original" or any((run_dir / LOCATION_FILE).is_file() for run_dir in run_dirs):
        return
    names = [f"{file_prefix(config)}{which}.pth" for which in ("best", "last")]
    for run_dir, folder in zip(run_dirs, _free_folders(config, run_dirs, names, by_fold=by_fold), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        (run_dir / LOCATION_FILE).write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")


def _free_folders(config: TrainConfig, run_dirs: Sequence[Path], names: Sequence[str], *, by_fold: bool) -> list[Path]:
    """The named folder, or the first numbered one in which none of these checkpoints lies."""
    if config.save.dir is None:
        return list(run_dirs)
    base, number = Path(config.save.dir).absolute(), 1
    while True:
        root = base if number == 1 else base.with_name(f"{base.name}-{number}")
        folders = [root / run_dir.name if by_fold else root for run_dir in run_dirs]
        if not any((folder / name).exists() for folder in folders for name in names):
            return folders
        number += 1


def original_checkpoints(run_dir: Path, config: TrainConfig, spec: ClipSpec) -> list[lightning.Callback]:
    """Callbacks that write the original's checkpoints during a run; their folder is noted on stderr.

    Args:
        run_dir: Existing folder of the run.
        config: `save` decides whether and where they are written.
        spec: Contract of the training clips.
    Returns:
        Empty where `save.format` is not `original`.
    """
    if config.save.format != "original":
        return []
    reserve_checkpoint_folders(config, [run_dir])
    callback = OriginalCheckpoints(run_dir, config)
    note(f"checkpoints for the original: {callback.folder / file_prefix(config)}best.pth and last.pth")
    if spec.preset != "uniform50":
        note(
            f"that format does not say which clips a network takes: its readers show it uniform50, and this one is "
            f"trained on {spec.preset}"
        )
    return [callback]


class OriginalCheckpoints(lightning.Callback):
    """Writes `{prefix}best.pth` and `{prefix}last.pth` after every epoch; has to run after the recorder."""

    def __init__(self, run_dir: Path, config: TrainConfig) -> None:
        self.config = config
        location = json.loads((run_dir / LOCATION_FILE).read_text(encoding="utf-8"))
        self.folder = Path(location["folder"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes the epoch's checkpoints, once the recorder has decided whether it is the best."""
        assert isinstance(pl_module, ClipTask)
        if not trainer.is_global_zero:
            return
        callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        recorder = next(callback for callback in callbacks if isinstance(callback, RunRecorder))
        is_best = recorder.best_epoch_tracker.best_epoch == trainer.current_epoch
        save = self.config.save
        names = []
        if save.best and is_best:
            names.append("best")
        if save.last:
            names.append("last")
        for name in names:
            save_original(
                self.folder / f"{file_prefix(self.config)}{name}.pth",
                pl_module.model.network,
                epoch=trainer.current_epoch,
                metrics={name: float(trainer.callback_metrics[logged]) for name, logged in LOGGED_NAMES.items()},
                optimizer_state=move_to_cpu(trainer.optimizers[0].state_dict()),
                scheduler_state=scheduler_state(trainer, self.config),
                config=save.config,
            )


def move_to_cpu(value: Any) -> Any:
    """Nested dicts and lists with their tensors on the CPU, so that they load on a machine without a GPU."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: move_to_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [move_to_cpu(item) for item in value]
    return value


def scheduler_state(trainer: lightning.Trainer, config: TrainConfig) -> dict[str, Any]:
    """State of the original's cosine schedule after this epoch; for any other schedule dfkit's own state."""
    if config.schedule.type != "cosine":
        state: dict[str, Any] = trainer.lr_scheduler_configs[0].scheduler.state_dict()
        return state
    settings = config.optimizer
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        adam,
        T_max=config.schedule.cosine_epochs or config.epochs,
        eta_min=config.schedule.min_learning_rate,
    )
    for _ in range(trainer.current_epoch + 1):
        adam.step()
        cosine.step()
    return cosine.state_dict()
