"""`dfkit distill`: prune a teacher's most important units into a student, then teach it the teacher's answers.

Where teacher and student see the same clips, logits are matched per clip and frame. An original checkpoint
saw 50 frames spread over a whole video (`uniform50`): it answers once per video, and the mean of a video's
clip logits is matched to that.

A `Lesson` is what any number of students share: the teacher, its answers, the split. `dfkit.search` teaches
students of several widths from one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch

from dfkit.clip import PRESETS, ClipSpec
from dfkit.config import Config, DistillConfig
from dfkit.data.catalog import write_atomically
from dfkit.data.storage import PreparedData
from dfkit.distill.answers import same_view_answers, teacher_metrics, video_answers
from dfkit.distill.balance import announce_balance, class_weights
from dfkit.distill.fit import compute_device
from dfkit.distill.loaders import Loaders, make_loaders, split_clips
from dfkit.distill.losses import classification_loss
from dfkit.distill.objective import TeacherAnswers
from dfkit.distill.prune import Weights, prune
from dfkit.distill.quantization_aware import QuantizationAware
from dfkit.distill.recorder import RESUME_FILE
from dfkit.distill.seen_groups import refuse_seen_groups
from dfkit.distill.task import ClipNetwork, ClipTask
from dfkit.distill.train import RunSummary, require_clips, run_and_score, set_threads, train_labels
from dfkit.distill.variants import BASELINES, RESULTS_FILE, StudentSummary, Variant, folder_of, join_runs, read_run
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.workspace import Workspace

TEACHER_LOGITS_FILE = "teacher_logits.npz"


@dataclass(frozen=True)
class Lesson:
    """What students of one teacher share."""

    teacher_path: str
    teacher: Checkpoint
    data: PreparedData
    """What the students train on."""
    indices: dict[str, list[int]]
    """Clip indices of each split."""
    answers: TeacherAnswers
    gradients: Weights | None
    """Mean gradients of the teacher's weights, for Taylor importance."""
    notes: tuple[str, ...] = ()


def student_spec(teacher: NetworkSpec, config: DistillConfig) -> NetworkSpec:
    """The teacher's topology at the configured widths."""
    return teacher.model_copy(
        update={
            "gru_hidden": config.widths.gru_hidden,
            "face_channels": config.widths.face_channels,
            "lip_channels": config.widths.lip_channels,
        }
    )


def mean_gradients(
    teacher: MMMSBA, spec: ClipSpec, loaders: Loaders, *, device: torch.device, num_batches: int = 8
) -> dict[str, torch.Tensor]:
    """Mean gradient of the clip loss by parameter name, on the CPU, over some training batches.

    Args:
        teacher: In eval mode, so without dropout; its weights stay.
        spec: Clips it takes.
        loaders: The training part is used.
        device: Where the gradients are computed.
        num_batches: How many are averaged.
    """
    model = ClipNetwork(teacher, spec).eval().to(device)
    model.zero_grad()
    used = 0
    # cuDNN refuses the backward pass of a GRU that is not in training mode; torch's own kernels do it.
    with torch.backends.cudnn.flags(enabled=False):
        for batch in itertools.islice(loaders.train, num_batches):
            here = {name: value.to(device) for name, value in batch.items()}
            classification_loss(model(here).clip_logits, here["label"]).backward()
            used += 1
    gradients = {
        name: torch.zeros_like(p, device="cpu") if p.grad is None else (p.grad / max(used, 1)).cpu()
        for name, p in teacher.named_parameters()
    }
    model.zero_grad()
    model.to("cpu")
    return gradients


def open_lesson(
    teacher_path: str | Path,
    data_dir: str | Path,
    config: Config,
    *,
    make_view: Callable[[PreparedData, ClipSpec], Path],
) -> Lesson:
    """Reads teacher and data and computes the teacher's answers.

    Args:
        teacher_path: Checkpoint of `dfkit train` or of the original implementation.
        data_dir: Prepared data that students train on.
        config: The experiment.
        make_view: Prepares the data's videos under another preset and returns the folder; asked for where the
            teacher's view differs from the student's.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: Data and configuration do not fit.
        DataError: The data cannot be used or split.
    """
    section = config.distill
    set_threads(section.num_threads)
    lightning.seed_everything(section.seed, verbose=False)
    teacher = load_checkpoint(teacher_path)
    data = PreparedData(data_dir)
    require_clips(data.spec, config.clip, str(data_dir))
    same_view = teacher.clip_spec.preset == data.spec.preset
    if same_view and teacher.kind != "original":
        require_clips(teacher.clip_spec, data.spec, f"{teacher_path}'s data")
    indices = split_clips(data, section.split)
    refuse_seen_groups(teacher.facts, data, indices)
    notes: tuple[str, ...] = ()
    if same_view:
        answers = same_view_answers(teacher, data, indices, section)
    else:
        view = PreparedData(make_view(data, PRESETS[teacher.clip_spec.preset]))
        answers = video_answers(teacher, data, view, compute_device(section))
        views = f"{teacher.clip_spec.preset}, {data.spec.preset}"
        notes = (f"teacher and student see different views ({views}): logits are distilled per video",)
    gradients = None
    if section.importance == "taylor":
        pictures = bool(teacher.network.spec.pictures)
        loaders = make_loaders(data, indices, section, keep_videos=not same_view, pictures=pictures)
        gradients = mean_gradients(teacher.network, data.spec, loaders, device=compute_device(section))
    return Lesson(str(teacher_path), teacher, data, indices, answers, gradients, notes)


