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
from dfkit.errors import DataError

NUMERIC_FACTS = {
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
"""By name, the fields of VideoFacts that a fact consists of."""
CATEGORICAL_FACTS = ("codec", "audio_codec", "pixel_format")
"""Fields of VideoFacts."""
CLIP_FACTS = ("face_px",)
"""Measured on a stored sample of tracked faces."""
WHOLE_VIDEO_FACTS = ("sound_length_s", "frame_spacing_s", "num_frames", "mfcc_level")
"""Measured on a stored sample of a whole video."""


@dataclass(frozen=True)
class Fact:
    """One fact of every video."""

    name: str
    values: NDArray[np.float64]
    """(N, K): the numbers, or one column of 0 and 1 per category. NaN where the fact is unknown."""


def collect_facts(data: PreparedData, positions: Sequence[int]) -> tuple[list[Fact], dict[str, str]]:
    """Facts of some videos.

    Args:
        data: Either preset; of each video one sample is decoded.
        positions: Indices of N videos with clips.
    Returns:
        The facts that are known of at least one video, and the reason for each that is not.
    Raises:
        DataError: Not one is known.
    """
    rows = [data.videos[index] for index in positions]
    facts = [Fact(name, _numeric_columns(rows, fields)) for name, fields in NUMERIC_FACTS.items()]
    facts += [Fact(name, _category_columns(rows, name)) for name in CATEGORICAL_FACTS]
    is_whole_video = data.spec.preset == "uniform50"
    measured = [_measure(data, index) for index in positions]
    for name in WHOLE_VIDEO_FACTS if is_whole_video else CLIP_FACTS:
        facts.append(Fact(name, np.array([[values[name]] for values in measured], np.float64)))
    reason = "NPZ files keep nothing of their source" if is_whole_video else "known of no video"
    skipped = {fact.name: reason for fact in facts if np.isnan(fact.values).all()}
    known = [fact for fact in facts if fact.name not in skipped]
    if not known:
        raise DataError(f"{data.path}: not one fact of its files is known", fix="dfkit prepare the videos again")
    # Of tracked clips sound length and frame spacing are fixed; of whole videos no face is followed.
    if is_whole_video:
        skipped |= dict.fromkeys(CLIP_FACTS, "no landmarks under uniform50")
    return known, skipped


def _numeric_columns(rows: Sequence[VideoRow], fields: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([[_float_or_nan((row.facts or {}).get(field)) for field in fields] for row in rows], np.float64)


def _float_or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _category_columns(rows: Sequence[VideoRow], field: str) -> NDArray[np.float64]:
    """One column of 0 and 1 per category; a row of NaN where the field is unknown."""
    values = [(row.facts or {}).get(field) for row in rows]
    categories = sorted({str(value) for value in values if value is not None})
    columns = np.full((len(rows), max(len(categories), 1)), np.nan)
    for row, value in enumerate(values):
        if value is not None:
            columns[row] = [float(value == category) for category in categories]
    return columns


def _measure(data: PreparedData, video_index: int) -> dict[str, float]:
    """Facts of the middle clip: an opening title or a fade at the end is not the video."""
    indices = data.clip_indices([video_index])
    record = data[indices[len(indices) // 2]]
    return _whole_video_facts(record, data) if data.spec.preset == "uniform50" else _clip_facts(record)


def _clip_facts(record: ClipRecord) -> dict[str, float]:
    sides = record.landmarks.max(axis=1) - record.landmarks.min(axis=1)
    return {"face_px": float(np.median(sides.max(axis=1)))}


def _whole_video_facts(record: ClipRecord, data: PreparedData) -> dict[str, float]:
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
