"""Spectral features of the face crops: radial power spectrum and noise residual."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dfkit.measures.spacing import evenly_spaced

NUM_PICTURES = 5
"""Pictures used of a clip, spread over it; neighbours hardly differ."""
NUM_BANDS = 6
MIDDLE = slice(32, 192)
"""Part of the 224 px crop that is face in every pose."""
RESIDUAL_SIGMA_PX = 1.5


def spectrum_features(face: NDArray[np.uint8]) -> dict[str, float]:
    """Spectral features of a clip: mean over a few of its pictures.

    Args:
        face: (T, H, W, 3) RGB.
    Returns:
        9 numbers by name; of the radial spectrum, log10 of the power of each octave-like ring over the whole.
    """
    chosen = evenly_spaced(len(face), NUM_PICTURES)
    rows = [_picture_features(cv2.cvtColor(face[index], cv2.COLOR_RGB2GRAY)) for index in chosen]
    names = [
        *(f"spectrum_band_{band}" for band in range(NUM_BANDS)),
        "residual_std",
        "residual_kurtosis",
        "residual_grain",
    ]
    means = np.mean(rows, axis=0)
    return {name: float(mean) for name, mean in zip(names, means, strict=True)}


def _picture_features(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    middle = grey[MIDDLE, MIDDLE].astype(np.float64) / 255
    residual = middle - cv2.GaussianBlur(middle, (0, 0), RESIDUAL_SIGMA_PX)
    variance = float(residual.var()) + 1e-12
    kurtosis = float(((residual - residual.mean()) ** 4).mean()) / variance**2
    # Neighbouring pixels of sensor noise differ, those of a smooth rendering do not.
    grain = float((residual[:, 1:] * residual[:, :-1]).mean()) / variance
    return np.array([*radial_bands(middle), np.sqrt(variance), np.log(kurtosis + 1e-9), grain])


def radial_bands(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the power in rings of rising frequency.

    Args:
        grey: (H, W).
    Returns:
        (NUM_BANDS,) log10; ring edges lie evenly on a logarithmic scale from 1/64 to 1/2 cycles per pixel.
    Source: the azimuthal average of Durall et al. 2020, arXiv:2003.01826, section 3, in rings.
    """
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None])
    ring = np.digitize(radius, np.geomspace(1 / 64, 1 / 2, NUM_BANDS + 1)) - 1
    inside = (ring >= 0) & (ring < NUM_BANDS)
    sums = np.bincount(ring[inside], weights=power[inside], minlength=NUM_BANDS)
    return np.log10((sums + 1e-12) / (power.sum() + 1e-9))
