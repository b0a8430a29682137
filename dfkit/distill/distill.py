"""`dfkit distill`: prune a teacher to its most important units, then train that student on the teacher's logits.

Where teacher and student see the same clips, each at its own size, logits are matched per clip and frame, and features
and attention maps where the configuration gives them a weight. Where they do not, as with an original checkpoint, which
takes 50 frames spread over a whole video (`uniform50`), the answers of both to a video are matched: the mean over a
track's clips, the most suspicious track.

A `DistillationSetup` is what any number of students share: the teacher, its logits, the split. `dfkit.distill.search`
trains students of several widths from one.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning

from dfkit.clip import ClipSpec
from dfkit.config import Config, DistillConfig
from dfkit.data.logits_file import write_teacher_logits
from dfkit.data.splits import joined_parts, split_clips
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView, open_view
from dfkit.distill.prune import Weights, prune
from dfkit.distill.quantization_aware import QuantizationAware
from dfkit.distill.request import make_request, refuse_other_request, write_request
from dfkit.distill.soft_labels import SoftLabels, soft_labels
from dfkit.distill.taylor import minibatch_gradients
from dfkit.distill.teacher_features import refuse_unmatchable, remove_features, teacher_features
from dfkit.distill.teacher_logits import seen_by, teacher_metrics
from dfkit.distill.variants import (
    BASELINES,
    StudentSummary,
    Variant,
    run_folder,
    summarize_runs,
)
from dfkit.files import write_atomically
from dfkit.models.checkpoint import TEACHER_PICTURE, Checkpoint, load_checkpoint
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.training.balance import class_weights, note_class_balance
from dfkit.training.first_weights import new_network, start_on
from dfkit.training.fit import compute_device
from dfkit.training.hints import HintLosses
from dfkit.training.loaders import learnt_clips, make_loaders
from dfkit.training.objective import TeacherLogits
from dfkit.training.recorder import RESUME_FILE
from dfkit.training.refit import FIRST, ONCE, Stage, train_twice, unseeing, wants_refit
from dfkit.training.run_summary import RESULTS_FILE, RunSummary, read_run
from dfkit.training.seen_groups import START, START_VAL, join_splits, refuse_seen_groups
from dfkit.training.task import ClipNetwork, ClipTask
from dfkit.training.train import require_clip_spec, run_and_score, set_threads, train_labels
from dfkit.weights.selection import WeightsChoice
from dfkit.workspace import TEACHER_LOGITS_FILE, Workspace, stored_path


@dataclass(frozen=True)
class DistillationSetup:
    """What all students of one teacher share: its logits on the data, the splits, and the gradients for pruning."""

    teacher_path: str
    """Checkpoint file, as it was named."""
    teacher: Checkpoint
    base: PreparedData
    """As it was named."""
    seen: PreparedData
    """What the teacher sees where it sees the same clips: those, with pictures of its own size."""
    data: PreparedData
    """What the students train on: the same clips, with pictures of the students' size."""
    indices: dict[str, list[int]]
    """Clip indices of each split."""
    soft_labels: SoftLabels
    """What is distilled: the teacher's logits, or what several voters say."""
    gradients: tuple[Weights, ...] | None
    """Gradients of the teacher's weights, a set per minibatch, for Taylor importance."""
    notes: tuple[str, ...] = ()
    """Notes for the report."""
    first: DistillationSetup | None = None
    """Of the first training where students train twice, see `dfkit.training.refit`: the teacher's network that has not
    seen the validation part, and the parts with that one."""

    @property
    def teacher_logits(self) -> TeacherLogits:
        """Logits that are distilled."""
        return self.soft_labels.logits


def student_clip_spec(spec: ClipSpec, section: DistillConfig) -> ClipSpec:
    """The contract of the student's clips: the data's, with pictures of the configured sides."""
    return spec.resized(section.face_px, section.lip_px)


def student_spec(teacher: NetworkSpec, config: DistillConfig) -> NetworkSpec:
    """The teacher's architecture at the configured widths and with the configured stem."""
    return teacher.model_copy(
        update={
            "stem": config.stem,
            "face_trunk": config.face_trunk or teacher.face_trunk,
            "gru_hidden": config.widths.gru_hidden,
            "face_channels": config.widths.face_channels,
            "lip_channels": config.widths.lip_channels,
        }
    )


