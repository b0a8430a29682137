"""The sampling of the original teacher: 50 frames over the whole video, and its whole sound track.

Kept so that existing checkpoints see what they were trained on. It gives a video's length away (frame
spacing, number of sound columns); new models are trained on `clip2s`.
Source: the facts of the original's data format; frames, lips and MFCC as its preparation made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfkit.clip import UNIFORM50, ClipSpec
from dfkit.media.audio import choose_sound, decode_sound, is_audible, no_sound_error, open_track
from dfkit.media.channels import to_mono
from dfkit.media.container import open_media
from dfkit.media.mfcc import mfcc as compute_mfcc
from dfkit.media.picture import PictureMaker
from dfkit.media.resample import resample
from dfkit.media.survey import Survey, survey_file
from dfkit.media.video import PictureDecoder, no_picture_error

HAAR_SCALE = 1.1
HAAR_NEIGHBOURS = 5
HAAR_MIN_PX = 30
LIP_ROWS = (0.6, 1.0)
LIP_COLUMNS = (0.2, 0.8)


@dataclass(frozen=True)
class Uniform50Sample:
    """Frames, lips and MFCC of a video, as the original teacher saw it."""

    face: NDArray[np.uint8]
    """(T, 224, 224, 3) RGB: centre squares, T at most 50."""
    lip: NDArray[np.uint8]
    """(T, 96, 96, 3) RGB; zeros where no face was found."""
    mfcc: NDArray[np.float32]
    """(T_a, 40), T_a = 1 + samples // 512."""
    times_s: NDArray[np.float64]
    """(T,) seconds from the first frame."""
    num_frames: int
    """Frames of the whole video."""


def choose_frames(num_frames: int, wanted: int) -> list[int]:
    """Indices of the frames taken: all where there are few, else `int(i * num_frames / wanted)`."""
    if num_frames <= wanted:
        return list(range(num_frames))
    return [i * num_frames // wanted for i in range(wanted)]


def centre_square(rgb: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """The centred square of the short side, bilinear.

    Args:
        rgb: (H, W, 3) uint8.
        side_px: Side of the result.
    Returns:
        (side_px, side_px, 3) uint8.
    """
    height, width = rgb.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = np.ascontiguousarray(rgb[top : top + short, left : left + short])
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=cv2.INTER_LINEAR), np.uint8)


@lru_cache(maxsize=1)
def face_cascade() -> Any:
    """OpenCV's frontal face cascade, shipped with its package."""
    import cv2.data

    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise RuntimeError(f"OpenCV's cascade cannot be read: {path}")
    return cascade


def haar_lip(square: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """The lower middle of the largest Haar face.

    Args:
        square: (224, 224, 3) RGB uint8.
        side_px: Side of the result.
    Returns:
        (side_px, side_px, 3) uint8; zeros where no face is found.
    """
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    faces = face_cascade().detectMultiScale(
        grey, scaleFactor=HAAR_SCALE, minNeighbors=HAAR_NEIGHBOURS, minSize=(HAAR_MIN_PX, HAAR_MIN_PX)
    )
    if len(faces) == 0:
        return np.zeros((side_px, side_px, 3), np.uint8)
    x, y, width, height = max(faces, key=lambda face: int(face[2]) * int(face[3]))
    rows = slice(y + int(LIP_ROWS[0] * height), y + int(LIP_ROWS[1] * height))
    columns = slice(x + int(LIP_COLUMNS[0] * width), x + int(LIP_COLUMNS[1] * width))
    lip = np.ascontiguousarray(square[rows, columns])
    return np.asarray(cv2.resize(lip, (side_px, side_px), interpolation=cv2.INTER_LINEAR), np.uint8)


def view_uniform50(path: str | Path, *, spec: ClipSpec = UNIFORM50) -> Uniform50Sample:
    """Reads a video as the original teacher saw it.

    Args:
        path: Media file with picture and sound; it needs no face.
        spec: Preset `uniform50`.
    Returns:
        Frames, lips and MFCC. Memory grows with the sound track (64 kB per second), not with the pictures.
    Raises:
        MediaError: `unreadable`, or `no_audio`.
    """
    path = Path(path)
    survey = survey_file(path)
    mfcc = compute_mfcc(read_sound(path, spec.audio.sample_rate, survey=survey), spec.audio)
    num_frames = survey.num_pictures
    face, times_s = _read_squares(survey, spec, num_frames)
    if len(face) < len(choose_frames(num_frames, spec.num_frames)):
        # Fewer frames than packets (damage, or packets without a picture): choose again among what there is.
        num_frames = sum(1 for _ in PictureDecoder(survey))
        face, times_s = _read_squares(survey, spec, num_frames)
    lip = np.stack([haar_lip(square, spec.picture.lip_px) for square in face])
    return Uniform50Sample(face, lip, mfcc, times_s, num_frames)


def _read_squares(survey: Survey, spec: ClipSpec, num_frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    wanted = set(choose_frames(num_frames, spec.num_frames))
    maker = PictureMaker(aspect=survey.aspect)
    squares, times_s = [], []
    first_s: float | None = None
    for index, picture in enumerate(PictureDecoder(survey)):
        first_s = picture.start_s if first_s is None else first_s
        if index in wanted:
            squares.append(centre_square(maker.make(picture.frame).rgb(), spec.picture.face_px))
            times_s.append(picture.start_s - first_s)
    if not squares:
        raise no_picture_error(survey)
    return np.stack(squares), np.asarray(times_s, np.float64)


def read_sound(path: Path, sample_rate: int, *, survey: Survey | None = None) -> NDArray[np.float32]:
    """The whole sound track from its first sample on, mono.

    Args:
        path: Media file.
        sample_rate: Of the result, Hz.
        survey: Of the file; made where left out.
    Returns:
        (N,) float32 in [-1, 1].
    Raises:
        MediaError: `unreadable` or `no_audio`.
    """
    survey = survey or survey_file(path)
    track = choose_sound(survey)
    if track is None:
        raise no_sound_error(survey)
    with open_media(path) as container:
        frames = [
            (to_mono(frame), frame.sample_rate) for frame in decode_sound(container, open_track(container, track))
        ]
    if not frames or not is_audible(path, track):
        raise no_sound_error(survey, is_silent=bool(frames))
    runs = groupby(frames, key=lambda frame: frame[1])
    parts = [resample(np.concatenate([mono for mono, _ in run]), rate, sample_rate) for rate, run in runs]
    return np.concatenate(parts)
