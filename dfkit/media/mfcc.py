"""MFCC in plain numpy: the reference for the exported graph and the phone.

Hann-windowed power spectrum, Slaney mel bands, decibels with a floor, orthonormal DCT-II: the arithmetic of
librosa.feature.mfcc with its defaults. Source: Slaney, Auditory Toolbox, 1998 (mel scale and bands).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dfkit.clip import AudioSpec
from dfkit.errors import ShapeError

_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above; any shape, float64."""
    high = _LOG_START_HZ / _LINEAR_HZ_PER_MEL + np.log(np.maximum(hz, 1e-9) / _LOG_START_HZ) / _LOG_STEP
    return np.where(hz < _LOG_START_HZ, hz / _LINEAR_HZ_PER_MEL, high)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    start = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
    high = _LOG_START_HZ * np.exp(_LOG_STEP * (np.maximum(mel, start) - start))
    return np.where(mel < start, mel * _LINEAR_HZ_PER_MEL, high)


@lru_cache(maxsize=8)
def mel_filters(spec: AudioSpec) -> np.ndarray:
    """Triangular bands of unit area, (n_mels, n_fft / 2 + 1) float32."""
    bins_hz = np.fft.rfftfreq(spec.n_fft, 1.0 / spec.sample_rate)
    top_mel = hz_to_mel(np.array(spec.sample_rate / 2.0))
    edges = mel_to_hz(np.linspace(0.0, float(top_mel), spec.n_mels + 2))
    rising = (bins_hz[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins_hz[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.maximum(0.0, np.minimum(rising, falling))
    return (bands * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


@lru_cache(maxsize=8)
def dct_matrix(n_mfcc: int, n_mels: int) -> np.ndarray:
    """Orthonormal DCT-II, (n_mfcc, n_mels) float64."""
    k = np.arange(n_mfcc)[:, None]
    n = np.arange(n_mels)[None, :]
    matrix = np.cos(np.pi * k * (2 * n + 1) / (2 * n_mels)) * np.sqrt(2.0 / n_mels)
    matrix[0] /= np.sqrt(2.0)
    return matrix


@lru_cache(maxsize=8)
def hann_window(n_fft: int) -> np.ndarray:
    """Periodic Hann window, (n_fft,) float64."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)


def mfcc(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Mel-frequency cepstral coefficients of a clip.

    Args:
        waveform: (N,) float32 mono in [-1, 1] at `spec.sample_rate`.
        spec: Sizes, hop, centring, floor and dynamic range.
    Returns:
        (T, n_mfcc) float32. T = 1 + (N - n_fft) // hop uncentred, 1 + N // hop centred.
    Raises:
        ShapeError: The signal has not one axis, or is shorter than a window (uncentred) or empty.
    """
    shortest = 1 if spec.centered else spec.n_fft
    if waveform.ndim != 1 or len(waveform) < shortest:
        raise ShapeError(f"waveform of shape {waveform.shape}, expected one axis of at least {shortest} samples")
    samples = waveform.astype(np.float64)
    if spec.centered:
        samples = np.pad(samples, spec.n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop_length]
    spectrum = np.fft.rfft(windows * hann_window(spec.n_fft), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) @ mel_filters(spec).T.astype(np.float64)
    decibels = 10.0 * np.log10(np.maximum(power, spec.amin))
    decibels = np.maximum(decibels, decibels.max() - spec.top_db)
    return (decibels @ dct_matrix(spec.n_mfcc, spec.n_mels).T).astype(np.float32)