def prepare_distillation(
    teacher_path: str | Path,
    data_dir: str | Path,
    config: Config,
    *,
    make_view: MakeView,
    weights: WeightsChoice | None = None,
) -> DistillationSetup:
    """Reads teacher and data, computes the teacher's logits and, for Taylor importance, its gradients.

    Args:
        teacher_path: Checkpoint of `dfkit train` or of the original implementation.
        data_dir: Prepared data that students train on.
        config: The experiment.
        make_view: Prepares the data's videos under another clip contract and returns the folder; called with the
            teacher's own contract where its preset or the size of its pictures differs from the data's, and with the
            student's where another size is configured.
        weights: Plain or EMA weights of the teacher; the plain ones where left out.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: Data and configuration do not fit.
        DataError: The data cannot be used or split.
    """
    set_threads(config.distill.num_threads)
    teacher = load_checkpoint(teacher_path, weights)
    base = PreparedData(data_dir)
    require_clip_spec(base.spec, config.clip, str(data_dir))
    indices = split_clips(base, config.split)
    twice = wants_refit(config, config.distill, base, indices)
    setup = _prepare(unseeing(teacher, base, indices), base, config, make_view)
    if not twice:
        return setup
    return replace(_prepare(teacher, base, config, make_view, joined=True), first=setup)


def _prepare(
    teacher: Checkpoint, base: PreparedData, config: Config, make_view: MakeView, *, joined: bool = False
) -> DistillationSetup:
    """The setup of one training.

    Args:
        teacher: Distilled.
        base: Prepared data that students train on.
        config: The experiment.
        make_view: See `prepare_distillation`.
        joined: Whether the validation part is trained on.
    """
    section = config.distill
    lightning.seed_everything(section.seed, verbose=False)
    same_view = teacher.clip_spec.preset == base.spec.preset
    views = f"{teacher.clip_spec.preset}, {base.spec.preset}"
    refuse_unmatchable(teacher.network.spec, section, views=None if same_view else views)
    seen = seen_by(teacher, base, make_view)
    data = base
    if teacher.network.spec.pictures:
        data = open_view(base, student_clip_spec(base.spec, section), make_view)
    indices = split_clips(data, config.split)
    if joined:
        indices = joined_parts(indices)
    notes = (*(f"teacher: {line}" for line in teacher.notes), *refuse_seen_groups(teacher.facts, data, indices))
    labels = soft_labels(teacher, base, data, indices, section, make_view)
    if same_view:
        notes = (*notes, *size_notes(seen, data))
    else:
        notes = (*notes, f"teacher and student see different views ({views}): logits are distilled per video")
    notes = (*notes, *labels.notes, *face_notes(teacher, data))
    if section.modality_dropout:
        notes = (
            *notes,
            f"modality_dropout {section.modality_dropout:g}: the teacher's answer to a clip that lost a modality is "
            "that to the whole clip",
        )
    if section.matches_features:
        notes = (
            *notes,
            f"matched beside the logits: features with weight {section.feature_weight:g}, attention maps with "
            f"{section.attention_weight:g}",
        )
    gradients = None
    if section.importance == "taylor":
        pictures = bool(teacher.network.spec.pictures)
        loaders = make_loaders(seen, indices, section, keep_videos=not same_view, pictures=pictures)
        gradients = minibatch_gradients(teacher.network, seen.spec, loaders.train, device=compute_device(section))
    return DistillationSetup(str(teacher.path), teacher, base, seen, data, indices, labels, gradients, notes)


def resized_setup(setup: DistillationSetup, spec: ClipSpec, make_view: MakeView) -> DistillationSetup:
    """The same teacher and clips for a student that sees pictures of other sides.

    Args:
        setup: Of any size.
        spec: The student's contract; differs from the setup's in the sides of its pictures alone.
        make_view: Prepares videos at those sides, where they are not there yet.
    """
    if spec == setup.data.spec:
        return setup
    data = open_view(setup.base, spec, make_view)
    logits = logits_for_view(setup.teacher_logits, setup.data, data)
    first = None if setup.first is None else resized_setup(setup.first, spec, make_view)
    return replace(setup, data=data, soft_labels=replace(setup.soft_labels, logits=logits), first=first)


def logits_for_view(logits: TeacherLogits, data: PreparedData, view: PreparedData) -> TeacherLogits:
    """The teacher's answers to `data` by the rows of a view: clips are the same, videos without clips are left out."""
    if not logits.by_video or view is data:
        return logits
    row_of = {video.sha256: row for row, video in enumerate(data.videos)}
    rows = [row_of[video.sha256] for video in view.videos]
    return TeacherLogits(logits.clip_logits[rows], None, by_video=True)


def size_notes(seen: PreparedData, data: PreparedData) -> tuple[str, ...]:
    """What to know where teacher and student see the same clips at different sizes."""
    theirs, ours = seen.spec.picture, data.spec.picture
    if theirs == ours:
        return ()
    return (
        f"the teacher sees faces of {theirs.face_px} px and lips of {theirs.lip_px} px, the student {ours.face_px} and "
        f"{ours.lip_px} px of the same clips",
    )


