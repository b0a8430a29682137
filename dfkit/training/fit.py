"""The training loop of teacher and student: a Lightning trainer, a run folder, best and last checkpoints."""

from __future__ import annotations

import json
import logging
import os
import pickle
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from pydantic import ValidationError
from torch.utils.data import DataLoader

import dfkit
from dfkit.config import Config, FitConfig, explain
from dfkit.data.datasets import ClipDataset
from dfkit.errors import CheckpointError, ConfigError, DfkitError, one_line
from dfkit.measures.environment import cpu_model
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.event_log import tensorboard_logger
from dfkit.training.objective import Batch
from dfkit.training.recorder import RESUME_FILE, ModelKind, RunRecorder
from dfkit.training.samplers import EpochOrder, HardMining
from dfkit.training.schedules import PlateauCallback
from dfkit.training.task import ClipTask
from dfkit.weights.file import read_checkpoint

DFKIT_ERROR = re.compile(r"^dfkit\.errors\.\w+: (.*)", re.DOTALL | re.MULTILINE)
"""A dfkit error's message at the end of a traceback."""


@dataclass(frozen=True)
class FitResult:
    """Files and best epoch of a finished run."""

    run_dir: Path
    best_path: Path
    last_path: Path
    best_epoch: int
    """From 0 on."""
    seconds: float
    """Wall-clock time of the training."""
    epochs: int
    """How many were trained; fewer than configured where `patience` ended the run."""
    steps: int
    """Steps of the optimizer."""


def environment() -> dict[str, str]:
    """Versions and hardware that a result depends on."""
    return {
        "dfkit": dfkit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": cpu_model(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
    }