def distill_student(
    teacher_path: str | Path,
    data_dir: str | Path,
    workspace: Workspace,
    config: Config,
    *,
    make_view: Callable[[PreparedData, ClipSpec], Path],
) -> StudentSummary:
    """Prunes and distils a teacher into a student, for as many seeds as the configuration says.

    Args:
        teacher_path: See `open_lesson`.
        data_dir: See `open_lesson`.
        workspace: Where the run folder is made.
        config: The experiment.
        make_view: See `open_lesson`.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: The widths cannot be reached, or data and configuration do not fit.
        DataError: The data cannot be used or split.
    """
    lesson = open_lesson(teacher_path, data_dir, config, make_view=make_view)
    prune_teacher(lesson, config.distill)  # widths that cannot be reached leave no run folder
    run_dir = workspace.new_run_dir(config.name, "student")
    announce_balance([lesson.data.clips[i].label or 0 for i in lesson.indices["train"]], config.distill)
    summary = teach(lesson, config, run_dir)
    workspace.finish_run(run_dir, checkpoint="best.pth")
    return summary


def teach(lesson: Lesson, config: Config, run_dir: Path) -> StudentSummary:
    """One student of the configured widths, with its baselines, for every seed; finished runs are taken as they are.

    Args:
        lesson: Teacher, answers and clips.
        config: The experiment.
        run_dir: Existing folder. With one seed the student's own run lies in it, with several each in `seed-N`, and
            the best by validation AUC is copied up; baselines in `baseline_NAME`.
    """
    section = config.distill
    np.savez(
        run_dir / TEACHER_LOGITS_FILE,
        clip_logits=lesson.answers.clip_logits.numpy(),
        by_video=np.array(lesson.answers.by_video),
    )
    variants: tuple[Variant, ...] = ("student", *BASELINES) if section.baselines else ("student",)
    runs: dict[Variant, list[RunSummary]] = {}
    for variant in variants:
        runs[variant] = []
        for seed in range(section.seed, section.seed + section.seeds):
            folder = folder_of(run_dir, variant, seed, section.seeds)
            found = read_run(folder)
            if found is None:
                folder.mkdir(parents=True, exist_ok=True)
                of_seed = config.model_copy(update={"distill": section.model_copy(update={"seed": seed})})
                found = train_variant(lesson, of_seed, folder, variant)
            runs[variant].append(found)
    whole, kept = count_parameters(lesson.teacher.network), count_parameters(prune_teacher(lesson, section))
    size = f"student has {kept:,} parameters, the teacher {whole:,}; importance {section.importance}"
    summary = join_runs(run_dir, runs, notes=(*lesson.notes, size))
    write_atomically(run_dir / RESULTS_FILE, json.dumps(summary.to_json(), indent=2))
    return summary


def prune_teacher(lesson: Lesson, section: DistillConfig) -> MMMSBA:
    """The student before distillation, with the configured dropout.

    Raises:
        ConfigError: The widths cannot be reached from this teacher.
    """
    teacher = lesson.teacher.network
    pruned = prune(teacher, student_spec(teacher.spec, section), gradients=lesson.gradients)
    student = MMMSBA(pruned.spec, gru_dropout=section.dropout, dense_dropout=section.dropout)
    student.load_state_dict(pruned.state_dict())
    return student


def train_variant(lesson: Lesson, config: Config, run_dir: Path, variant: Variant) -> RunSummary:
    """One run: the student by labels and the teacher's answers, a baseline by labels alone, at equal steps.

    Args:
        lesson: Teacher, answers and clips.
        config: With the run's own seed.
        run_dir: Existing folder; a run that was interrupted there goes on.
        variant: The baselines start from random weights (`scratch`) or as the student does (`prune_only`).
    """
    section, data = config.distill, lesson.data
    lightning.seed_everything(section.seed, verbose=False)
    network = prune_teacher(lesson, section)
    if variant == "scratch":
        network = MMMSBA(network.spec, gru_dropout=section.dropout, dense_dropout=section.dropout)
    loaders = make_loaders(
        data,
        lesson.indices,
        section,
        keep_videos=lesson.answers.by_video,
        pictures=bool(network.spec.pictures),
    )
    facts = {
        "teacher": lesson.teacher_path,
        "teacher_kind": lesson.teacher.kind,
        "teacher_parameters": count_parameters(lesson.teacher.network),
        "parameters": count_parameters(network),
        "teacher_metrics": teacher_metrics(data, lesson.answers, lesson.indices),
    }
    task = ClipTask(
        ClipNetwork(network, data.spec, pool_sound=True),
        config=section,
        class_weights=class_weights(train_labels(data, loaders), section),
        teacher=lesson.answers if variant == "student" else None,
    )
    return run_and_score(
        task,
        data,
        loaders,
        kind="student",
        run_dir=run_dir,
        config=config,
        resume=(run_dir / RESUME_FILE).is_file(),
        facts=facts if variant == "student" else {**facts, "variant": variant},
        callbacks=[QuantizationAware(section)] if section.quantization_aware_epochs else [],
    )


def count_parameters(network: MMMSBA) -> int:
    """Trainable values."""
    return sum(p.numel() for p in network.parameters())