def face_notes(teacher: Checkpoint, data: PreparedData) -> tuple[str, ...]:
    """What to know where teacher and student see faces that different models found."""
    theirs = teacher.facts.get("face_models") or (None if teacher.kind == "original" else "float16")
    if None in (theirs, data.info.face_models) or theirs == data.info.face_models:
        return ()
    return (
        f"the teacher learnt from faces that {theirs} models found, the student's data has {data.info.face_models}",
    )


def distill_student(
    teacher_path: str | Path,
    data_dir: str | Path,
    workspace: Workspace,
    config: Config,
    *,
    make_view: MakeView,
    resume: str | Path | None = None,
    weights: WeightsChoice | None = None,
) -> StudentSummary:
    """Prunes and distils a teacher into a student, for as many seeds as the configuration says.

    Args:
        teacher_path: Checkpoint of `dfkit train` or of the original implementation.
        data_dir: Prepared data that the student trains on.
        workspace: Where the run folder is made.
        config: The experiment.
        make_view: Prepares the data's videos under another preset; see `prepare_distillation`.
        resume: Run folder to go on with: finished students are kept, an interrupted one goes on after its last whole
            epoch.
        weights: Plain or EMA weights of the teacher; the plain ones where left out.
    Returns:
        Metrics of the kept student, beside those of its baselines and other seeds.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: The widths cannot be reached, data and configuration do not fit, or the run that is to be resumed
            was started with another configuration or teacher.
        DataError: The data cannot be used or split, or is not that of the run.
    """
    request = make_request(teacher_path, PreparedData(data_dir), config, weights=weights)
    if resume is not None:
        refuse_other_request(Path(resume), request)
    setup = prepare_distillation(teacher_path, data_dir, config, make_view=make_view, weights=weights)
    prune_teacher(setup, config.distill)  # widths that cannot be reached leave no run folder
    if resume is not None:
        run_dir = Path(resume)
    else:
        run_dir = workspace.new_run_dir(config.name, "student")
        write_request(run_dir, request)
    note_class_balance(train_labels(setup.data, setup.indices["train"], config.distill), config.distill)
    summary = train_students(setup, config, run_dir)
    workspace.finish_run(run_dir, checkpoint="best.pth")
    return summary


def train_students(setup: DistillationSetup, config: Config, run_dir: Path) -> StudentSummary:
    """Trains a student of the configured widths and its baselines for every seed; finished runs are not repeated.

    Args:
        setup: Teacher, its logits and the clips.
        config: The experiment.
        run_dir: Existing folder. With one seed the student's own run lies in it, with several each in `seed-N`, and
            the best by validation AUC is copied up; baselines in `baseline_NAME`.
    """
    section = config.distill
    if setup.soft_labels.answered == setup.indices:
        answers = setup.teacher_logits
        clips = sorted(itertools.chain.from_iterable(setup.indices.values()))
        write_teacher_logits(
            run_dir / TEACHER_LOGITS_FILE, setup.data, answers.clip_logits.numpy(), clips, by_video=answers.by_video
        )
    variants: tuple[Variant, ...] = ("student", *BASELINES) if section.baselines else ("student",)
    runs: dict[Variant, list[RunSummary]] = {}
    for variant in variants:
        runs[variant] = []
        for seed in range(section.seed, section.seed + section.seeds):
            folder = run_folder(run_dir, variant, seed, section.seeds)
            run = read_run(folder)
            if run is None:
                folder.mkdir(parents=True, exist_ok=True)
                seed_config = config.model_copy(update={"distill": section.model_copy(update={"seed": seed})})
                run = train_run(setup, seed_config, folder, variant, features_dir=run_dir)
            runs[variant].append(run)
    for folder in (run_dir, run_dir / FIRST):
        remove_features(folder)
    teacher_size = count_parameters(setup.teacher.network)
    student_size = count_parameters(prune_teacher(setup, section))
    sizes = f"student has {student_size:,} parameters, the teacher {teacher_size:,}; importance {section.importance}"
    summary = summarize_runs(run_dir, runs, notes=(*setup.notes, sizes))
    write_atomically(run_dir / RESULTS_FILE, json.dumps(summary.to_json(), indent=2))
    return summary


def prune_teacher(setup: DistillationSetup, section: DistillConfig) -> MMMSBA:
    """Prunes the teacher to the configured widths: the student before distillation, with its dropout.

    Raises:
        ConfigError: The widths cannot be reached from this teacher.
    """
    teacher = setup.teacher.network
    pruned = prune(teacher, student_spec(teacher.spec, section), gradients=setup.gradients)
    student = MMMSBA(pruned.spec, gru_dropout=section.dropout, dense_dropout=section.dropout)
    student.load_state_dict(pruned.state_dict())
    return student


