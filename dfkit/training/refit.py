"""A run that trains twice: the last time on training and validation videos together, by what the first time chose.

Few validation videos are worth more to learn from than what they choose. So epochs, temperature, threshold and
aggregation are those of a first network that has not seen them, and a second one is trained anew on both parts. It has
no validation part itself: whatever is made of it is judged by the test part alone, or not at all where there is none.

Source: early stopping to find how long to train on all data, Goodfellow, Bengio and Courville 2016, Deep Learning,
algorithm 7.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dfkit.config import Config, DistillConfig, TrainConfig
from dfkit.console import note
from dfkit.data.storage import PreparedData
from dfkit.errors import CheckpointError, ConfigError
from dfkit.files import write_atomically
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.training.run_summary import RESULTS_FILE, RunSummary, read_run
from dfkit.training.seen_groups import seen_faults
from dfkit.workspace import find_stored, stored_path

FIRST = "first"
"""Folder of the first training in that of its run; as a fact of a checkpoint, the checkpoint of the first."""
MAX_VIDEOS = 100
"""Up to so many validation videos are learnt from in the end where the configuration does not say."""

SectionT = TypeVar("SectionT", TrainConfig, DistillConfig)


@dataclass(frozen=True)
class Chosen:
    """What a first training chose for the last."""

    epochs: int
    checkpoint: Path
    """Of the first network."""
    decision: Decision
    muted: Decision | None
    """For videos without sound; None where the network does not answer them."""
    metrics: dict[str, Any]
    """Of the first network on the validation videos."""


@dataclass(frozen=True)
class Stage:
    """Which of a run's trainings it is; of a run that trains once where nothing is given."""

    keeps_last: bool = False
    """Whether the last epoch counts, and not the best by the monitored metric."""
    chosen: Chosen | None = None
    """Of the last training of two."""

    def section(self, section: SectionT) -> SectionT:
        """The section of the run with as many epochs as this training takes."""
        return section if self.chosen is None else section.model_copy(update={"epochs": self.chosen.epochs})

    def facts(self, run_dir: Path) -> dict[str, Any]:
        """What checkpoints keep of it."""
        return {} if self.chosen is None else {FIRST: stored_path(self.chosen.checkpoint, run_dir)}


ONCE = Stage()
"""Of a run that trains once."""


def choosing_folder(run_dir: Path) -> Path:
    """Where the validation part of a run chose: the folder of the first of two trainings, else the run's own."""
    first = run_dir / FIRST
    return first if first.is_dir() else run_dir


def wants_refit(
    config: Config, section: TrainConfig | DistillConfig, data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> bool:
    """Whether a run trains twice: as `split.refit` says, and where that is left out, if the validation part is small.

    A test part is not asked for: without one the last network learns from all videos, and the first one's figure on the
    validation part is the only one there is.

    Args:
        config: The experiment.
        section: Its `train` or `distill`.
        data: What is trained on.
        indices: Clip indices of its parts.
    Raises:
        ConfigError: `split.refit` is true, and something else is configured that needs a validation part.
    """
    wanted = config.split.refit
    if wanted is False:
        return False
    if hindrance := _hindrance(section):
        if wanted:
            raise ConfigError(f"split.refit true: {hindrance}", fix="set split.refit to false, or change that")
        return False
    return wanted or data.count_videos(indices["val"]) <= MAX_VIDEOS


def _hindrance(section: TrainConfig | DistillConfig) -> str | None:
    """What needs a validation part to the end; None where nothing does."""
    if section.schedule.type == "plateau":
        return "schedule plateau watches the validation part"
    if isinstance(section, TrainConfig) and section.save.format == "original":
        return "the original's checkpoints hold validation metrics"
    if isinstance(section, TrainConfig) and section.unlabelled.folders:
        return "pseudo-labels are chosen by a network's decision on the validation part"
    return None


def train_twice(
    run_dir: Path,
    section: TrainConfig | DistillConfig,
    train: Callable[[Path, Stage], RunSummary],
    num_videos: int,
) -> RunSummary:
    """Trains the first and the last time; what is finished is kept, what was cut off goes on.

    Args:
        run_dir: Existing folder; gets the last training's files, and those of the first in `first`.
        section: Of the run. Without `patience` both trainings take all its epochs and keep the last one; else the last
            takes as many as were best in the first.
        train: Trains once into an existing folder, where it goes on if it was cut off there.
        num_videos: Of the validation part.
    """
    folder = run_dir / FIRST
    run = read_run(folder)
    if run is None:
        folder.mkdir(exist_ok=True)
        note(f"first training, which has not seen the {num_videos} validation videos and chooses by them")
        run = train(folder, Stage(keeps_last=section.patience is None))
    chosen = _chosen(run, section)
    note(f"last training, {chosen.epochs} epochs, with the {num_videos} validation videos (split.refit)")
    last = train(run_dir, Stage(keeps_last=True, chosen=chosen))
    line = (
        f"trained twice (split.refit): the first, {folder}, chose {chosen.epochs} epochs and the threshold, and val is "
        f"its figure; the last learnt from those {num_videos} videos, too"
    )
    summary = replace(last, seconds=run.seconds + last.seconds, notes=(*last.notes, line))
    write_atomically(run_dir / RESULTS_FILE, json.dumps(summary.to_json(), indent=2))
    return summary


def _chosen(run: RunSummary, section: TrainConfig | DistillConfig) -> Chosen:
    """What a finished first run chose."""
    facts = load_checkpoint(run.checkpoint).facts
    decision = Decision.from_facts(facts)
    assert decision is not None, "every run ends with one"
    # Rounding takes the last epochs of all.
    is_rounded = isinstance(section, DistillConfig) and section.quantization_aware_epochs > 0
    epochs = section.epochs if section.patience is None or is_rounded else run.best_epoch + 1
    return Chosen(epochs, Path(run.checkpoint), decision, Decision.muted_from_facts(facts), run.metrics["val"])


def unseeing(checkpoint: Checkpoint, data: PreparedData, indices: Mapping[str, Sequence[int]]) -> Checkpoint:
    """The teacher of a student that is judged by some parts: of one that trained twice and has seen them the first.

    Args:
        checkpoint: The teacher as it was named.
        data: What the student trains on.
        indices: Clip indices of its parts.
    Raises:
        CheckpointError: The first is not where it was.
    """
    stored = checkpoint.facts.get(FIRST)
    if stored is None or not seen_faults(checkpoint.facts, data, indices):
        return checkpoint
    path = Path(find_stored(stored, checkpoint.path))
    if not path.is_file():
        raise CheckpointError(
            f"{checkpoint.path}: learnt from the validation part in the end, and the network that had not seen it, "
            f"which chooses for its student, is not at {path}",
            fix=f"keep the folder {FIRST} of its run where it was, or train with split.refit false",
        )
    return load_checkpoint(path, checkpoint.weights)
