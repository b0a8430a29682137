"""Audio-visual synchrony: features of a clip's mouth opening and loudness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfkit.clip import ClipSpec

UPPER_LIP, LOWER_LIP = 13, 14
"""Inner edges of the lips, in the middle."""
FOREHEAD, CHIN = 10, 152
MAX_LAG = 10
"""Largest lag in either direction, pictures; 0.4 s at 25 fps."""
QUIET_DB = -100.0
NAN = float("nan")


def mouth_opening(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance of the inner lips as a share of the face's height.

    Args:
        landmarks: (T, 468, 2) pixels.
    Returns:
        (T,) unitless.
    """
    gap = np.linalg.norm(landmarks[:, UPPER_LIP].astype(np.float64) - landmarks[:, LOWER_LIP], axis=1)
    height = np.linalg.norm(landmarks[:, FOREHEAD].astype(np.float64) - landmarks[:, CHIN], axis=1)
    return gap / (np.median(height) + 1e-9)


def loudness_db(waveform: NDArray[np.float32], num_frames: int, spec: ClipSpec) -> NDArray[np.float64]:
    """RMS level around each picture.

    Args:
        waveform: (33408,) of a clip; sample `spec.lead_samples` belongs to the first picture.
        num_frames: T, pictures of the clip.
        spec: Contract of the clip.
    Returns:
        (T,) dBFS, at least `QUIET_DB`.
    """
    hop = spec.audio.hop_length
    starts = spec.lead_samples - hop // 2 + np.arange(num_frames) * hop
    power = [np.mean(np.square(waveform[start : start + hop], dtype=np.float64)) for start in starts]
    return 10 * np.log10(np.maximum(power, 10 ** (QUIET_DB / 10)))


def sound_lip_features(
    landmarks: NDArray[np.float32], waveform: NDArray[np.float32], spec: ClipSpec
) -> dict[str, float]:
    """Correlation and lag of mouth opening and loudness.

    Args:
        landmarks: (T, 468, 2) pixels.
        waveform: Of the same clip.
        spec: Its contract.
    Returns:
        5 numbers by name; NaN where the mouth or the sound does not change.
    """
    opening = mouth_opening(landmarks)
    level = loudness_db(waveform, len(landmarks), spec)
    by_lag = np.array([correlation_at(opening, level, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)])
    known = bool(np.isfinite(by_lag).all())
    best = int(by_lag.argmax()) if known else 0
    return {
        "mouth_loudness_correlation": correlation_at(opening, level, 0),
        "mouth_loudness_best": float(by_lag[best]) if known else NAN,
        "mouth_loudness_lag_s": (best - MAX_LAG) / spec.fps if known else NAN,
        "mouth_speed_loudness_correlation": correlation_at(np.abs(np.gradient(opening)), level, 0),
        "mouth_opening_std": float(opening.std()),
    }


def correlation_at(opening: NDArray[np.float64], level: NDArray[np.float64], lag: int) -> float:
    """Pearson correlation of mouth opening and loudness at a lag.

    Args:
        opening: (T,).
        level: (T,).
        lag: Pictures by which the mouth is later than the sound; may be negative.
    Returns:
        In [-1, 1]; NaN where one of them does not change.
    """
    if lag >= 0:
        mouth, sound = opening[lag:], level[: len(level) - lag]
    else:
        mouth, sound = opening[:lag], level[-lag:]
    mouth, sound = mouth - mouth.mean(), sound - sound.mean()
    scale = float(np.sqrt((mouth**2).sum() * (sound**2).sum()))
    return float((mouth * sound).sum() / scale) if scale > 1e-9 else NAN