def make_hints(setup: DistillationSetup, section: DistillConfig, run_dir: Path) -> HintLosses | None:
    """The losses against the teacher's features and attention maps; None where neither has a weight.

    Args:
        setup: Teacher, data and training clips.
        section: Weights and widths of the student.
        run_dir: Keeps the teacher's features while students are trained; made where it is not there.
    Raises:
        CheckpointError: The teacher's features cannot be stored.
    """
    if not section.matches_features:
        return None
    run_dir.mkdir(exist_ok=True)
    features = teacher_features(setup.teacher, setup.seen, setup.indices["train"], section, run_dir)
    return HintLosses(features, student_spec(setup.teacher.network.spec, section), section)


def train_run(
    setup: DistillationSetup, config: Config, run_dir: Path, variant: Variant, *, features_dir: Path
) -> RunSummary:
    """Trains one run, twice where the setup says so; see `train_variant`.

    Args:
        setup: Teacher, its logits and the clips.
        config: With the run's own seed.
        run_dir: Existing folder.
        variant: Student or baseline.
        features_dir: Keeps the teacher's features, for all seeds; those of the first training lie in `first` of it.
    """

    def train(folder: Path, stage: Stage) -> RunSummary:
        is_first = setup.first is not None and stage.chosen is None
        own, features = (setup.first or setup, features_dir / FIRST) if is_first else (setup, features_dir)
        hints = make_hints(own, config.distill, features) if variant == "student" else None
        return train_variant(own, config, folder, variant, hints, stage)

    if setup.first is None:
        return train(run_dir, ONCE)
    num_videos = setup.first.data.count_videos(setup.first.indices["val"])
    return train_twice(run_dir, config.distill, train, num_videos=num_videos)


def train_variant(
    setup: DistillationSetup,
    config: Config,
    run_dir: Path,
    variant: Variant,
    hints: HintLosses | None = None,
    stage: Stage = ONCE,
) -> RunSummary:
    """Trains one run: the student by labels and the teacher's answers, a baseline by labels alone.

    All are given as many epochs; `patience` may end one earlier than another, which their summaries say.

    Args:
        setup: Teacher, its logits and the clips.
        config: With the run's own seed.
        run_dir: Existing folder; a run that was interrupted there goes on.
        variant: The baselines start as a new teacher does (`scratch`: random weights, but a face trunk that came with
            some has them, and they suit the scale of the clips) or as the student does (`prune_only`).
        hints: Losses against the teacher's features and attention maps.
        stage: Of a run that trains twice.
    """
    section, data = stage.section(config.distill), setup.data
    lightning.seed_everything(section.seed, verbose=False)
    network = prune_teacher(setup, section)
    if variant == "scratch":
        network = new_network(network.spec, dropout=section.dropout, dense_dropout=section.dropout)
    loaders = make_loaders(
        data,
        setup.indices,
        section,
        keep_videos=setup.teacher_logits.by_video,
        pictures=bool(network.spec.pictures),
    )
    facts: dict[str, Any] = {
        "teacher": stored_path(setup.teacher_path, run_dir),
        "teacher_kind": setup.teacher.kind,
        "teacher_weights": setup.teacher.weights,
        "teacher_parameters": count_parameters(setup.teacher.network),
        TEACHER_PICTURE: setup.teacher.clip_spec.picture.model_dump(mode="json"),
        "parameters": count_parameters(network),
        "teacher_metrics": teacher_metrics(data, setup.teacher_logits, setup.soft_labels.answered),
        "soft_labels": list(setup.soft_labels.voters),
    }
    taught = join_splits(setup.teacher.facts, *setup.soft_labels.further_facts)
    facts["splits"] = {name: taught[name] for name in (START, START_VAL) if name in taught}
    if variant != "student":
        facts["variant"] = variant
    model = ClipNetwork(network, data.spec, pool_sound=True)
    resume = (run_dir / RESUME_FILE).is_file()
    if variant == "scratch" and not resume:
        learnt = learnt_clips(data, setup.indices["train"], section)
        start_on(model, data, learnt, section, standardised=config.train.standardised_start)
    task = ClipTask(
        model,
        config=section,
        class_weights=class_weights(train_labels(data, setup.indices["train"], section), section),
        teacher=setup.teacher_logits if variant == "student" else None,
        hints=hints,
    )
    return run_and_score(
        task,
        data,
        loaders,
        kind="student",
        run_dir=run_dir,
        config=config,
        resume=resume,
        facts=facts,
        callbacks=[QuantizationAware(section)] if section.quantization_aware_epochs else [],
        stage=stage,
    )


def count_parameters(network: MMMSBA) -> int:
    """Number of trainable values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
