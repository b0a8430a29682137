"""The protocol line of figures on prepared data, made in one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from dfkit.data.catalog import DataInfo
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.measures.decision import Aggregation
from dfkit.measures.protocol import Protocol

RAW = "raw"


def protocol_of(
    data: PreparedData,
    videos: Collection[int],
    *,
    part: str | None,
    aggregation: Aggregation | str,
    named: PreparedData | None = None,
    frames: bool = True,
) -> Protocol:
    """The protocol of figures on some videos of prepared data.

    Args:
        data: What was scored; may be a view of the named data.
        videos: Indices of the videos that the figures rest on.
        part: Of the data, such as `test`; see `folds_part` for folds; None where it has no name.
        aggregation: From a track's clips to its score, or how else a video got one, in words.
        named: What the user named, where `data` is a view of it: views of one data set are the same videos.
        frames: Whether pictures are judged.
    """
    source = data if named is None else named
    is_clip = data.spec.preset == "clip2s"
    statuses = Counter(row.status for row in source.videos)
    judged = set(videos)
    return Protocol(
        preset=data.spec.preset,
        frames_per_clip=data.spec.num_frames if frames else 0,
        fps=data.spec.fps if is_clip else None,
        clip_step_s=data.spec.hop_s if is_clip else None,
        aggregation=aggregation if isinstance(aggregation, str) else aggregation.text,
        named_videos=len(source.videos) + len(source.info.missing),
        usable_videos=statuses["ok"],
        unusable=_unusable(statuses, len(source.info.missing)),
        num_clips=sum(clip.video_index in judged for clip in data.clips) if frames else None,
        compression=compression_text(source.info),
        data_hash=videos_hash(source),
        part=part,
        num_videos=len(judged),
        num_groups=len({data.groups[video] for video in judged}),
        groups_known=data.groups_known,
    )


def folds_part(folds: int, seed: int) -> str:
    """The part of figures over grouped folds: every video, each by a model that had not seen its group."""
    return f"{folds} folds by group, seed {seed}"


def left_out_part(folds: int, by: str, seed: int) -> str:
    """The part of figures over folds that leave families out; seen ones stand beside them under the same folds."""
    return f"{folds} folds by {by}, left out, seed {seed}"


def _unusable(statuses: Mapping[str, int], num_missing: int) -> dict[str, int]:
    counts = {status: count for status, count in sorted(statuses.items()) if status != "ok"}
    return {**counts, **({"missing": num_missing} if num_missing else {})}


def compression_text(info: DataInfo) -> str:
    """What the videos went through before they were prepared: `raw`, or what all of them were re-encoded to."""
    return RAW if info.equalised is None else info.form
