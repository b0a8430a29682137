"""What the teacher says of every clip: computed once, matched by any number of students."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dfkit.config import DistillConfig
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.distill.evaluate import ClipLogits, clip_logits, summarize
from dfkit.distill.fit import compute_device
from dfkit.distill.loaders import clip_loader
from dfkit.distill.objective import Batch, TeacherAnswers
from dfkit.distill.samplers import FixedOrder
from dfkit.distill.task import ClipNetwork
from dfkit.errors import DataError
from dfkit.models.checkpoint import Checkpoint

# Frames of a uniform50 video differ in number of sound columns: one video a batch needs no padding.
VIDEO_BATCH = 1


def same_view_answers(
    teacher: Checkpoint, data: PreparedData, indices: dict[str, list[int]], section: DistillConfig
) -> TeacherAnswers:
    """The teacher's logits on every clip of the parts, as it is stored, by clip index."""
    model = ClipNetwork(teacher.network, teacher.clip_spec).to(compute_device(section))
    frames = data.spec.num_frames
    clip = np.zeros((len(data), 2), np.float32)
    frame = np.zeros((len(data), frames, 2), np.float32)
    # A loader of its own: the training one may draw some clips twice, others not at all, and augment them.
    clips = ClipDataset(data, sorted(place for places in indices.values() for place in places))
    logits = clip_logits(model, clip_loader(clips, section, FixedOrder(len(clips))))
    clip[logits.indices], frame[logits.indices] = logits.clip, logits.frame
    model.to("cpu")
    return TeacherAnswers(torch.from_numpy(clip), torch.from_numpy(frame), by_video=False)


def video_answers(teacher: Checkpoint, data: PreparedData, view: PreparedData, device: torch.device) -> TeacherAnswers:
    """The teacher's logits of each video, seen in its own view, by the video index of `data`.

    Args:
        teacher: Of the view's preset.
        data: What the student trains on.
        view: The same videos prepared for the teacher.
        device: Where the teacher runs.
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


def teacher_metrics(data: PreparedData, answers: TeacherAnswers, indices: dict[str, list[int]]) -> dict[str, Any]:
    """The teacher's own metrics on validation and test clips, from its answers."""
    result = {}
    for name in ("val", "test"):
        places = np.array(indices[name], dtype=int)
        rows = [data.clips[i].video_index for i in places] if answers.by_video else places
        clip = answers.clip_logits.numpy()[rows]
        result[name] = summarize(data, ClipLogits(places, clip, np.zeros((len(places), 0, 2), np.float32)))
    return result
