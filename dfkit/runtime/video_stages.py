"""The steps of a file on its way to a verdict, one function each: what an export stores, and a replay compares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.media.audio import SoundReader
from dfkit.media.detect import whole_picture
from dfkit.media.faces import SHORT_RANGE, FaceModels
from dfkit.media.picture import Picture
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.survey import Survey
from dfkit.media.video import PictureReader
from dfkit.media.warp import warp_roi


@dataclass(frozen=True)
class GridVideo:
    """A file's pictures on the clip's grid."""

    survey: Survey
    first_picture_s: float
    """Container time."""
    times_s: tuple[float, ...]
    pictures: tuple[Picture, ...]

    @property
    def hashes(self) -> tuple[tuple[str, str, str], ...]:
        """SHA-256 of Y, U and V of each picture."""
        return tuple(hash_planes(picture) for picture in self.pictures)


def decode_grid(path: Path, fps: float) -> GridVideo:
    """Decodes a short file; all pictures stay in memory.

    Args:
        path: A file of planar YUV.
        fps: Grid points per second.
    """
    reader = PictureReader(path, fps, num_threads=1)
    times, pictures = zip(*((t_s, picture) for _, t_s, picture in reader), strict=True)
    return GridVideo(reader.survey, reader.first_picture_s or 0.0, times, pictures)


def hash_planes(picture: Picture) -> tuple[str, str, str]:
    """SHA-256 of Y, U and V, rows without their padding."""
    y, u, v = picture.planes
    return hash_of(y), hash_of(u), hash_of(v)


def detector_view(picture: Picture) -> np.ndarray:
    """What the face detector sees of a picture: (128, 128, 3) uint8 RGB."""
    return warp_roi(picture, whole_picture(picture), SHORT_RANGE.input_px, replicate=False)


def hash_of(plane: np.ndarray) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(plane).tobytes()).hexdigest()


def follow_faces(video: GridVideo, spec: ClipSpec, models: FaceModels) -> list[FaceFrame]:
    """Every face of every grid point, in order."""
    stream = FaceStream(spec, models)
    faces: list[FaceFrame] = []
    for index, (t_s, picture) in enumerate(zip(video.times_s, video.pictures, strict=True)):
        faces += stream.push(index, t_s, picture)
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
