"""What a student learns beside its labels: a teacher's logits, or what several teachers and stored answers vote."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dfkit.config import DistillConfig
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView
from dfkit.distill.answers import read_answers
from dfkit.distill.teacher_logits import teacher_answers
from dfkit.evaluation.ensembles import mean_logits
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.training.objective import TeacherLogits
from dfkit.training.refit import unseeing
from dfkit.training.scoring import ClipLogits, video_margins
from dfkit.training.seen_groups import refuse_seen_groups


@dataclass(frozen=True)
class SoftLabels:
    """What is distilled."""

    logits: TeacherLogits
    answered: dict[str, list[int]]
    """Clip indices of each part that have logits."""
    voters: tuple[str, ...]
    """Whose logits these are."""
    further_facts: tuple[Mapping[str, Any], ...] = ()
    """Facts of the checkpoints that vote beside the first."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Voter:
    """One of several whose mean is distilled."""

    name: str
    logits: TeacherLogits
    temperature: float
    """Of its calibration."""
    share: float


def soft_labels(
    teacher: Checkpoint,
    base: PreparedData,
    data: PreparedData,
    indices: dict[str, list[int]],
    section: DistillConfig,
    make_view: MakeView,
) -> SoftLabels:
    """The teacher's logits as they are, or the vote that `further_teachers` and `answers` ask for.

    Args:
        teacher: The first.
        base: Prepared data as it was named.
        data: Its clips at the students' size.
        indices: Clip indices of each part.
        section: Names further teachers and answers.
        make_view: Prepares videos under another clip contract.
    Raises:
        CheckpointError: A further teacher cannot be read.
        ConfigError: Data and a teacher do not fit.
        DataError: Answers cannot be used, or a voter has seen what the student is to be judged by.
    """
    if not section.further_teachers and not section.answers:
        logits = teacher_answers(teacher, base, data, indices, section, make_view)
        return SoftLabels(logits, indices, (str(teacher.path),))
    voters: list[Voter] = []
    notes: list[str] = []
    answered, further = indices, [unseeing(load_checkpoint(path), data, indices) for path in section.further_teachers]
    teachers = [teacher, *further]
    if section.answers:
        same_clips = base.spec.preset == "clip2s"
        answers = read_answers(section.answers, data, indices, same_clips=same_clips)
        answered = answers.answered
        notes += answers.notes
        voters.append(Voter(", ".join(section.answers), answers.logits, 1.0, section.answers_share))
    share = (1 - section.answers_share if section.answers else 1.0) / len(teachers)
    for checkpoint in teachers if share else ():
        logits = teacher_answers(checkpoint, base, data, indices, section, make_view)
        temperature = _calibration(checkpoint, notes)
        voters.append(Voter(str(checkpoint.path), logits, temperature, share))
    if share:
        for checkpoint in further:
            notes += refuse_seen_groups(checkpoint.facts, data, indices)
    names = tuple(f"{voter.name} ({voter.share:.0%})" for voter in voters)
    notes.append(f"distilled: {'the mean of the calibrated logits of ' if len(voters) > 1 else ''}{', '.join(names)}")
    facts = tuple(checkpoint.facts for checkpoint in further) if share else ()
    return SoftLabels(vote(voters, data, answered), answered, names, facts, tuple(dict.fromkeys(notes)))


def _calibration(checkpoint: Checkpoint, notes: list[str]) -> float:
    """Temperature that a checkpoint holds; 1 where it holds none, which is noted."""
    decision = Decision.from_facts(checkpoint.facts)
    if decision is None:
        notes.append(f"{checkpoint.path}: holds no calibration, so its logits vote as they are")
        return 1.0
    return decision.temperature


def vote(voters: Sequence[Voter], data: PreparedData, answered: Mapping[str, Sequence[int]]) -> TeacherLogits:
    """The mean of the voters' calibrated logits: by clip where all answer by clip, and by frame where all do.

    Args:
        voters: At least one.
        data: What students train on.
        answered: Clip indices of each part that all voters answered.
    """
    temperatures, shares = [v.temperature for v in voters], [v.share for v in voters]
    by_video = any(voter.logits.by_video for voter in voters)
    clips = sorted(itertools.chain.from_iterable(answered.values()))
    rows = [by_video_rows(v.logits, data, clips) if by_video else v.logits.clip_logits.numpy() for v in voters]
    frames = None
    if not by_video and all(voter.logits.frame_logits is not None for voter in voters):
        stacked = [v.logits.frame_logits.numpy() for v in voters if v.logits.frame_logits is not None]
        frames = torch.from_numpy(mean_logits(stacked, temperatures, shares))
    return TeacherLogits(torch.from_numpy(mean_logits(rows, temperatures, shares)), frames, by_video=by_video)


def by_video_rows(logits: TeacherLogits, data: PreparedData, clips: Sequence[int]) -> np.ndarray:
    """Logits (0, margin) of each video, (V, 2) float32; of answers by clip by the rule for a video's clips.

    Args:
        logits: By clip or by video.
        data: What they are of.
        clips: That were answered; videos without any have zeros.
    """
    values = logits.clip_logits.numpy()
    if logits.by_video:
        return values
    rows = np.zeros((len(data.videos), 2), np.float32)
    no_frames = np.zeros((len(clips), 0, 2), np.float32)
    videos, margins = video_margins(data, ClipLogits(np.asarray(clips, np.int64), values[list(clips)], no_frames))
    rows[videos, 1] = margins
    return rows
