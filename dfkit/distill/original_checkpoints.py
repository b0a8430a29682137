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
from dfkit.distill.recorder import RunRecorder
from dfkit.distill.task import ClipTask
from dfkit.models.original import METRIC_NAMES, save_original

PLACE_FILE = "original.json"
PREFIX, WEIGHTED_PREFIX = "mmms-ba_", "mmms-ba_balanced_"
LOGGED = dict(zip(METRIC_NAMES, ("val_accuracy", "val_loss", "val_precision", "val_recall", "val_f1"), strict=True))


def file_prefix(config: TrainConfig) -> str:
    """What stands before `best.pth` and `last.pth`."""
    if config.save.prefix is not None:
        return config.save.prefix
    return PREFIX if config.loss.class_weights is None else WEIGHTED_PREFIX


def claim_folders(config: TrainConfig, run_dirs: Sequence[Path], *, by_fold: bool = False) -> None:
    """Fixes where the checkpoints of new runs go, and notes it in each run's folder; a run that has it keeps it.

    Args:
        config: Its `save` names the folder; without one they lie in the run's own.
        run_dirs: One run, or all folds of one.
        by_fold: Each run gets a folder of its name (`fold_1`) in the one that `save` names.
    """
    if config.save.format != "original" or any((run_dir / PLACE_FILE).is_file() for run_dir in run_dirs):
        return
    names = [f"{file_prefix(config)}{which}.pth" for which in ("best", "last")]
    for run_dir, folder in zip(run_dirs, _free_folders(config, run_dirs, names, by_fold=by_fold), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        (run_dir / PLACE_FILE).write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")


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
    """What writes the original's checkpoints during a run, said on stderr; nothing where they are not asked for."""
    if config.save.format != "original":
        return []
    claim_folders(config, [run_dir])
    callback = OriginalCheckpoints(run_dir, config)
    note(f"checkpoints for the original: {callback.folder / file_prefix(config)}best.pth and last.pth")
    if spec.preset != "uniform50":
        note(
            f"that format does not say which clips a network takes: its readers show it uniform50, and this one is "
            f"trained on {spec.preset}"
        )
    return [callback]


class OriginalCheckpoints(lightning.Callback):
    """Writes `{prefix}best.pth` and `{prefix}last.pth` after dfkit's own; stands behind the recorder."""

    def __init__(self, run_dir: Path, config: TrainConfig) -> None:
        self.config = config
        place = json.loads((run_dir / PLACE_FILE).read_text(encoding="utf-8"))
        self.folder = Path(place["folder"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Runs after the recorder has judged the epoch."""
        assert isinstance(pl_module, ClipTask)
        if not trainer.is_global_zero:
            return
        recorder = next(each for each in trainer.callbacks if isinstance(each, RunRecorder))  # type: ignore[attr-defined]
        is_best = recorder.improvement.best_epoch == trainer.current_epoch
        save = self.config.save
        wanted = [name for name, is_wanted in (("best", save.best and is_best), ("last", save.last)) if is_wanted]
        for name in wanted:
            save_original(
                self.folder / f"{file_prefix(self.config)}{name}.pth",
                pl_module.model.network,
                epoch=trainer.current_epoch,
                metrics={ours: float(trainer.callback_metrics[theirs]) for ours, theirs in LOGGED.items()},
                optimizer_state=on_cpu(trainer.optimizers[0].state_dict()),
                scheduler_state=scheduler_state(trainer, self.config),
                config=save.config,
            )


def on_cpu(value: Any) -> Any:
    """The same nested content with its tensors on the CPU, so that it opens on a machine without a GPU."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: on_cpu(each) for key, each in value.items()}
    return [on_cpu(each) for each in value] if isinstance(value, list) else value


def scheduler_state(trainer: lightning.Trainer, config: TrainConfig) -> dict[str, Any]:
    """The original's cosine schedule as it stands after this epoch; for any other schedule dfkit's own state."""
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
