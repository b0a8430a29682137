"""The steps of a file on its way to a verdict, one function each: what an export stores, and a replay compares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from dfkit.clip import ClipSpec
from dfkit.media.audio import SoundReader
from dfkit.media.color import RgbConverter
from dfkit.media.container import find_video, open_media
from dfkit.media.faces import FaceModels
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.video import decode_pictures, pick_nearest


@dataclass(frozen=True)
class GridVideo:
    """A file's pictures on the clip's grid."""

    first_picture_s: float
    """Container time."""
    times_s: tuple[float, ...]
    planes: tuple[tuple[str, str, str], ...]
    """SHA-256 of Y, U and V."""
    rgb: tuple[np.ndarray, ...]
    """(H, W, 3) uint8 each."""


def decode_grid(path: Path, fps: float) -> GridVideo:
    """Decodes a short file; all pictures stay in memory.

    Args:
        path: A file of planar YUV.
        fps: Grid points per second.
    """
    converter = RgbConverter()
    times, planes, rgb = [], [], []
    with open_media(path) as container:
        pictures = decode_pictures(container, find_video(container, path, num_threads=1), path)
        for _, picture in pick_nearest(((p.start_s, p.duration_s, p) for p in pictures), fps):
            times.append(picture.start_s)
            planes.append(hash_planes(picture.frame))
            rgb.append(converter.convert(picture.frame))
    return GridVideo(times[0], tuple(t - times[0] for t in times), tuple(planes), tuple(rgb))


def hash_planes(frame: VideoFrame) -> tuple[str, str, str]:
    """SHA-256 of Y, U and V of an 8-bit planar picture, rows without their padding."""
    y, u, v = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    return hash_of(y), hash_of(u), hash_of(v)


def hash_of(plane: np.ndarray) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(plane).tobytes()).hexdigest()


def follow_faces(video: GridVideo, spec: ClipSpec, models: FaceModels) -> list[FaceFrame]:
    """Every face of every grid point, in order."""
    stream = FaceStream(spec, models)
    faces: list[FaceFrame] = []
    for index, (t_s, rgb) in enumerate(zip(video.times_s, video.rgb, strict=True)):
        faces += stream.push(index, t_s, rgb)
    return [*faces, *stream.flush()]


def box_rows(faces: list[FaceFrame], num_frames: int) -> np.ndarray:
    """Boxes of the first track, (num_frames, 6) float32: x, y, side of the face, then of the lips; NaN where there is
    no face."""
    rows = np.full((num_frames, 6), np.nan, np.float32)
    first = min((face.track_id for face in faces), default=0)
    for face in faces:
        if face.track_id == first and face.boxes is not None:
            rows[face.index] = (*face.boxes[0], *face.boxes[1])
    return rows


def clip_sound(path: Path, spec: ClipSpec, *, first_picture_s: float, starts: list[int]) -> list[np.ndarray]:
    """PCM of the clips that start at these grid points, (num_samples,) float32 each."""
    rate = spec.audio.sample_rate
    with SoundReader(path, sample_rate=rate, first_picture_s=first_picture_s) as reader:
        return [reader.read(round(s / spec.fps * rate) - spec.lead_samples, spec.num_samples) for s in starts]
