"""Augmentations of the pictures of a clip: one draw for the whole clip, for face and lips alike.

The crops of face and lips have nearly the same pixels per face width (172 and 192 with the default scales), so
that what is given in pixels or as a share of the crop means the same in both.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dfkit.clip import NUM_LANDMARKS, ClipSpec
from dfkit.config.augment import (
    BlurStep,
    ColorJitterStep,
    FaceSizeStep,
    FlipStep,
    H264Step,
    JpegStep,
    NoiseStep,
    ResizeStep,
    RotateStep,
)
from dfkit.data.samples import ClipRecord
from dfkit.training.augment.mirror import mirror_order
from dfkit.training.augment.roundtrip import roundtrip_h264, roundtrip_jpeg

# Rows of RGB to luma and two colour differences, ITU-R BT.601; the hue turns in the plane of the latter.
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def flip(record: ClipRecord, _step: FlipStep, _rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Exchanges left and right.

    The landmarks are mirrored within the box of all their pictures and renumbered: point i is then the
    mirrored counterpart of what it was, as the tracker would number the mirrored face.
    """
    landmarks = record.landmarks.copy()
    if landmarks.shape[1] == NUM_LANDMARKS:
        landmarks = landmarks[:, mirror_order()]
        x = landmarks[..., 0]
        landmarks[..., 0] = (x.min() + x.max()) - x
    return replace(
        record,
        face=np.ascontiguousarray(record.face[:, :, ::-1]),
        lip=np.ascontiguousarray(record.lip[:, :, ::-1]),
        landmarks=landmarks,
    )


def rotate(record: ClipRecord, step: RotateStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Turns and magnifies the crops around their middles, the landmarks around the middle of them all."""
    degrees = rng.uniform(-step.max_degrees, step.max_degrees)
    scale = rng.uniform(*step.scale)
    landmarks = record.landmarks
    if landmarks.size:
        middle = (landmarks.min(axis=(0, 1)) + landmarks.max(axis=(0, 1))) / 2
        turn = cv2.getRotationMatrix2D((0, 0), degrees, scale)[:, :2]
        landmarks = ((landmarks - middle) @ turn.T + middle).astype(np.float32)
    return replace(
        record,
        face=_turn(record.face, degrees, scale),
        lip=_turn(record.lip, degrees, scale),
        landmarks=landmarks,
    )


def _turn(crops: NDArray[np.uint8], degrees: float, scale: float) -> NDArray[np.uint8]:
    if not len(crops):
        return crops
    height, width = crops.shape[1:3]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    turned = [
        cv2.warpAffine(crop, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for crop in crops
    ]
    return np.stack(turned).astype(np.uint8, copy=False)


def jitter_colors(record: ClipRecord, step: ColorJitterStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Changes brightness, contrast, saturation and hue by one affine map of the colours of the whole clip."""
    brightness = rng.uniform(1 - step.brightness, 1 + step.brightness)
    contrast = rng.uniform(1 - step.contrast, 1 + step.contrast)
    saturation = rng.uniform(1 - step.saturation, 1 + step.saturation)
    hue = rng.uniform(-step.hue, step.hue) * 2 * np.pi
    mean_luma = float(RGB_TO_YIQ[0] @ record.face.mean(axis=(0, 1, 2))) * brightness
    matrix = color_matrix(brightness * contrast, saturation, hue)
    # The contrast turns around the mean of the face crop, for the lips too: else the two would part.
    affine = np.column_stack([matrix, np.full(3, mean_luma * (1 - contrast))])
    return replace(record, face=_map_colors(record.face, affine), lip=_map_colors(record.lip, affine))


def color_matrix(gain: float, saturation: float, hue_rad: float) -> NDArray[np.float64]:
    """Linear map of RGB that scales luma, and scales and turns the colour differences.

    Args:
        gain: Of everything.
        saturation: Of the colour differences; 0 gives grey.
        hue_rad: Turn of the colour differences.
    Returns:
        (3, 3), for column vectors R, G, B.
    """
    cos, sin = saturation * np.cos(hue_rad), saturation * np.sin(hue_rad)
    change = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return gain * np.linalg.inv(RGB_TO_YIQ) @ change @ RGB_TO_YIQ


def _map_colors(crops: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    rows = crops.reshape(-1, crops.shape[2], 3)
    return np.asarray(cv2.transform(rows, affine.astype(np.float32)), np.uint8).reshape(crops.shape)


def blur(record: ClipRecord, step: BlurStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Blurs by a Gaussian of one width."""
    sigma = rng.uniform(*step.sigma_px)

    def smooth(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.stack([cv2.GaussianBlur(crop, (0, 0), sigma) for crop in crops]).astype(np.uint8, copy=False)

    return replace(record, face=smooth(record.face), lip=smooth(record.lip))


def resize(record: ClipRecord, step: ResizeStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Shrinks by area averages and enlarges again bilinearly."""
    return _shrink(record, rng.uniform(*step.scale))


def shrink_face(record: ClipRecord, step: FaceSizeStep, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Shrinks until the face has the drawn width, and enlarges again; without landmarks the whole crop counts."""
    wanted_px = rng.uniform(*step.face_px)
    scale = wanted_px / (record.face.shape[2] * face_share(record.landmarks, face_scale=spec.picture.face_scale))
    return record if scale >= 1 else _shrink(record, scale)


def face_share(landmarks: NDArray[np.float32], *, face_scale: float) -> float:
    """Width of the face as a share of its crop's side.

    Args:
        landmarks: (T, P, 2) pixels.
        face_scale: Side of the crop as a multiple of the longer side of the landmarks' box.
    Returns:
        Its median over the clip; 1 without landmarks.
    """
    if not landmarks.size:
        return 1.0
    sides = landmarks.max(axis=1) - landmarks.min(axis=1)
    return float(np.median(sides[:, 0] / np.maximum(sides.max(axis=1), 1e-6))) / face_scale


def _shrink(record: ClipRecord, scale: float) -> ClipRecord:
    def shrink_and_enlarge(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = crops.shape[1:3]
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrunk = (cv2.resize(crop, small, interpolation=cv2.INTER_AREA) for crop in crops)
        grown = [cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR) for crop in shrunk]
        return np.stack(grown).astype(np.uint8, copy=False)

    return replace(record, face=shrink_and_enlarge(record.face), lip=shrink_and_enlarge(record.lip))


def add_noise(record: ClipRecord, step: NoiseStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Adds Gaussian noise of one strength, drawn anew for each pixel."""
    std = rng.uniform(*step.std) * 255

    def noisy(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        noise = rng.standard_normal(crops.shape, np.float32)
        noise *= np.float32(std)
        noise += crops
        return np.clip(np.rint(noise, out=noise), 0, 255).astype(np.uint8)

    return replace(record, face=noisy(record.face), lip=noisy(record.lip))


def compress(record: ClipRecord, step: JpegStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Encodes and decodes each picture as JPEG of one quality."""
    quality = int(rng.integers(step.quality[0], step.quality[1] + 1))
    return replace(
        record, face=roundtrip_jpeg(record.face, quality=quality), lip=roundtrip_jpeg(record.lip, quality=quality)
    )


def reencode(record: ClipRecord, step: H264Step, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Encodes and decodes face and lips at one constant rate factor."""
    crf = int(rng.integers(step.crf[0], step.crf[1] + 1))
    return replace(
        record,
        face=roundtrip_h264(record.face, crf=crf, fps=spec.fps),
        lip=roundtrip_h264(record.lip, crf=crf, fps=spec.fps),
    )
