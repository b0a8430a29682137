"""`dfkit train`: the MMMS-BA teacher on prepared clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from dfkit.clip import ClipSpec
from dfkit.config import Config, TrainConfig
from dfkit.data.findings import said_beside
from dfkit.data.storage import PreparedData
from dfkit.distill.balance import announce_balance, class_weights
from dfkit.distill.evaluate import clip_logits, decide, split_facts, summarize
from dfkit.distill.fit import FitResult, compute_device, fit, refuse_other_config
from dfkit.distill.loaders import Loaders, make_loaders, split_clips
from dfkit.distill.original_checkpoints import original_checkpoints
from dfkit.distill.recorder import Kind
from dfkit.distill.scores import write_scores
from dfkit.distill.task import ClipNetwork, ClipTask
from dfkit.errors import ConfigError
from dfkit.models.checkpoint import load_checkpoint, save_checkpoint
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.models.original import refuse_foreign_network
from dfkit.workspace import Workspace


@dataclass(frozen=True)
class RunSummary:
    """What a training run left."""

    kind: Kind
    data_dir: str
    run_dir: str
    checkpoint: str
    best_epoch: int
    seconds: float
    metrics: dict[str, Any]
    notes: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """Lines for people."""
        lines = [
            f"{self.kind} from {self.data_dir} -> {self.checkpoint} (epoch {self.best_epoch + 1}, {self.seconds:.0f} s)"
        ]
        for split in ("val", "test"):
            facts = self.metrics.get(split, {})
            if not facts.get("videos"):
                lines.append(f"{split}: no such part in the split, so nothing is reported on it")
                continue
            video = facts["video"]
            auc = "not defined" if video["auc"] is None else f"{video['auc']:.3f}"
            balanced = "not defined" if video["balanced_accuracy"] is None else f"{video['balanced_accuracy']:.3f}"
            lines.append(
                f"{split}: video AUC {auc}, balanced accuracy {balanced} "
                f"({facts['videos']} videos, {facts['groups']} groups)"
            )
            lines += [facts[key] for key in ("warning", "warning_one_class") if key in facts]
        return [*lines, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**vars(self), "notes": list(self.notes)}


def set_threads(num_threads: int) -> None:
    """CPU threads for torch; 0 leaves torch's own choice."""
    if num_threads:
        torch.set_num_threads(num_threads)


def require_clips(spec: ClipSpec, config_spec: ClipSpec, where: str) -> None:
    """Prepared data and configuration have to agree on the clip.

    Raises:
        ConfigError: They differ.
    """
    if spec != config_spec and spec.preset == config_spec.preset:
        theirs, ours = spec.model_dump(), config_spec.model_dump()
        different = ", ".join(sorted(key for key in theirs if theirs[key] != ours[key]))
        raise ConfigError(
            f"{where} was prepared under another clip contract than the configuration's (different: {different})",
            fix="prepare it again with the same --config, or take the configuration it was prepared with",
        )


def train_labels(data: PreparedData, loaders: Loaders) -> list[int]:
    """Labels of the training clips."""
    labels = [data.clips[i].label for i in loaders.indices["train"]]
    return [label for label in labels if label is not None]


def train_teacher(
    data_dir: str | Path, workspace: Workspace, config: Config, *, resume: str | Path | None = None
) -> RunSummary:
    """Trains a teacher and scores its best epoch on validation and test clips.

    Args:
        data_dir: Prepared data with labels of both classes.
        workspace: Where the run folder is made.
        config: The experiment.
        resume: Run folder to go on with.
    Raises:
        DataError: The data cannot be used or split.
        ConfigError: Data and configuration do not fit, or the run cannot be resumed.
    """
    section = config.train
    set_threads(section.num_threads)
    data = PreparedData(data_dir)
    require_clips(data.spec, config.clip, str(data_dir))
    refuse_unsaveable(section)
    indices = split_clips(data, section.split)
    if resume is not None:
        run_dir = Path(resume)
        refuse_other_config(run_dir, config)
    else:
        run_dir = workspace.new_run_dir(config.name, "teacher")
    summary = train_on(data, indices, run_dir, config, resume=resume is not None)
    workspace.finish_run(run_dir, checkpoint="best.pth")
    return summary


