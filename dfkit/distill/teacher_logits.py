"""The teacher's logits on every clip: computed once, matched by any number of students."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from dfkit.config import DistillConfig
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView, open_view
from dfkit.errors import DataError
from dfkit.models.checkpoint import Checkpoint
from dfkit.training.fit import compute_device
from dfkit.training.loaders import clip_loader
from dfkit.training.objective import Batch, TeacherLogits
from dfkit.training.samplers import FixedOrder
from dfkit.training.scoring import ClipLogits, clip_logits, summarize, video_margins
from dfkit.training.task import ClipNetwork
from dfkit.training.train import require_clip_spec

# Frames of a uniform50 video differ in number of sound columns: one video a batch needs no padding.
VIDEO_BATCH = 1


def teacher_clip_logits(
    teacher: Checkpoint, data: PreparedData, indices: dict[str, list[int]], section: DistillConfig
) -> TeacherLogits:
    """The teacher's logits on every clip of the splits, without augmentation.

    Args:
        teacher: Of the data's preset.
        data: What the student trains on.
        indices: Clip indices of each split.
        section: Batch size, loader processes and device.
    Returns:
        Logits by clip index, on the CPU; zeros for clips of no split.
    """
    model = ClipNetwork(teacher.network, teacher.clip_spec).to(compute_device(section))
    # A loader of its own: the training one may draw some clips twice, others not at all, and augment them.
    clips = ClipDataset(data, sorted(itertools.chain.from_iterable(indices.values())))
    logits = clip_logits(model, clip_loader(clips, section, FixedOrder(len(clips))))
    model.to("cpu")
    by_clip = np.zeros((len(data), 2), np.float32)
    by_frame = np.zeros((len(data), data.spec.num_frames, 2), np.float32)
    by_clip[logits.indices] = logits.clip
    by_frame[logits.indices] = logits.frame
    return TeacherLogits(torch.from_numpy(by_clip), torch.from_numpy(by_frame), by_video=False)


def teacher_video_logits(
    teacher: Checkpoint, data: PreparedData, view: PreparedData, device: torch.device
) -> TeacherLogits:
    """The teacher's answer to each video, prepared as the teacher takes it, by the video index of `data`.

    A video's answer is that of `dfkit.measures.decision`: the mean over a track's clips, the most suspicious track.

    Args:
        teacher: Takes the view's clips.
        data: What the student trains on.
        view: The same videos prepared for the teacher.
        device: Where the teacher runs.
    Returns:
        Logits (0, margin) by video index, on the CPU; zeros for videos without a clip.
    Raises:
        DataError: The view lacks a video that the data holds.
    """
    model = ClipNetwork(teacher.network, view.spec).to(device)
    dataset = ClipDataset(view)
    loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
        dataset, batch_size=VIDEO_BATCH, collate_fn=collate_padded if view.spec.preset == "uniform50" else None
    )
    logits = clip_logits(model, loader)
    model.to("cpu")
    videos, margins = video_margins(view, logits)
    margin_of_file = {view.videos[video].sha256: margin for video, margin in zip(videos, margins, strict=True)}
    used = sorted({clip.video_index for clip in data.clips})
    missing = [data.videos[index].path for index in used if data.videos[index].sha256 not in margin_of_file]
    if missing:
        raise DataError(
            f"{view.path}: the teacher's view lacks {len(missing)} of the videos, the first is {missing[0]}",
            fix=f"dfkit prepare the same videos with --preset {view.spec.preset}",
        )
    by_video = np.zeros((len(data.videos), 2), np.float32)
    for index in used:
        by_video[index, 1] = margin_of_file[data.videos[index].sha256]
    return TeacherLogits(torch.from_numpy(by_video), None, by_video=True)


def teacher_answers(
    teacher: Checkpoint,
    base: PreparedData,
    data: PreparedData,
    indices: dict[str, list[int]],
    section: DistillConfig,
    make_view: MakeView,
) -> TeacherLogits:
    """A teacher's answers to what students train on: by clip where it sees the same clips, else by video.

    Args:
        teacher: Takes the clips of `base` at its own size, or those of another preset.
        base: As it was named.
        data: What the students train on: its clips at their size.
        indices: Clip indices of each split.
        section: Batch size, loader processes and device.
        make_view: Prepares videos under another clip contract.
    Raises:
        ConfigError: Data and teacher do not fit.
        DataError: The teacher's view lacks a video.
    """
    if teacher.clip_spec.preset == base.spec.preset:
        return teacher_clip_logits(teacher, seen_by(teacher, base, make_view), indices, section)
    view = PreparedData(make_view(base, teacher.clip_spec))
    if teacher.kind != "original":
        require_clip_spec(view.spec, teacher.clip_spec, view.path)
    return teacher_video_logits(teacher, data, view, compute_device(section))


def seen_by(teacher: Checkpoint, base: PreparedData, make_view: MakeView) -> PreparedData:
    """The clips of `base` at the teacher's size; as they are for one of the original, or of another preset.

    Raises:
        ConfigError: The teacher takes other clips under the same preset.
    """
    if teacher.kind == "original" or teacher.clip_spec.preset != base.spec.preset:
        return base
    same_size = base.spec.with_pictures_of(teacher.clip_spec)
    require_clip_spec(teacher.clip_spec, same_size, f"{teacher.path}'s data")
    return open_view(base, same_size, make_view)


def teacher_metrics(data: PreparedData, logits: TeacherLogits, indices: dict[str, list[int]]) -> dict[str, Any]:
    """The teacher's own metrics on validation and test clips.

    Args:
        data: What the student trains on.
        logits: The teacher's.
        indices: Clip indices of each split.
    Returns:
        `summarize` of `val` and of `test`, by name.
    """
    metrics = {}
    for name in ("val", "test"):
        clips = np.array(indices[name], dtype=int)
        # Every clip of a video gets the video's answer, whose mean over clips is the same again.
        rows = [data.clips[index].video_index for index in clips] if logits.by_video else clips
        no_frames = np.zeros((len(clips), 0, 2), np.float32)
        metrics[name] = summarize(data, ClipLogits(clips, logits.clip_logits.numpy()[rows], no_frames), part=name)
    return metrics
