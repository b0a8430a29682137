"""Logits of prepared clips as rows of a scores file: video by video, every frame once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dfkit.data.storage import PreparedData
from dfkit.evaluation.scores_file import ClipColumns, FrameColumns, ReadFacts, ScoredVideo, short_float32
from dfkit.measures.bootstrap import rows_by_group
from dfkit.training.scoring import ClipLogits


def scored_videos(
    data: PreparedData,
    logits: ClipLogits,
    frame_labels: np.ndarray,
    uncertainty: Mapping[str, np.ndarray] | None = None,
    *,
    named: PreparedData | None = None,
) -> list[ScoredVideo]:
    """Rows of the videos that some clips are from, in rising order of their index.

    Args:
        data: Prepared data with labels.
        logits: Of N of its clips; at least one.
        frame_labels: (N, T) int, 0 or 1, of these clips.
        uncertainty: By measure, each (N,).
        named: What the user named, where `data` is a view of it, which may be older than the columns of its labels.
    """
    owners = np.array([data.clips[index].video_index for index in logits.indices])
    columns = {row.sha256: row.columns or {} for row in (named or data).videos}
    rows = [_scored_video(data, logits, frame_labels, uncertainty or {}, places) for places in rows_by_group(owners)]
    return [row.model_copy(update={"columns": columns.get(str(row.sha256), {})}) for row in rows]


def _scored_video(
    data: PreparedData,
    logits: ClipLogits,
    frame_labels: np.ndarray,
    uncertainty: Mapping[str, np.ndarray],
    places: np.ndarray,
) -> ScoredVideo:
    """The row of the one video that the clips at these places are from."""
    index = data.clips[int(logits.indices[places[0]])].video_index
    row = data.videos[index]
    return ScoredVideo(
        video=row.path,
        sha256=row.sha256,
        label=row.label,  # type: ignore[arg-type]
        group=str(data.groups[index]),
        method=row.method,
        intervals=row.shown_intervals,
        read=ReadFacts(**row.read_json()),
        clips=_clip_columns(data, logits, places),
        frames=_frame_columns(data, logits, frame_labels, places),
        uncertainty={name: float(values[places].mean()) for name, values in uncertainty.items()},
    )


def _clip_columns(data: PreparedData, logits: ClipLogits, places: np.ndarray) -> ClipColumns:
    clips = [data.clips[int(logits.indices[place])] for place in places]
    return ClipColumns(
        track=tuple(clip.track_id for clip in clips),
        start_s=tuple(clip.start_s for clip in clips),
        label=tuple(1 if clip.label else 0 for clip in clips),
        logits=tuple((float(real), float(fake)) for real, fake in logits.clip[places]),
    )


def _frame_columns(
    data: PreparedData, logits: ClipLogits, frame_labels: np.ndarray, places: np.ndarray
) -> tuple[FrameColumns, ...]:
    tracks = np.array([data.clips[int(logits.indices[place])].track_id for place in places])
    return tuple(_track_frames(data, logits, frame_labels, places[rows]) for rows in rows_by_group(tracks))


def _track_frames(
    data: PreparedData, logits: ClipLogits, frame_labels: np.ndarray, places: Sequence[int] | np.ndarray
) -> FrameColumns:
    """Every frame that any clip of a track covers, once: a frame in several clips gets the mean of its logits."""
    clips = [data.clips[int(logits.indices[place])] for place in places]
    # Under uniform50 a clip is the whole video, and its frames lie on no time grid.
    has_grid = data.spec.preset == "clip2s"
    firsts = [round(clip.start_s * data.spec.fps) if has_grid else 0 for clip in clips]
    numbers = np.concatenate([np.arange(first, first + c.num_frames) for first, c in zip(firsts, clips, strict=True)])
    # What lies behind a clip's last frame is padding.
    values = np.concatenate([logits.frame[p, : c.num_frames] for p, c in zip(places, clips, strict=True)])
    labels = np.concatenate([frame_labels[p, : c.num_frames] for p, c in zip(places, clips, strict=True)])
    unique, first_places, place_of_frame = np.unique(numbers, return_index=True, return_inverse=True)
    sums = np.zeros((len(unique), 2))
    np.add.at(sums, place_of_frame.reshape(-1), values)
    means = sums / np.bincount(place_of_frame.reshape(-1), minlength=len(unique))[:, None]
    return FrameColumns(
        track=clips[0].track_id,
        runs=_runs(unique),
        labels="".join("1" if label else "0" for label in labels[first_places]),
        margins=short_float32(means[:, 1] - means[:, 0]),
    )


def _runs(numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """First number and length of each stretch of rising numbers without a gap."""
    stretches = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return tuple((int(stretch[0]), len(stretch)) for stretch in stretches if len(stretch))