def train_on(
    data: PreparedData, indices: dict[str, list[int]], run_dir: Path, config: Config, *, resume: bool = False
) -> RunSummary:
    """Trains a teacher on given parts of the data; what a plain run and each fold have in common.

    Args:
        data: Prepared data.
        indices: Clip indices of `train`, `val` and `test`.
        run_dir: Existing folder of the run.
        config: The experiment.
        resume: Go on from the run's `last.ckpt`.
    """
    section = config.train
    lightning.seed_everything(section.seed, verbose=False)
    spec = network_spec(section)
    loaders = make_loaders(data, indices, section, pictures=bool(spec.pictures))
    dense_dropout = section.dropout if section.dense_dropout is None else section.dense_dropout
    network = MMMSBA(spec, gru_dropout=section.dropout, dense_dropout=dense_dropout)
    model = ClipNetwork(network, data.spec)
    labels = train_labels(data, loaders)
    announce_balance(labels, section)
    task = ClipTask(model, config=section, class_weights=class_weights(labels, section))
    callbacks = original_checkpoints(run_dir, section, data.spec)
    return run_and_score(
        task, data, loaders, kind="teacher", run_dir=run_dir, config=config, resume=resume, callbacks=callbacks
    )


def network_spec(section: TrainConfig) -> NetworkSpec:
    """The configured teacher."""
    return NetworkSpec(
        modalities=section.modalities,
        face_channels=section.widths.face_channels,
        lip_channels=section.widths.lip_channels,
        gru_hidden=section.widths.gru_hidden,
        dense_dim=section.dense_dim,
        attention=section.attention,
    )


def refuse_unsaveable(section: TrainConfig) -> None:
    """Refuses, before anything is trained, a network that the format it is to be saved in has no room for.

    Raises:
        CheckpointError: Naming what does not fit.
    """
    if section.save.format == "original":
        refuse_foreign_network(network_spec(section))


def run_and_score(
    task: ClipTask,
    data: PreparedData,
    loaders: Loaders,
    *,
    kind: Kind,
    run_dir: Path,
    config: Config,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> RunSummary:
    """Trains, takes the best epoch, fixes its decision on validation clips and scores the test clips once."""
    facts = {
        "data": str(data.path),
        "splits": split_facts(data, loaders.indices),
        "split_config": task.config.split.model_dump(),
        "groups_known": data.groups_known,
        **(facts or {}),
    }
    result = fit(
        task,
        loaders.train,
        loaders.val,
        kind=kind,
        run_dir=run_dir,
        config=config,
        facts=facts,
        resume=resume,
        on_trainer=lambda trainer: trainer.callbacks.extend(callbacks),  # type: ignore[attr-defined]
    )
    return score_best(result, data, loaders, kind=kind, device=compute_device(task.config))


def score_best(
    result: FitResult, data: PreparedData, loaders: Loaders, *, kind: Kind, device: torch.device | None = None
) -> RunSummary:
    """Metrics and decision of the best checkpoint, written into it and into the run folder."""
    best = load_checkpoint(result.best_path)
    model = ClipNetwork(best.network, best.clip_spec, pool_sound=kind == "student").to(device or torch.device("cpu"))
    validation = clip_logits(model, loaders.val)
    decision = decide(data, validation)
    threshold, temperature = decision.operating_point.threshold, decision.calibration.calibration_temperature
    parts = {"val": validation, "test": clip_logits(model, loaders.test)}
    metrics = {
        name: summarize(data, logits, threshold=threshold, calibration_temperature=temperature)
        for name, logits in parts.items()
    }
    write_scores(result.run_dir, data, parts, decision)
    facts = {
        **best.facts,
        "metrics": metrics,
        "calibration": decision.calibration.model_dump(),
        "operating_point": decision.operating_point.model_dump(),
    }
    save_checkpoint(result.best_path, best.network, best.clip_spec, kind=kind, facts=facts)
    summary = RunSummary(
        kind=kind,
        data_dir=str(data.path),
        run_dir=str(result.run_dir),
        checkpoint=str(result.best_path),
        best_epoch=result.best_epoch,
        seconds=result.seconds,
        metrics=metrics,
        notes=said_beside(data, metrics["test"].get("video", {}).get("auc")),
    )
    (result.run_dir / "results.json").write_text(json.dumps(summary.to_json(), indent=2), encoding="utf-8")
    return summary
