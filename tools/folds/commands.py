"""Commands of dfkit over the folds of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dfkit.config import Config
from dfkit.experiment import read_config
from dfkit.files import write_atomically


def dfkit(*arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
    """Runs a command in a process of its own; the converter and torch are not at home in one."""
    command = [sys.executable, "-m", "dfkit", *map(str, arguments)]
    code = subprocess.run(command, check=False).returncode
    if code not in allowed:
        raise SystemExit(f"{' '.join(command)}: exit code {code}")


def seed_config(config: Path, workspace: Path, seed: int) -> Path:
    """The experiment with teachers and students of a seed; itself for the seed that its teachers have anyway."""
    experiment = read_config(config)
    if seed == experiment.train.seed:
        return config
    name = f"{experiment.name}-seed{seed}"
    train, distill = (part.model_copy(update={"seed": seed}) for part in (experiment.train, experiment.distill))
    return write_config(experiment.model_copy(update={"name": name, "train": train, "distill": distill}), workspace)


def fold_config(config: Path, workspace: Path, fold: int, *, baselines: bool = False) -> Path:
    """The experiment with one of its folds chosen, and, where wanted, students from scratch and only pruned."""
    experiment = read_config(config)
    name = fold_name(config, fold)
    split = experiment.split.model_copy(update={"fold": fold})
    distill = experiment.distill.model_copy(update={"baselines": baselines or experiment.distill.baselines})
    return write_config(experiment.model_copy(update={"name": name, "split": split, "distill": distill}), workspace)


def fold_name(config: Path, fold: int) -> str:
    """Name of the experiment of one fold, and of its run, bundle and report."""
    return f"{read_config(config).name}-fold{fold}"


def write_config(experiment: Config, workspace: Path) -> Path:
    """Writes an experiment into a workspace, under its name."""
    path = workspace / f"{experiment.name}.yaml"
    # JSON is YAML.
    write_atomically(path, experiment.to_json_text(indent=2))
    return path


def export_int8(checkpoint: Path, bundle: Path, *common: object) -> None:
    """Exports a fold's student unless that is done; bounds of quality are judged by the caller, over all folds.

    Args:
        checkpoint: The student.
        bundle: Where the command puts it.
        common: Data, workspace and configuration.
    """
    if not bundle.exists():
        # 3: too few videos to judge quality by.
        dfkit("export", "--int8", "--format", "tflite", "--checkpoint", checkpoint, *common, allowed=(0, 3))
