"""`dfkit distill`: prune a teacher's most important units into a student, then teach it the teacher's answers.

Where teacher and student see the same clips, logits are matched per clip and frame. An original checkpoint
saw 50 frames spread over a whole video (`uniform50`): it answers once per video, and the mean of a video's
clip logits is matched to that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from dfkit.clip import PRESETS, ClipSpec
from dfkit.config import Config, DistillConfig
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.distill.evaluate import ClipLogits, clip_logits, summarize
from dfkit.distill.loaders import Loaders, make_loaders, split_clips
from dfkit.distill.losses import classification_loss
from dfkit.distill.prune import prune
from dfkit.distill.task import Batch, ClipNetwork, ClipTask, TeacherAnswers
from dfkit.distill.train import RunSummary, class_weights, require_clips, run_and_score, set_threads
from dfkit.errors import DataError
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.workspace import Workspace

TEACHER_LOGITS_FILE = "teacher_logits.npz"
# Frames of a uniform50 video differ in number of sound columns: one video a batch needs no padding.
VIDEO_BATCH = 1


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
    teacher: MMMSBA, spec: ClipSpec, loaders: Loaders, *, num_batches: int = 8
) -> dict[str, torch.Tensor]:
    """Mean gradient of the clip loss by parameter name, over some training batches."""
    model = ClipNetwork(teacher, spec).eval()
    model.zero_grad()
    used = 0
    for batch in loaders.train:
        loss = classification_loss(model(batch).clip_logits, batch["label"])
        loss.backward()
        used += 1
        if used == num_batches:
            break
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad / max(used, 1) for name, p in teacher.named_parameters()
    }
    model.zero_grad()
    return gradients


def same_view_answers(teacher: Checkpoint, data: PreparedData, loaders: Loaders) -> TeacherAnswers:
    """The teacher's logits on every clip of the data, by clip index."""
    model = ClipNetwork(teacher.network, teacher.clip_spec)
    frames = data.spec.num_frames
    clip = np.zeros((len(data), 2), np.float32)
    frame = np.zeros((len(data), frames, 2), np.float32)
    for loader in (loaders.train, loaders.val, loaders.test):
        logits = clip_logits(model, loader)
        clip[logits.indices], frame[logits.indices] = logits.clip, logits.frame
    return TeacherAnswers(torch.from_numpy(clip), torch.from_numpy(frame), by_video=False)


def video_answers(teacher: Checkpoint, data: PreparedData, view: PreparedData) -> TeacherAnswers:
    """The teacher's logits of each video, seen in its own view, by the video index of `data`.

    Raises:
        DataError: The view lacks a video that the data holds.
    """
    model = ClipNetwork(teacher.network, view.spec)
    dataset = ClipDataset(view)
    loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
        dataset, batch_size=VIDEO_BATCH, collate_fn=collate_padded if view.spec.preset == "uniform50" else None
    )
    logits = clip_logits(model, loader)
    by_file = {view.videos[view.clips[i].video_index].sha256: logits.clip[n] for n, i in enumerate(logits.indices)}
    used = sorted({key.video_index for key in data.clips})
    missing = [data.videos[v].path for v in used if data.videos[v].sha256 not in by_file]
    if missing:
        raise DataError(
            f"{view.path}: the teacher's view lacks {len(missing)} of the videos, the first is {missing[0]}",
            fix=f"dfkit prepare the same videos with --preset {view.spec.preset}",
        )
    answers = np.zeros((len(data.videos), 2), np.float32)
    for video in used:
        answers[video] = by_file[data.videos[video].sha256]
    return TeacherAnswers(torch.from_numpy(answers), None, by_video=True)


