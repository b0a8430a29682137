"""Packs the arrays of a clip into the byte strings of a stored sample, and unpacks them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfkit.data import codec
from dfkit.errors import DataError
from dfkit.files import encode_text

if TYPE_CHECKING:
    from dfkit.media.stream import Clip

SAMPLE_VERSION = 1
FIELDS = ("meta", "face", "lip", "landmarks", "times_s", "interpolated", "frame_labels", "waveform", "mfcc")


@dataclass(frozen=True)
class ClipRecord:
    """A clip as stored. T pictures; of a `uniform50` sample there are no landmarks and no waveform."""

    face: NDArray[np.uint8]
    """(T, 112, 112, 3) RGB; the whole centre square, 224 px, under `uniform50`."""
    lip: NDArray[np.uint8]
    """(T, 48, 48, 3) RGB; 96 px under `uniform50`, 112 px in some original NPZ files."""
    landmarks: NDArray[np.float32]
    """(T, 468, 2) source pixels; (T, 0, 2) under `uniform50`."""
    times_s: NDArray[np.float64]
    """(T,) seconds from the first frame of the video."""
    interpolated: NDArray[np.bool_]
    """(T,) whether the face was not seen but interpolated or held."""
    frame_labels: NDArray[np.uint8]
    """(T,) 0 real, 1 fake; 0 where the label is unknown."""
    waveform: NDArray[np.float32]
    """(33408,) mono at 16 kHz; empty under `uniform50`."""
    mfcc: NDArray[np.float32]
    """(T_a, 40) under `uniform50`, else (0, 40): it is computed from the waveform."""
    label: int | None
    """1 when any frame of the clip is fake, 0 when none is, None when unknown."""
    video: str
    group: tuple[str, ...]
    method: str | None
    split: str | None
    track_id: int
    start_s: float
    end_s: float
    facts: dict[str, Any] | None
    """VideoFacts of the file."""
    mismatched: bool = False
    """Whether training gave it sound that is not its own; never of a stored clip."""

    @property
    def num_bytes(self) -> int:
        """Memory of its arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


