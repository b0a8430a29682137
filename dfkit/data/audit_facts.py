"""Facts of the files that prepared data came from, as columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.data.catalog import VideoRow
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData

# Name, and the fields of VideoFacts that it consists of.
NUMBERS = {
    "duration_s": ("duration_s",),
    "fps": ("fps",),
    "resolution": ("width", "height"),
    "bitrate_kbps": ("bitrate_kbps",),
    "size_bytes": ("size_bytes",),
    "loudness_db": ("loudness_db",),
    "leading_silence_s": ("leading_silence_s",),
    "audio_sample_rate": ("audio_sample_rate",),
    "audio_channels": ("audio_channels",),
    "first_picture_s": ("first_picture_s",),
}
NAMES = {"codec": ("codec",), "audio_codec": ("audio_codec",), "pixel_format": ("pixel_format",)}
# Measured on a stored sample; the first for tracked faces, the others for whole-video samples.
FROM_CLIPS = ("face_px",)
FROM_WHOLE_VIDEOS = ("sound_length_s", "frame_spacing_s", "num_frames", "mfcc_level")


@dataclass(frozen=True)
class Fact:
    """One fact of every video."""

    name: str
    values: NDArray[np.float64]
    """(N, K); names are one column per name. NaN where it is not known."""


def collect_facts(data: PreparedData, positions: Sequence[int]) -> tuple[list[Fact], dict[str, str]]:
    """Facts of some videos.

    Args:
        data: Either preset; of each video one sample is decoded.
        positions: Indices of videos with clips.
    Returns:
        The facts that are known of at least one video, and the reason for each that is not.
    """
    rows = [data.videos[index] for index in positions]
    facts = [Fact(name, _numbers(rows, fields)) for name, fields in NUMBERS.items()]
    facts += [Fact(name, _names(rows, field)) for name, (field,) in NAMES.items()]
    whole = data.spec.preset == "uniform50"
    measured = [_measure(data, index) for index in positions]
    names = FROM_WHOLE_VIDEOS if whole else FROM_CLIPS
    facts += [Fact(name, np.array([[values[name]] for values in measured], np.float64)) for name in names]
    unknown = "NPZ files keep nothing of their source" if whole else "known of no video"
    skipped = {fact.name: unknown for fact in facts if np.isnan(fact.values).all()}
    known = [fact for fact in facts if fact.name not in skipped]
    # Of tracked clips sound length and frame spacing are fixed; of whole videos no face is followed.
    return known, skipped | (dict.fromkeys(FROM_CLIPS, "no landmarks under uniform50") if whole else {})


def _numbers(rows: Sequence[VideoRow], fields: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([[_number((row.facts or {}).get(field)) for field in fields] for row in rows], np.float64)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _names(rows: Sequence[VideoRow], field: str) -> NDArray[np.float64]:
    """One column of 0 and 1 per name."""
    found = [(row.facts or {}).get(field) for row in rows]
    names = sorted({str(name) for name in found if name is not None})
    if not names:
        return np.full((len(rows), 1), np.nan)
    return np.array([[float("nan") if f is None else float(f == name) for name in names] for f in found])


def _measure(data: PreparedData, video_index: int) -> dict[str, float]:
    """Facts of the middle clip: an opening title or a fade at the end is not the video."""
    indices = data.clip_indices([video_index])
    record = data[indices[len(indices) // 2]]
    return _of_whole_video(record, data) if data.spec.preset == "uniform50" else _of_clip(record)


def _of_clip(record: ClipRecord) -> dict[str, float]:
    sides = record.landmarks.max(axis=1) - record.landmarks.min(axis=1)
    return {"face_px": float(np.median(sides.max(axis=1)))}


def _of_whole_video(record: ClipRecord, data: PreparedData) -> dict[str, float]:
    audio = data.spec.audio
    spacing = np.diff(record.times_s)
    known = spacing[np.isfinite(spacing)]
    return {
        "sound_length_s": (len(record.mfcc) - 1) * audio.hop_length / audio.sample_rate,
        "frame_spacing_s": float(np.median(known)) if len(known) else float("nan"),
        "num_frames": float(len(record.face)),
        # The first coefficient is the log energy, up to a factor: all that is left of the loudness.
        "mfcc_level": float(record.mfcc[:, 0].mean()),
    }