def distill_student(
    teacher_path: str | Path,
    data_dir: str | Path,
    workspace: Workspace,
    config: Config,
    *,
    make_view: Callable[[PreparedData, ClipSpec], Path],
) -> RunSummary:
    """Prunes and distils a teacher into a student.

    Args:
        teacher_path: Checkpoint of `dfkit train` or of the original implementation.
        data_dir: Prepared data that the student trains on.
        workspace: Where the run folder is made.
        config: The experiment.
        make_view: Prepares the data's videos under another preset and returns the folder; asked for where the
            teacher's view differs from the student's.
    Raises:
        CheckpointError: The teacher cannot be read.
        ConfigError: The widths cannot be reached, or data and configuration do not fit.
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
    loaders = make_loaders(data, indices, section, keep_videos=not same_view)
    notes = []
    if same_view:
        answers = same_view_answers(teacher, data, loaders)
    else:
        view = PreparedData(make_view(data, PRESETS[teacher.clip_spec.preset]))
        answers = video_answers(teacher, data, view)
        notes.append(
            f"teacher and student see different views ({teacher.clip_spec.preset}, {data.spec.preset}): "
            "logits are distilled per video"
        )
    student = prune_teacher(teacher, data, loaders, section)
    run_dir = workspace.new_run_dir(config.name, "student")
    np.savez(
        run_dir / TEACHER_LOGITS_FILE,
        clip_logits=answers.clip_logits.numpy(),
        by_video=np.array(answers.by_video),
    )
    weights = class_weights(data, loaders, section)
    facts = {
        "teacher": str(teacher_path),
        "teacher_kind": teacher.kind,
        "teacher_parameters": count_parameters(teacher.network),
        "parameters": count_parameters(student),
        "teacher_metrics": teacher_metrics(data, answers, indices),
    }
    model = ClipNetwork(student, data.spec, pool_sound=True)
    task = ClipTask(model, config=section, class_weights=weights, teacher=answers)
    summary = run_and_score(task, data, loaders, kind="student", run_dir=run_dir, config=config, facts=facts)
    if section.baselines:
        baselines = train_baselines(teacher, data, loaders, section, config, run_dir)
        (run_dir / "baselines.json").write_text(json.dumps(baselines, indent=2), encoding="utf-8")
        notes += [f"baseline {name}: test video AUC {auc_text(value)}" for name, value in baselines.items()]
    notes.append(
        f"student has {facts['parameters']:,} parameters, the teacher {facts['teacher_parameters']:,}; "
        f"importance {section.importance}"
    )
    workspace.finish_run(run_dir, checkpoint="best.pth")
    return RunSummary(**{**vars(summary), "notes": tuple(notes)})


def prune_teacher(teacher: Checkpoint, data: PreparedData, loaders: Loaders, section: DistillConfig) -> MMMSBA:
    """The student before distillation, with the configured dropout."""
    gradients = None
    if section.importance == "taylor":
        gradients = mean_gradients(teacher.network, data.spec, loaders)
    pruned = prune(teacher.network, student_spec(teacher.network.spec, section), gradients=gradients)
    student = MMMSBA(pruned.spec, gru_dropout=section.dropout, dense_dropout=section.dropout)
    student.load_state_dict(pruned.state_dict())
    return student


def train_baselines(
    teacher: Checkpoint,
    data: PreparedData,
    loaders: Loaders,
    section: DistillConfig,
    config: Config,
    run_dir: Path,
) -> dict[str, Any]:
    """The same student from scratch and only pruned, at equal steps, by labels alone: test metrics of each."""
    results = {}
    for name in ("scratch", "prune_only"):
        lightning.seed_everything(section.seed, verbose=False)
        if name == "scratch":
            spec = student_spec(teacher.network.spec, section)
            network = MMMSBA(spec, gru_dropout=section.dropout, dense_dropout=section.dropout)
        else:
            network = prune_teacher(teacher, data, loaders, section)
        task = ClipTask(
            ClipNetwork(network, data.spec, pool_sound=True),
            config=section,
            class_weights=class_weights(data, loaders, section),
        )
        folder = run_dir / f"baseline_{name}"
        folder.mkdir()
        summary = run_and_score(task, data, loaders, kind="student", run_dir=folder, config=config)
        results[name] = summary.metrics["test"]
    return results


def auc_text(metrics: dict[str, Any]) -> str:
    """Video AUC of a summary, in words."""
    value = metrics.get("video", {}).get("auc")
    return "not defined" if value is None else f"{value:.3f}"


def teacher_metrics(data: PreparedData, answers: TeacherAnswers, indices: dict[str, list[int]]) -> dict[str, Any]:
    """The teacher's own metrics on validation and test clips, from its answers."""
    result = {}
    for name in ("val", "test"):
        places = np.array(indices[name], dtype=int)
        rows = [data.clips[i].video_index for i in places] if answers.by_video else places
        clip = answers.clip_logits.numpy()[rows]
        result[name] = summarize(data, ClipLogits(places, clip, np.zeros((len(places), 0, 2), np.float32)))
    return result


def count_parameters(network: MMMSBA) -> int:
    """Trainable values."""
    return sum(p.numel() for p in network.parameters())
