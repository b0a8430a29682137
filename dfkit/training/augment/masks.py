"""Augmentations that hide something: a rectangle of the pictures, or a stretch of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dfkit.clip import ClipSpec
from dfkit.config.augment import EraseStep, TimeMaskStep
from dfkit.data.samples import ClipRecord
from dfkit.media.crop import SquareBox, make_boxes

Rect = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of a crop's side; may reach beyond it."""


def erase(record: ClipRecord, step: EraseStep, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Covers a rectangle of the face crop, and the same place of the face in the lip crop, with one colour.

    Under `uniform50` nothing says where the lips lie in the picture: there the same share of both is covered.
    """
    area, aspect = rng.uniform(*step.area), np.exp(rng.uniform(*np.log(step.aspect)))
    width = min(1.0, float(np.sqrt(area * aspect)))
    height = min(1.0, float(np.sqrt(area / aspect)))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    rect = (left, top, left + width, top + height)
    color = rng.integers(0, 256, 3).astype(np.uint8)
    face, lip = record.face.copy(), record.lip.copy()
    for index in range(len(face)):
        _fill(face[index], rect, color)
        _fill(lip[index], _rect_in_lips(rect, record.landmarks[index], spec), color)
    return replace(record, face=face, lip=lip)


def _rect_in_lips(rect: Rect, landmarks: NDArray[np.float32], spec: ClipSpec) -> Rect:
    """A rectangle of the face crop in shares of the lip crop's side."""
    if not len(landmarks):
        return rect
    face, lip = make_boxes(landmarks, spec.picture)
    left, top = _corner(face)
    lip_left, lip_top = _corner(lip)

    def to_lip_x(share: float) -> float:
        return (left + share * face.side - lip_left) / lip.side

    def to_lip_y(share: float) -> float:
        return (top + share * face.side - lip_top) / lip.side

    return to_lip_x(rect[0]), to_lip_y(rect[1]), to_lip_x(rect[2]), to_lip_y(rect[3])


def _corner(box: SquareBox) -> tuple[float, float]:
    return box.x - box.side / 2, box.y - box.side / 2


def _fill(crop: NDArray[np.uint8], rect: Rect, color: NDArray[np.uint8]) -> None:
    height, width = crop.shape[:2]
    left, top, right, bottom = np.clip(rect, 0.0, 1.0)
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    crop[rows, columns] = color


def mask_time(record: ClipRecord, step: TimeMaskStep, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Blacks out pictures, silences their sound, or both. Landmarks stand still as where a face is lost.

    The labels of the frames stay: a masked frame of a fake is still one.
    """
    masked = step.of[rng.integers(len(step.of))]
    num_frames = len(record.interpolated)
    length = min(max(1, round(rng.uniform(*step.share) * num_frames)), num_frames)
    start = int(rng.integers(0, num_frames - length + 1))
    if masked in {"both", "pictures"}:
        record = _mask_pictures(record, start, start + length)
    if masked in {"both", "sound"}:
        waveform = record.waveform.copy()
        # Sample `lead_samples` belongs to the first picture, and each picture to one hop.
        first = spec.lead_samples + start * spec.audio.hop_length
        waveform[first : first + length * spec.audio.hop_length] = 0
        record = replace(record, waveform=waveform)
    return record


def _mask_pictures(record: ClipRecord, start: int, end: int) -> ClipRecord:
    face, lip, landmarks = record.face.copy(), record.lip.copy(), record.landmarks.copy()
    face[start:end] = 0
    lip[start:end] = 0
    if landmarks.size:
        # They stand still as in the picture before the mask, or after it where it begins the clip.
        still = start - 1 if start else min(end, len(landmarks) - 1)
        landmarks[start:end] = landmarks[still]
    return replace(record, face=face, lip=lip, landmarks=landmarks)
