"""Answers of any models to videos, out of files: what is distilled in place of a teacher's logits, or beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.data.labels import shown
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.evaluation.foreign import score_table, truth_of_data
from dfkit.evaluation.scores_file import SCORES_FILE, ModelFacts, ScoredVideo, ScoresFile, read_scores
from dfkit.evaluation.uncertainty import logits_from_p_fake
from dfkit.measures.decision import Aggregation, margins_of, video_margin
from dfkit.models.checkpoint import load_checkpoint
from dfkit.runtime.bundle import open_bundle
from dfkit.training.objective import TeacherLogits
from dfkit.training.seen_groups import refuse_seen_groups

LEAST_P = 0.01
"""Probabilities are kept this far from 0 and 1: a forest of some hundred trees says 0 where none disagrees, and its
infinite logit would outvote every other."""
ClipName = tuple[str, int, int]
"""The video's SHA-256, the track, and the start in milliseconds."""


@dataclass(frozen=True)
class Answers:
    """What files answer to the clips of prepared data, calibrated."""

    logits: TeacherLogits
    """(0, margin) by clip where the files have every clip that is answered, else by video."""
    answered: dict[str, list[int]]
    """Clip indices of each part that are answered; of `train` all."""
    notes: tuple[str, ...]


def read_answers(
    paths: Sequence[str], data: PreparedData, indices: Mapping[str, Sequence[int]], *, same_clips: bool = True
) -> Answers:
    """Reads files of answers and puts them to clips or videos.

    Args:
        paths: `scores.json`, its folder, or a table `path,p_fake`; together they answer each video once.
        data: What a student trains on.
        indices: Clip indices of its parts.
        same_clips: Whether clips can be told apart in both, as they can under a dense contract.
    Raises:
        DataError: A file cannot be read or gives no probabilities, a video is answered twice, a training video is not
            answered, or the models of a file have seen what the student is to be judged by.
    """
    files = [_read(path, data) for path in paths]
    margins: dict[str, float] = {}
    clips: dict[ClipName, float] = {}
    video_of_path = {row.path: row.sha256 for row in data.videos}
    for path, scores in zip(paths, files, strict=True):
        for video in scores.answered:
            sha256 = video.sha256 or video_of_path.get(video.path, "")
            if sha256 in margins:
                raise DataError(
                    f"{path}: answers {video.video}, which another file answers, too",
                    fix="name files with --answers that answer different videos",
                )
            margins[sha256] = _video_margin(video, scores)
            clips |= _clip_margins(sha256, video, scores)
    _require_training_videos(paths, margins, data, indices["train"])
    answered = {
        part: [index for index in clip_indices if _sha256(data, index) in margins]
        for part, clip_indices in indices.items()
    }
    every = [index for part in answered.values() for index in part]
    by_clip = same_clips and all(_clip_name(data, index) in clips for index in every)
    if by_clip:
        values = {index: clips[_clip_name(data, index)] for index in every}
        logits = TeacherLogits(_rows(len(data), values), None, by_video=False)
    else:
        values = {data.clips[index].video_index: margins[_sha256(data, index)] for index in every}
        logits = TeacherLogits(_rows(len(data.videos), values), None, by_video=True)
    models = [model for scores in files for model in scores.models]
    notes = (
        f"answers of {', '.join(paths)} are distilled by {'clip' if by_clip else 'video'}",
        *_unanswered_notes(answered, indices),
        *refuse_seen_by_models(models, data, indices),
    )
    return Answers(logits, answered, notes)


def _read(path: str, data: PreparedData) -> ScoresFile:
    """A scores file, or a table as one."""
    file = Path(path)
    if file.is_dir() or file.suffix == ".json" or file.name == SCORES_FILE:
        scores = read_scores(file)
    else:
        truth = replace(truth_of_data(data, "all"), baseline=None)
        scores = score_table(file, truth, score_column=None, min_coverage=0.0)
    if scores.scores == "uncalibrated":
        raise DataError(
            f"{path}: its scores are no probabilities, and what they say of a video's doubt is not known",
            fix="turn them into p_fake between 0 and 1, for example by Platt scaling on validation videos",
        )
    return scores


