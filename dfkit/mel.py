"""Constants of the MFCC, in numpy: what the reference, the network and the exported graph multiply by.

Source: Slaney, Auditory Toolbox, 1998 (mel scale and bands).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from dfkit.clip import AudioSpec


@lru_cache(maxsize=8)
def mel_filters(spec: AudioSpec) -> np.ndarray:
    """Triangular bands of unit area on Slaney's scale: linear below 1 kHz, logarithmic above.

    Returns:
        (n_fft // 2 + 1, n_mels) float64; equal to librosa.filters.mel transposed.
    """
    linear_hz, log_start_hz = 200.0 / 3, 1000.0
    log_step = math.log(6.4) / 27
    start_mel = log_start_hz / linear_hz

    def to_mel(hz: float) -> float:
        return hz / linear_hz if hz < log_start_hz else start_mel + math.log(hz / log_start_hz) / log_step

    mels = np.linspace(0.0, to_mel(spec.sample_rate / 2), spec.n_mels + 2)
    edges_hz = np.where(
        mels < start_mel,
        mels * linear_hz,
        log_start_hz * np.exp(log_step * np.maximum(mels - start_mel, 0.0)),
    )
    bins_hz = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate / spec.n_fft
    rise = (bins_hz[:, None] - edges_hz[None, :-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    fall = (edges_hz[None, 2:] - bins_hz[:, None]) / (edges_hz[2:] - edges_hz[1:-1])
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    return np.asarray(triangles * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[None, :])


@lru_cache(maxsize=8)
def dct_matrix(n_mels: int, n_mfcc: int) -> np.ndarray:
    """Orthonormal DCT-II, (n_mels, n_mfcc) float64."""
    angles = np.pi / n_mels * np.outer(np.arange(n_mels) + 0.5, np.arange(n_mfcc))
    matrix = np.cos(angles) * math.sqrt(2.0 / n_mels)
    matrix[:, 0] = math.sqrt(1.0 / n_mels)
    return matrix


@lru_cache(maxsize=8)
def hann_window(n_fft: int) -> np.ndarray:
    """Periodic Hann window, (n_fft,) float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
