"""What the bundle stores of the real training videos' features, so that a video unlike them gets no verdict."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from dfkit.data.storage import PreparedData
from dfkit.measures.familiarity import Familiarity, fit_familiarity, video_distance
from dfkit.measures.spacing import evenly_spaced
from dfkit.runtime.backends import Graphs

MAX_VIDEOS = 200
"""Real training videos that are looked at, spread over all; as many validation videos at most."""
CLIPS_PER_VIDEO = 2
PICTURE_STEP = 5
"""Every n-th picture of a clip: its mean hardly changes."""
Video = list[dict[str, np.ndarray]]


def measure_familiarity(
    graphs: Mapping[str, Graphs], data: PreparedData, indices: Mapping[str, Sequence[int]]
) -> Familiarity | None:
    """Fits what real training videos look like to the graphs that are shipped.

    Args:
        graphs: Loaded, by runtime, of a `clip2s` model with pictures. Clips count as each of them encodes them, so that
            what INT8 rounds away is no distance.
        data: What the model was trained on.
        indices: Clip indices of `train`, `val` and `test`; of the last nothing is looked at.
    Returns:
        What the manifest stores; None without a real training clip.
    """
    training, held_out = (_clips_by_video(data, indices[split]) for split in ("train", "val"))
    if not training:
        return None
    by_runtime = {name: [_features(each, data, clips) for clips in training] for name, each in graphs.items()}
    videos = [list(itertools.chain(*parts)) for parts in zip(*by_runtime.values(), strict=True)]
    groups = [str(data.clips[clips[0]].group) for clips in training]
    unseen = [list(itertools.chain(*(_features(each, data, clips) for each in graphs.values()))) for clips in held_out]
    fitted = fit_familiarity(videos, groups, unseen)
    if fitted.max_distance is None:
        return fitted
    distances = {
        name: np.array([video_distance(fitted.spreads, video) for video in found]) for name, found in by_runtime.items()
    }
    first, *others = distances
    differences = {name: round(float(np.abs(distances[name] - distances[first]).max()), 3) for name in others}
    return fitted.model_copy(update={"differences": differences})


def _clips_by_video(data: PreparedData, indices: Sequence[int]) -> list[list[int]]:
    """Clips of real videos, at most `CLIPS_PER_VIDEO` of each."""
    by_video: dict[int, list[int]] = {}
    for index in indices:
        clip = data.clips[index]
        if data.videos[clip.video_index].label == 0:
            by_video.setdefault(clip.video_index, []).append(index)
    videos = list(by_video.values())
    chosen = [videos[place] for place in evenly_spaced(len(videos), MAX_VIDEOS)] if videos else []
    return [[clips[place] for place in evenly_spaced(len(clips), CLIPS_PER_VIDEO)] for clips in chosen]


def _features(graphs: Graphs, data: PreparedData, clips: Sequence[int]) -> Video:
    records = (data[index] for index in clips)
    return [graphs.encode({"face": r.face[::PICTURE_STEP], "lip": r.lip[::PICTURE_STEP]}) for r in records]