def refuse_other_config(run_dir: Path, config: Config) -> None:
    """Refuses to resume a run under another configuration.

    Raises:
        ConfigError: The configurations differ, or the run holds nothing to resume from.
    """
    path = run_dir / "config.json"
    if not (run_dir / RESUME_FILE).is_file() or not path.is_file():
        raise ConfigError(f"{run_dir}: nothing to resume: no {RESUME_FILE}", fix="start a new run without --resume")
    try:
        before = Config.from_json_text(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ConfigError(
            f"{path}: is no configuration of this version of dfkit:\n{explain(error, Config)}",
            fix="start a new run without --resume",
        ) from error
    changed = different_keys(before.model_dump(mode="json"), config.model_dump(mode="json"))
    if changed:
        raise ConfigError(
            f"{run_dir}: was started with another configuration; different: {', '.join(changed)}",
            fix=f"resume with --config {path}, or start a new run",
        )


def different_keys(before: dict[str, Any], now: dict[str, Any], *, path: str = "") -> list[str]:
    """Dotted paths of the keys whose values differ, such as `train.loss.type`, sorted.

    Args:
        before: Nested plain values.
        now: Nested plain values.
        path: Prefix of the paths.
    """
    different: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            different += different_keys(old, new, path=f"{path}{key}.")
        elif old != new:
            different.append(f"{path}{key}")
    return different


def compute_device(config: FitConfig) -> torch.device:
    """Device of a network outside of the training loop: the first GPU if the run may use one, else the CPU.

    Raises:
        ConfigError: The run asks for more GPUs than there are; all that computes asks here first.
    """
    if config.accelerator != "auto" or not torch.cuda.is_available():
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if config.devices > gpus:
        raise ConfigError(
            f"devices is {config.devices}, and this machine has {gpus} GPU{'s' if gpus > 1 else ''}",
            fix=f"set devices to {gpus} or less, or accelerator to cpu",
        )
    # cuBLAS reads it when it is first used, which may be before a training; without it its sums do not repeat.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda")


@contextmanager
def deterministic_algorithms(device: torch.device) -> Iterator[None]:
    """On a GPU torch's deterministic algorithms, so that a resumed run ends as an unbroken one; as before afterwards.

    An operation that has none is warned about by torch, with its name: such a run repeats only nearly. On the CPU
    nothing is changed: there the same sums are added in the same order anyway.

    Args:
        device: Of `compute_device`.
    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def fit(
    task: ClipTask,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch] | None,
    *,
    kind: ModelKind,
    run_dir: Path,
    config: Config,
    facts: dict[str, Any],
    resume: bool = False,
    keeps_last: bool = False,
    on_trainer: Callable[[lightning.Trainer], None] | None = None,
) -> FitResult:
    """Trains a task and leaves `best.pth`, `last.pth`, `last.ckpt`, metrics and configuration in the run folder.

    With several devices the processes are started here and gone when this returns; a script that calls it needs the
    usual `if __name__ == "__main__":`.

    Args:
        task: Network and objective.
        train_loader: Training clips.
        val_loader: Validation clips; the monitored metric decides which epoch is the best. None where there are none.
        kind: Stored in the checkpoints.
        run_dir: Existing folder of the run.
        config: Written beside the results.
        facts: Plain values that are stored in every checkpoint.
        resume: Go on from `last.ckpt`.
        keeps_last: Whether the last epoch counts as the best, whatever its metrics.
        on_trainer: Called with the trainer before it starts.
    Raises:
        CheckpointError: `last.ckpt` cannot be read.
        ConfigError: More devices than there are.
        DivergedError: A loss or the monitored metric is no number; the checkpoints of earlier epochs are kept.
    """
    (run_dir / "config.json").write_text(config.to_json_text(indent=2), encoding="utf-8")
    (run_dir / "environment.json").write_text(json.dumps(environment(), indent=2), encoding="utf-8")
    recorder = RunRecorder(run_dir, kind=kind, facts=facts, config=task.config, keeps_last=keeps_last)
    quiet_lightning()
    trainer = make_trainer(task.config, run_dir, [*monitoring_callbacks(task.config, train_loader), recorder])
    if on_trainer is not None:
        on_trainer(trainer)
    started = time.monotonic()
    checkpoint = run_dir / RESUME_FILE if resume else None
    with deterministic_algorithms(compute_device(task.config)):
        run_trainer(trainer, task, train_loader, val_loader, checkpoint=checkpoint)
    seconds = time.monotonic() - started
    # From the file and not from the recorder: the one that counted may have lived in another process.
    best = load_checkpoint(run_dir / "best.pth").facts
    state = torch.load(run_dir / RESUME_FILE, map_location="cpu", weights_only=True)
    return FitResult(
        run_dir,
        run_dir / "best.pth",
        run_dir / "last.pth",
        best["epoch"],
        seconds,
        epochs=state["epoch"] + 1,
        steps=state["global_step"],
    )


def monitoring_callbacks(config: FitConfig, train_loader: DataLoader[Batch]) -> list[lightning.Callback]:
    """Callbacks that the configuration asks for; they run before the recorder, whose checkpoint holds their state.

    Args:
        config: Schedule and sampling are used.
        train_loader: Hard mining changes the order of its sampler.
    """
    callbacks: list[lightning.Callback] = []
    if config.schedule.type == "plateau":
        callbacks.append(PlateauCallback(config.schedule.monitor))
    order, clips = train_loader.sampler, train_loader.dataset
    if config.sampling.hard_share and isinstance(order, EpochOrder) and isinstance(clips, ClipDataset):
        position_of_clip = {clip: position for position, clip in enumerate(clips.indices)}
        callbacks.append(HardMining(order, position_of_clip))
    return callbacks


def make_trainer(config: FitConfig, run_dir: Path, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """A Lightning trainer that writes no checkpoints of its own."""
    return lightning.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=config.devices,
        # Spawned, not launched anew: the command line that started this process is not run a second time.
        strategy="ddp_spawn" if config.devices > 1 else "auto",
        use_distributed_sampler=False,  # the samplers share out by themselves
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        accumulate_grad_batches=config.gradient_accumulation_steps,
        logger=tensorboard_logger(run_dir),
        callbacks=callbacks,
        gradient_clip_val=config.optimizer.max_norm,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def run_trainer(
    trainer: lightning.Trainer,
    task: ClipTask,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch] | None,
    *,
    checkpoint: Path | None,
) -> None:
    """Runs the training and turns errors of its processes into dfkit's.

    Args:
        trainer: Of `make_trainer`.
        task: Network and objective.
        train_loader: Training clips.
        val_loader: Validation clips, if any.
        checkpoint: `last.ckpt` to resume from; None starts anew.
    Raises:
        CheckpointError: The checkpoint cannot be read.
        DfkitError: As raised in a process that the trainer started.
        KeyboardInterrupt: The training was interrupted.
    """
    try:
        trainer.fit(task, train_loader, val_loader, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into exit code 1, which means a failed gate here.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except torch.multiprocessing.ProcessRaisedException as error:
        # Of another process's error only the text comes back: its traceback, which ends with the message.
        match = DFKIT_ERROR.search(str(error))
        if match is None:
            raise
        raise DfkitError(match[1].strip()) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if checkpoint is not None and not trainer.global_step:
            raise _not_resumable(Path(checkpoint), error) from error
        raise


def _not_resumable(checkpoint: Path, error: Exception) -> CheckpointError:
    """What is wrong with the file that a run was to go on from."""
    found = f"{checkpoint}: {one_line(error)}"
    try:
        read_checkpoint(checkpoint)
    except CheckpointError as refusal:
        found = refusal.found
    return CheckpointError(f"{found}; the run cannot be resumed", fix="start a new run without --resume")


def quiet_lightning() -> None:
    """Silences Lightning's advice on the terminal; dfkit prints one line per epoch itself."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (
        ".*does not have many workers.*",
        ".*have no `val_dataloader`.*",
        ".*LeafSpec.*",
        ".*isinstance.treespec.*",
        ".*weights_only.*",
        ".*module\\(s\\) in eval mode.*",  # a face trunk's batch normalizations stay so
    ):
        warnings.filterwarnings("ignore", message=text)
