"""What the pixels of a face are made of: radial spectrum and noise residual of the face crops."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

NUM_PICTURES = 5
"""Spread over the clip; neighbours hardly differ."""
NUM_BANDS = 6
MIDDLE = slice(32, 192)
"""Part of the 224 px crop that is face in every pose."""
RESIDUAL_SIGMA_PX = 1.5


def spectrum_features(face: NDArray[np.uint8]) -> dict[str, float]:
    """Mean over a few pictures of a clip.

    Args:
        face: (T, H, W, 3) RGB.
    Returns:
        9 numbers by name; of the radial spectrum, log10 of the power of each octave-like ring over the whole.
    """
    chosen = np.unique(np.linspace(0, len(face) - 1, NUM_PICTURES).round().astype(int))
    rows = [_of_picture(cv2.cvtColor(face[index], cv2.COLOR_RGB2GRAY)) for index in chosen]
    names = [
        *(f"spectrum_band_{band}" for band in range(NUM_BANDS)),
        "residual_std",
        "residual_kurtosis",
        "residual_grain",
    ]
    return dict(zip(names, map(float, np.mean(rows, axis=0)), strict=True))


def _of_picture(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
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