@dataclass(frozen=True)
class VideoLabels:
    """Labels and facts of a video that each of its samples repeats: a shard can be read without the catalog."""

    video: str
    sha256: str
    label: int | None
    group: tuple[str, ...]
    method: str | None
    split: str | None
    intervals: tuple[tuple[float, float], ...]
    facts: dict[str, Any] | None

    def frame_labels(self, times_s: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Label of each frame: fake within an interval, or everywhere in a fake without intervals.

        Args:
            times_s: Shape (T,), seconds from the first frame of the video.
        Returns:
            Shape (T,), uint8.
        """
        if self.label != 1:
            return np.zeros(len(times_s), np.uint8)
        if not self.intervals:
            return np.ones(len(times_s), np.uint8)
        inside = [(times_s >= start) & (times_s < end) for start, end in self.intervals]
        return np.any(inside, axis=0).astype(np.uint8)


class PictureCache:
    """Encodes each crop of a track once, for all overlapping clips that hold it."""

    def __init__(self) -> None:
        self._encoded: dict[tuple[str, int, int], bytes] = {}
        self.min_psnr_db = 100.0

    def encode(self, crop: str, track_id: int, start_index: int, pictures: NDArray[np.uint8]) -> list[bytes]:
        """Encodes the crops of one clip; those that lie before the clip are forgotten.

        Args:
            crop: `face` or `lip`.
            track_id: Whose crops.
            start_index: Grid frame of the first one; clips come in rising order of it.
            pictures: (T, side, side, 3) RGB.
        Returns:
            One JPEG per picture.
        """
        jpegs = []
        for index, picture in enumerate(pictures, start=start_index):
            key = (crop, track_id, index)
            if key not in self._encoded:
                self._encoded[key], reached_db = codec.encode_picture(picture)
                self.min_psnr_db = min(self.min_psnr_db, reached_db)
            jpegs.append(self._encoded[key])
        self._forget(start_index)
        return jpegs

    def _forget(self, start_index: int) -> None:
        """Clips come in rising order of start, whatever their track; a track that ended is not asked for again."""
        for key in list(self._encoded):
            _, _, index = key
            if index < start_index:
                del self._encoded[key]


def encode_clip(clip: Clip, labels: VideoLabels, cache: PictureCache) -> dict[str, bytes]:
    """Packs a live clip.

    Args:
        clip: From `dfkit.media.stream.read_clips`.
        labels: Of its video.
        cache: Of its video; holds the JPEGs of overlapping clips.
    Returns:
        One byte string per name of `FIELDS`.
    """
    times_s = np.asarray(clip.times_s, np.float64)
    frame_labels = labels.frame_labels(times_s)
    meta = _meta(labels, frame_labels, clip.face.shape[1:], clip.lip.shape[1:])
    meta |= {"track_id": int(clip.track_id), "start_s": float(clip.start_s), "end_s": float(clip.end_s)}
    track_id, start_index = int(clip.track_id), int(clip.start_index)
    return {
        "meta": _dump(meta),
        "face": codec.pack_blobs(cache.encode("face", track_id, start_index, clip.face)),
        "lip": codec.pack_blobs(cache.encode("lip", track_id, start_index, clip.lip)),
        "landmarks": codec.encode_landmarks(clip.landmarks),
        "times_s": times_s.astype("<f8").tobytes(),
        "interpolated": np.asarray(clip.interpolated, np.uint8).tobytes(),
        "frame_labels": frame_labels.tobytes(),
        "waveform": np.asarray(clip.waveform, "<f4").tobytes(),
        "mfcc": b"",
    }


def encode_uniform(
    face: NDArray[np.uint8],
    lip: NDArray[np.uint8],
    mfcc: NDArray[np.float32],
    times_s: NDArray[np.float64],
    labels: VideoLabels,
    cache: PictureCache,
) -> dict[str, bytes]:
    """Packs one whole-video sample of the preset `uniform50`.

    Args:
        face: (T, 224, 224, 3) RGB uint8, T at most 50.
        lip: (T, 96 or 112, same, 3) RGB uint8.
        mfcc: (T_a, 40), the whole sound track.
        times_s: (T,) seconds from the first frame; NaN where unknown (NPZ).
        labels: Of the video.
        cache: Only its worst PSNR is of use here.
    Returns:
        One byte string per name of `FIELDS`.
    """
    frame_labels = labels.frame_labels(np.nan_to_num(times_s))
    meta = _meta(labels, frame_labels, face.shape[1:], lip.shape[1:])
    end_s = float(np.nanmax(times_s)) if np.isfinite(times_s).any() else 0.0
    meta |= {"track_id": 0, "start_s": 0.0, "end_s": end_s}
    return {
        "meta": _dump(meta),
        "face": codec.pack_blobs(cache.encode("face", 0, 0, face)),
        "lip": codec.pack_blobs(cache.encode("lip", 0, 0, lip)),
        "landmarks": codec.encode_landmarks(np.zeros((len(face), 0, 2), np.float32)),
        "times_s": np.asarray(times_s, "<f8").tobytes(),
        "interpolated": np.zeros(len(face), np.uint8).tobytes(),
        "frame_labels": frame_labels.tobytes(),
        "waveform": b"",
        "mfcc": np.ascontiguousarray(mfcc, "<f4").tobytes(),
    }


def _meta(
    labels: VideoLabels, frame_labels: NDArray[np.uint8], face_shape: Sequence[int], lip_shape: Sequence[int]
) -> dict[str, Any]:
    return {
        "version": SAMPLE_VERSION,
        "video": labels.video,
        "sha256": labels.sha256,
        "label": None if labels.label is None else int(frame_labels.any()),
        "group": list(labels.group),
        "method": labels.method,
        "split": labels.split,
        "face_shape": list(face_shape),
        "lip_shape": list(lip_shape),
        "facts": labels.facts,
    }


def _dump(meta: dict[str, Any]) -> bytes:
    return encode_text(json.dumps(meta, ensure_ascii=False))


def decode_sample(sample: dict[str, bytes | memoryview], *, n_mfcc: int, pictures: bool = True) -> ClipRecord:
    """Unpacks a stored sample.

    Args:
        sample: As `encode_clip` or `encode_uniform` made it.
        n_mfcc: Coefficients per MFCC column.
        pictures: False leaves faces and lips out: arrays of no pictures.
    Returns:
        The clip's arrays and labels.
    Raises:
        DataError: The sample is broken, or a newer version wrote it.
    """
    meta = json.loads(bytes(sample["meta"]))
    if meta["version"] > SAMPLE_VERSION:
        raise DataError(
            f"stored sample of version {meta['version']}, this dfkit reads up to {SAMPLE_VERSION}",
            fix="pip install --upgrade dfkit",
        )

    def crops(name: str) -> NDArray[np.uint8]:
        shape = meta[f"{name}_shape"]
        if not pictures:
            return np.zeros((0, *shape), np.uint8)
        return codec.decode_pictures(codec.unpack_blobs(sample[name]), shape)

    return ClipRecord(
        face=crops("face"),
        lip=crops("lip"),
        landmarks=codec.decode_landmarks(sample["landmarks"]),
        times_s=np.frombuffer(sample["times_s"], "<f8").astype(np.float64),
        interpolated=np.frombuffer(sample["interpolated"], np.uint8).astype(np.bool_),
        frame_labels=np.frombuffer(sample["frame_labels"], np.uint8).copy(),
        # Copies: the bytes may be a window into a file that the reader closes.
        waveform=np.frombuffer(sample["waveform"], "<f4").astype(np.float32),
        mfcc=np.frombuffer(sample["mfcc"], "<f4").astype(np.float32).reshape(-1, n_mfcc),
        label=meta["label"],
        video=meta["video"],
        group=tuple(meta["group"]),
        method=meta["method"],
        split=meta["split"],
        track_id=meta["track_id"],
        start_s=meta["start_s"],
        end_s=meta["end_s"],
        facts=meta["facts"],
    )
