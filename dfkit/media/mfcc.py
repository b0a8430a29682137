"""MFCC in plain numpy: the reference for the exported graph and the phone.

Hann-windowed power spectrum, Slaney mel bands, decibels with a floor, orthonormal DCT-II: the arithmetic of
librosa.feature.mfcc with its defaults. Source: Slaney, Auditory Toolbox, 1998 (mel scale and bands).
"""

from __future__ import annotations

import numpy as np

from dfkit.clip import AudioSpec
from dfkit.errors import ShapeError
from dfkit.mel import dct_matrix, hann_window, mel_filters


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
    power = (spectrum.real**2 + spectrum.imag**2) @ mel_filters(spec)
    decibels = 10.0 * np.log10(np.maximum(power, spec.amin))
    decibels = np.maximum(decibels, decibels.max() - spec.top_db)
    return (decibels @ dct_matrix(spec.n_mels, spec.n_mfcc)).astype(np.float32)