def _temperature(scores: ScoresFile) -> float:
    return 1.0 if scores.decision is None else scores.decision.decision.temperature


def _video_margin(video: ScoredVideo, scores: ScoresFile) -> float:
    """Calibrated margin of a video: the mean over a track's clips, the most suspicious track."""
    if video.clips is not None:
        return video_margin(video.clips.scores, Aggregation()) / _temperature(scores)
    assert video.score is not None, "only answered videos are asked"
    # A foreign detector's probability is taken as it is; nothing was fitted to it.
    return float(margins_of(logits_from_p_fake(np.clip(video.score, LEAST_P, 1 - LEAST_P))))


def _clip_margins(sha256: str, video: ScoredVideo, scores: ScoresFile) -> dict[ClipName, float]:
    if video.clips is None:
        return {}
    margins = margins_of(np.array(video.clips.logits)) / _temperature(scores)
    starts = zip(video.clips.track, video.clips.start_s, margins, strict=True)
    return {(sha256, track, round(1000 * start_s)): float(margin) for track, start_s, margin in starts}


def _sha256(data: PreparedData, index: int) -> str:
    return data.videos[data.clips[index].video_index].sha256


def _clip_name(data: PreparedData, index: int) -> ClipName:
    clip = data.clips[index]
    return _sha256(data, index), clip.track_id, round(1000 * clip.start_s)


def _rows(count: int, margins: Mapping[int, float]) -> torch.Tensor:
    """(count, 2) float32 of (0, margin); zeros where there is none."""
    rows = np.zeros((count, 2), np.float32)
    for row, margin in margins.items():
        rows[row, 1] = margin
    return torch.from_numpy(rows)


def _require_training_videos(
    paths: Sequence[str], margins: Mapping[str, float], data: PreparedData, clips: Iterable[int]
) -> None:
    videos = {data.clips[index].video_index for index in clips}
    missing = [data.videos[video].path for video in sorted(videos) if data.videos[video].sha256 not in margins]
    if missing:
        raise DataError(
            f"{', '.join(paths)}: no answer to {len(missing)} of {len(videos)} training videos: {shown(missing)}",
            fix="answer them, too: dfkit evaluate --split train, and name its scores.json with --answers",
        )


def _unanswered_notes(answered: Mapping[str, Sequence[int]], indices: Mapping[str, Sequence[int]]) -> Iterator[str]:
    lacking = [part for part in indices if len(answered[part]) < len(indices[part])]
    if lacking:
        yield f"not all videos of {' and '.join(lacking)} are answered: there is no such teacher to compare with there"


def refuse_seen_by_models(
    models: Sequence[ModelFacts], data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> tuple[str, ...]:
    """Refuses answers of models that have seen what the student is to be judged by, as far as that can be told.

    Returns:
        What could not be told.
    Raises:
        DataError: A model has.
    """
    notes: list[str] = []
    for model in dict.fromkeys(models):
        facts = _training_facts(model)
        if facts is None:
            notes.append(
                f"{model.path}: nothing says which videos its answers were learnt from: they may be those that the "
                "student is judged by"
            )
        else:
            notes += refuse_seen_groups(facts, data, indices)
    return tuple(dict.fromkeys(notes))


def _training_facts(model: ModelFacts) -> Mapping[str, Any] | None:
    """What a model stored of its training; None where it is another detector's, or not here any more."""
    path = Path(model.path)
    if model.kind.startswith("foreign") or not path.exists():
        return None
    if model.kind == "bundle":
        facts: Mapping[str, Any] = open_bundle(path).manifest.metrics.get("data", {})
        return facts
    return load_checkpoint(path, model.weights).facts  # type: ignore[arg-type]
