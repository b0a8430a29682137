"""How the arrays of a clip are packed into bytes: small, and close enough to the live ones.

Pictures are JPEG with full colour resolution (4:4:4), each at the lowest quality of a ladder that keeps its
PSNR. Landmarks are fixed-point numbers around the centre of each frame's face. Sound stays float32: as
int16 it would be half as large, but rounding moves the MFCC of quiet clips (largest change over three real
clips, of about 600: 0.2 as they are, 7 at a tenth of the level, 76 at a hundredth), and 67 kB of 2 MB is
not worth that.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfkit.errors import DataError

MIN_PSNR_DB = 40.0
QUALITIES = (95, 97, 99, 100)
# (step in px, code): faces of up to 1,023 px, up to 2,047 px, larger ones. The error is half a step.
LANDMARK_CODES = ((1 / 64, "<i2"), (1 / 32, "<i2"), (1 / 64, "<i4"))
LANDMARK_HEADER = "<diii"


def encode_picture(rgb: NDArray[np.uint8]) -> tuple[bytes, float]:
    """Encodes one crop as JPEG 4:4:4.

    Args:
        rgb: Shape (H, W, 3), uint8.
    Returns:
        The JPEG, and its PSNR to `rgb` in dB: at least `MIN_PSNR_DB` unless quality 100 does not reach it.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    for quality in QUALITIES:
        parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
        parameters += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        done, jpeg = cv2.imencode(".jpg", bgr, parameters)
        if not done:
            raise ValueError(f"OpenCV could not encode a picture of shape {rgb.shape}")
        decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        assert decoded is not None
        reached_db = float(cv2.PSNR(bgr, decoded))
        if reached_db >= MIN_PSNR_DB:
            break
    return jpeg.tobytes(), min(reached_db, 100.0)


def decode_pictures(jpegs: Sequence[bytes | memoryview], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Decodes crops.

    Args:
        jpegs: One per frame.
        shape: (H, W, 3) that each must have.
    Returns:
        Shape (len(jpegs), H, W, 3), RGB uint8.
    Raises:
        DataError: A picture is broken or of another size.
    """
    pictures = np.empty((len(jpegs), *shape), np.uint8)
    for index, jpeg in enumerate(jpegs):
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None or bgr.shape != tuple(shape):
            raise DataError("a stored picture is broken", fix="dfkit prepare --verify")
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=pictures[index])
    return pictures


def pack_blobs(blobs: Sequence[bytes]) -> bytes:
    """Joins byte strings: uint32 count, uint32 lengths, contents; little endian."""
    header = struct.pack(f"<{1 + len(blobs)}I", len(blobs), *map(len, blobs))
    return b"".join([header, *blobs])


def unpack_blobs(packed: bytes | memoryview) -> list[memoryview]:
    """Splits what `pack_blobs` joined; views into `packed`, no copies.

    Raises:
        DataError: The lengths do not add up.
    """
    view = memoryview(packed)
    if len(view) < 4:
        raise DataError("a stored sample is cut off", fix="dfkit prepare --verify")
    (count,) = struct.unpack_from("<I", view)
    start = 4 * (1 + count)
    if len(view) < start:
        raise DataError("a stored sample is cut off", fix="dfkit prepare --verify")
    ends = start + np.cumsum(np.frombuffer(view[4:start], "<u4"), dtype=np.int64)
    if len(view) != (int(ends[-1]) if count else start):
        raise DataError("a stored sample is cut off", fix="dfkit prepare --verify")
    starts = [start, *ends[:-1].tolist()]
    return [view[a:b] for a, b in zip(starts, ends.tolist(), strict=False)]


def encode_landmarks(landmarks: NDArray[np.float32]) -> bytes:
    """Packs landmarks as whole steps from each frame's centre.

    Args:
        landmarks: Shape (T, P, 2), source pixels, finite.
    Returns:
        Step (float64), T, P and bytes per code (int32), centres (T, 2) float32, codes (T, P, 2). The error is
        at most 1/64 px.
    """
    low = landmarks.min(axis=1, initial=np.inf)
    high = landmarks.max(axis=1, initial=-np.inf)
    # Without points (uniform50) there is no middle.
    centres = ((low + high) / 2 if landmarks.shape[1] else np.zeros_like(low)).astype(np.float32)
    offsets = landmarks.astype(np.float64) - centres[:, None, :]
    reach_px = float(np.abs(offsets).max(initial=0.0))
    if not np.isfinite(reach_px):
        raise ValueError("landmarks are not finite")
    reaching = [(step, code) for step, code in LANDMARK_CODES if reach_px <= step * np.iinfo(np.dtype(code)).max]
    step_px, code = reaching[0]
    codes = np.rint(offsets / step_px).astype(code)
    header = struct.pack(LANDMARK_HEADER, step_px, *landmarks.shape[:2], codes.itemsize)
    return header + centres.astype("<f4").tobytes() + codes.tobytes()


def decode_landmarks(packed: bytes | memoryview) -> NDArray[np.float32]:
    """Reads what `encode_landmarks` packed: shape (T, P, 2), float32, source pixels."""
    step_px, frames, points, code_bytes = struct.unpack_from(LANDMARK_HEADER, packed)
    start = struct.calcsize(LANDMARK_HEADER)
    centres = np.frombuffer(packed, "<f4", frames * 2, start).reshape(frames, 1, 2)
    codes = np.frombuffer(packed, f"<i{code_bytes}", frames * points * 2, start + frames * 8)
    return (codes.reshape(frames, points, 2) * step_px + centres).astype(np.float32)
