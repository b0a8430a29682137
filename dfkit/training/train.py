"""`dfkit train`: the MMMS-BA teacher on prepared clips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from dfkit.audit.findings import findings_notes
from dfkit.clip import MODALITIES, ClipSpec, Modality
from dfkit.config import Config, DistillConfig, TrainConfig
from dfkit.data.splits import joined_parts, split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import CheckpointError, ConfigError
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.models.original import refuse_foreign_network
from dfkit.starter import STARTER, starter_teacher
from dfkit.training.balance import class_weights, note_class_balance
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.equal_parts import equalise_parts
from dfkit.training.first_weights import new_network, start_on
from dfkit.training.fit import FitResult, compute_device, fit, refuse_other_config
from dfkit.training.loaders import Loaders, learnt_clips, make_loaders
from dfkit.training.modality_dropout import can_be_muted, muted
from dfkit.training.original_checkpoints import original_checkpoints
from dfkit.training.pseudo_labels import first_folder, train_in_rounds
from dfkit.training.recorder import RESUME_FILE, ModelKind
from dfkit.training.refit import ONCE, Chosen, Stage, train_twice, wants_refit
from dfkit.training.run_summary import RESULTS_FILE, RunSummary, format_metric
from dfkit.training.scoring import clip_logits, decide, scores_by_video, split_facts, summarize
from dfkit.training.seen_groups import START, join_splits, refuse_seen_by_start, start_parts
from dfkit.training.task import ClipNetwork, ClipTask
from dfkit.training.unlabelled import open_unlabelled
from dfkit.training.video_scores import write_scores
from dfkit.workspace import Workspace, stored_path


def set_threads(num_threads: int) -> None:
    """Sets the number of CPU threads of torch for this process; 0 leaves it as it is."""
    if num_threads:
        torch.set_num_threads(num_threads)


def require_clip_spec(spec: ClipSpec, config_spec: ClipSpec, where: str) -> None:
    """Refuses prepared data of another clip contract than the configuration's; other presets are let through.

    Args:
        spec: Of the data.
        config_spec: Of the configuration.
        where: Names the data in the message.
    Raises:
        ConfigError: The contracts differ under the same preset; names the fields.
    """
    different = config_spec.different_fields(spec)
    if different and spec.preset == config_spec.preset:
        raise ConfigError(
            f"{where} was prepared under another clip contract than the configuration's (different: {different})",
            fix="prepare it again with the same --config, or take the configuration it was prepared with",
        )


def train_labels(data: PreparedData, clips: list[int], section: TrainConfig | DistillConfig) -> list[int]:
    """Labels of the training clips, 0 or 1, as training shows them; clips without a label are left out.

    As many reals count as fake as get other sound in an epoch on average.

    Args:
        data: Prepared data.
        clips: The training part.
        section: Of the run.
    """
    labels = [data.clips[index].label for index in learnt_clips(data, clips, section)]
    known = sorted(label for label in labels if label is not None)
    num_mismatched = round(known.count(0) * section.mismatch.share)
    return known[num_mismatched:] + [1] * num_mismatched


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
    require_clip_spec(data.spec, config.clip, str(data_dir))
    refuse_unsaveable(section, data.spec)
    indices = split_clips(data, config.split)
    if section.unlabelled.folders:
        # What is refused leaves no run folder.
        open_unlabelled(section.unlabelled.folders, data, indices)
    if resume is not None:
        run_dir = Path(resume)
        refuse_other_config(first_folder(run_dir), config)
    else:
        run_dir = workspace.new_run_dir(config.name, "teacher")
    summary = train_on_split(data, indices, run_dir, config, resume=resume is not None)
    workspace.finish_run(run_dir, checkpoint="best.pth")
    return summary


def train_on_split(
    data: PreparedData, indices: dict[str, list[int]], run_dir: Path, config: Config, *, resume: bool = False
) -> RunSummary:
    """Trains a teacher on given splits of the data, for a plain run and for each fold alike.

    Args:
        data: Prepared data.
        indices: Clip indices of `train`, `val` and `test`.
        run_dir: Existing folder of the run.
        config: The experiment; where it names unlabelled videos, several teachers are trained, see `pseudo_labels`.
        resume: Go on from the run's `last.ckpt`.
    """
    if config.train.unlabelled.folders:
        return train_in_rounds(data, indices, run_dir, config, train_round=train_once)
    if not wants_refit(config, config.train, data, indices):
        return train_once(data, indices, run_dir, config, resume=resume)

    def train(folder: Path, stage: Stage) -> RunSummary:
        parts = indices if stage.chosen is None else joined_parts(indices)
        return train_once(data, parts, folder, config, resume=(folder / RESUME_FILE).is_file(), stage=stage)

    return train_twice(run_dir, config.train, train, num_videos=data.count_videos(indices["val"]))


def train_once(
    data: PreparedData,
    indices: dict[str, list[int]],
    run_dir: Path,
    config: Config,
    *,
    resume: bool = False,
    judged: PreparedData | None = None,
    facts: Mapping[str, Any] | None = None,
    stage: Stage = ONCE,
) -> RunSummary:
    """Trains one teacher.

    Args:
        data: Prepared data.
        indices: Clip indices of `train`, `val` and `test`.
        run_dir: Existing folder of the run.
        config: The experiment.
        resume: Go on from the run's `last.ckpt`.
        judged: What the network is judged on, with the places that its clips have in `data`; `data` where left out.
        facts: Stored in the checkpoints beside those of where the network began; its `splits` are joined to theirs.
        stage: Of a run that trains twice.
    """
    section = stage.section(config.train)
    lightning.seed_everything(section.seed, verbose=False)
    network, own_facts = first_network(section, data, indices)
    facts = {**own_facts, **(facts or {}), "splits": join_splits(own_facts, facts or {})}
    loaders = make_loaders(data, indices, section, pictures=bool(network.spec.pictures))
    model = ClipNetwork(network, data.spec)
    # What a run goes on from holds what it began with, too.
    if section.start is None and not resume:
        learnt = learnt_clips(data, indices["train"], section)
        start_on(model, data, learnt, section, standardised=section.standardised_start)
    labels = train_labels(data, indices["train"], section)
    note_class_balance(labels, section)
    task = ClipTask(model, config=section, class_weights=class_weights(labels, section))
    callbacks = original_checkpoints(run_dir, section, data.spec)
    return run_and_score(
        task,
        data,
        loaders,
        kind="teacher",
        run_dir=run_dir,
        config=config,
        resume=resume,
        facts=facts,
        callbacks=callbacks,
        judged=judged,
        stage=stage,
    )


def first_network(
    section: TrainConfig, data: PreparedData, indices: dict[str, list[int]]
) -> tuple[MMMSBA, dict[str, Any]]:
    """The network that training begins with, and what its checkpoints keep of where it came from.

    Args:
        section: Of the teacher.
        data: What it is trained on.
        indices: Clip indices of its parts.
    Raises:
        CheckpointError: The checkpoint to start from cannot be read, or holds no network of dfkit's.
        ConfigError: It takes other clips than the data holds.
        DataError: It has seen what the new network is to be judged by.
        MissingExtraError: The trunk's weights are not installed.
    """
    dense_dropout = section.dropout if section.dense_dropout is None else section.dense_dropout
    if section.start is None:
        spec = network_spec(section, data.spec)
        return new_network(spec, dropout=section.dropout, dense_dropout=dense_dropout), {}
    start = load_checkpoint(start_path(section.start))
    if start.kind == "original":
        raise CheckpointError(
            f"{start.path}: a checkpoint of the original implementation, which does not say what it was trained on",
            fix="start from a checkpoint of dfkit train",
        )
    require_clip_spec(data.spec, start.clip_spec, str(data.path))
    refuse_seen_by_start(start.facts, str(start.path), data, indices)
    network = MMMSBA(
        start.network.spec,
        gru_dropout=section.dropout,
        dense_dropout=dense_dropout,
        frame_resampling=start.network.frame_resampling,
    )
    network.load_state_dict(start.network.state_dict())
    return network, {START: str(start.path.name), "splits": start_parts(start.facts)}


def start_path(start: str) -> Path:
    """File of a checkpoint as `train.start` names it."""
    return starter_teacher() if start == STARTER else Path(start)


def network_spec(section: TrainConfig, clip_spec: ClipSpec) -> NetworkSpec:
    """Architecture of the configured teacher of such clips."""
    of_data: tuple[Modality, ...] = MODALITIES if clip_spec.preset == "uniform50" else (*MODALITIES, "motion")
    modalities = section.modalities or of_data
    over_time = section.motion_over_time
    if over_time is None:
        over_time = not (section.clip_statistics and {"face", "lip"}.intersection(modalities))
    return NetworkSpec(
        modalities=modalities,
        face_channels=section.widths.face_channels,
        lip_channels=section.widths.lip_channels,
        gru_hidden=section.widths.gru_hidden,
        dense_dim=section.dense_dim,
        attention=section.attention,
        face_trunk=section.face_trunk,
        face_blocks=section.face_blocks,
        aligned=section.aligned_products,
        clip_statistics=section.clip_statistics,
        sound_deviation=section.clip_statistics,
        motion_over_time=over_time,
    )


def refuse_unsaveable(section: TrainConfig, clip_spec: ClipSpec) -> None:
    """Refuses, before anything is trained, a network that its checkpoint format cannot hold.

    Args:
        section: Of the teacher.
        clip_spec: Of the data.
    Raises:
        CheckpointError: Names what the original implementation cannot build.
    """
    if section.save.format == "original":
        refuse_foreign_network(network_spec(section, clip_spec))


def run_and_score(
    task: ClipTask,
    data: PreparedData,
    loaders: Loaders,
    *,
    kind: ModelKind,
    run_dir: Path,
    config: Config,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    judged: PreparedData | None = None,
    stage: Stage = ONCE,
) -> RunSummary:
    """Trains, fixes the best epoch's decision on validation clips, and scores the test clips once.

    Args:
        task: Network and objective.
        data: Prepared data.
        loaders: Of its splits.
        kind: Teacher or student.
        run_dir: Existing folder of the run.
        config: The experiment.
        resume: Go on from the run's `last.ckpt`.
        facts: Stored in the checkpoints beside data and splits; its own `splits` stand before those of the data.
        callbacks: Run after the recorder.
        judged: See `train_once`.
        stage: Of a run that trains twice; the last time the decision is that of the first.
    """
    given = facts or {}
    carried = given.get("splits", {})
    facts = {
        **{name: value for name, value in given.items() if name != "splits"},
        "data": stored_path(data.path, run_dir),
        "splits": {**carried, **split_facts(data, loaders.indices)},
        "split_config": config.split.model_dump() | {"refit": stage.chosen is not None},
        "groups_known": data.groups_known,
        "face_models": data.info.face_models,
        "modality_dropout": task.config.modality_dropout,
        **stage.facts(run_dir),
    }
    result = fit(
        task,
        loaders.train,
        loaders.watched if stage.chosen is None else None,
        kind=kind,
        run_dir=run_dir,
        config=config,
        facts=facts,
        resume=resume,
        keeps_last=stage.keeps_last,
        on_trainer=lambda trainer: trainer.callbacks.extend(callbacks),  # type: ignore[attr-defined]
    )
    return score_best(
        result,
        judged or data,
        loaders,
        kind=kind,
        device=compute_device(task.config),
        chosen=stage.chosen,
        equal_parts=task.config.equal_parts,
    )


def score_best(
    result: FitResult,
    data: PreparedData,
    loaders: Loaders,
    *,
    kind: ModelKind,
    device: torch.device | None = None,
    chosen: Chosen | None = None,
    equal_parts: bool = False,
) -> RunSummary:
    """Writes metrics and decision of the best epoch into its checkpoint and into the run folder.

    Args:
        result: Of the training.
        data: Prepared data.
        loaders: Of its splits.
        kind: Teacher or student.
        device: Where the network runs; the CPU where left out.
        chosen: By a first training; fitted on the validation clips where left out.
        equal_parts: Whether the parts of its logits are made equally loud first.
    """
    best = load_checkpoint(result.best_path)
    model = ClipNetwork(best.network, best.clip_spec, pool_sound=kind == "student").to(device or torch.device("cpu"))
    if equal_parts:
        equalise_parts(model, loaders.plain)
    validation = clip_logits(model, loaders.val)
    decision = decide(data, validation) if chosen is None else chosen.decision
    logits = {"val": validation, "test": clip_logits(model, loaders.test)}
    metrics = {name: summarize(data, part, decision, part=name) for name, part in logits.items()}
    if chosen is not None:
        metrics["val"] = chosen.metrics
    if loaders.seen is not None:
        # Fakes alone: they have no metrics by themselves.
        logits["seen"] = clip_logits(model, loaders.seen)
    write_scores(result.run_dir, data, logits, decision)
    facts = {
        **best.facts,
        "metrics": metrics,
        **decision.to_facts(),
    }
    chance = best.facts.get("modality_dropout", 0.0)
    if can_be_muted(best.network.spec.modalities, chance=chance, preset=best.clip_spec.preset):
        facts["muted"] = muted_facts(model, data, loaders, None if chosen is None else chosen.muted)
    save_checkpoint(result.best_path, best.network, best.clip_spec, kind=kind, facts=facts)
    summary = RunSummary(
        kind=kind,
        data_dir=str(data.path),
        run_dir=str(result.run_dir),
        checkpoint=str(result.best_path),
        best_epoch=result.best_epoch,
        seconds=result.seconds,
        epochs=result.epochs,
        steps=result.steps,
        metrics=metrics,
        notes=(
            *findings_notes(
                data, metrics["test"].get("video", {}).get("auc"), list(scores_by_video(data, logits["test"]))
            ),
            *muted_notes(facts.get("muted")),
        ),
    )
    (result.run_dir / RESULTS_FILE).write_text(json.dumps(summary.to_json(), indent=2), encoding="utf-8")
    return summary


def muted_facts(
    model: ClipNetwork, data: PreparedData, loaders: Loaders, chosen: Decision | None = None
) -> dict[str, Any]:
    """The decision for videos without sound, chosen or fitted on muted validation videos, and metrics of muted ones."""
    audio = model.spec.audio
    parts = {"val": loaders.val, "test": loaders.test}
    logits = {name: clip_logits(model, (muted(batch, audio) for batch in part)) for name, part in parts.items()}
    decision = chosen or decide(data, logits["val"])
    metrics = {name: summarize(data, part, decision, part=name) for name, part in logits.items()}
    return {**decision.to_facts(), "metrics": metrics}


def muted_notes(facts: dict[str, Any] | None) -> tuple[str, ...]:
    """One line about muted videos, for a network that can judge them."""
    if facts is None:
        return ()
    video = facts["metrics"]["test"].get("video")
    auc = "no test videos" if video is None else f"test video AUC {format_metric(video['auc'])}"
    return (f"muted, by the picture alone: {auc}; {facts['operating_point']['name']}",)
