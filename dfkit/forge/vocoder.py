"""Speech taken apart and put together again: Griffin-Lim from mel bands, WORLD where it is installed."""

from __future__ import annotations

import numpy as np

N_FFT = 1024
HOP_LENGTH = 256
N_MELS = 80
ITERATIONS = 32
# Fast Griffin-Lim's momentum; 0.99 converges fastest in Perraudin et al. 2013, figure 3.
MOMENTUM = 0.99


def resynthesise_griffin_lim(waveform: np.ndarray, *, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Keeps only the power in mel bands and invents the phase anew.

    Args:
        waveform: (N,) float32.
        sample_rate: Hz.
        rng: Draws the first phases.
    Returns:
        (N,) float32 on the same clock.
    Source: Griffin and Lim 1984; the momentum of Perraudin, Balazs and Sondergaard 2013.
    """
    spectrum = stft(waveform)
    bands = mel_bands(sample_rate)
    # Back from bands to bins by the least-squares inverse; what comes out negative is no power.
    power = np.maximum(np.linalg.pinv(bands) @ (bands @ np.abs(spectrum) ** 2), 1e-12)
    magnitude = np.sqrt(power)
    angles = np.exp(2j * np.pi * rng.random(magnitude.shape))
    previous = np.zeros_like(spectrum)
    for _ in range(ITERATIONS):
        rebuilt = stft(istft(magnitude * angles, len(waveform)))
        moved = rebuilt + MOMENTUM * (rebuilt - previous)
        previous = rebuilt
        angles = moved / np.maximum(np.abs(moved), 1e-12)
    return istft(magnitude * angles, len(waveform)).astype(np.float32)


def resynthesise_world(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Pitch, envelope and aperiodicity of the WORLD vocoder, put together again.

    Args:
        waveform: (N,) float32.
        sample_rate: Hz.
    Returns:
        (N,) float32 on the same clock.
    Source: Morise, Yokomori and Ozawa 2016.
    """
    import pyworld

    samples = waveform.astype(np.float64)
    pitch, envelope, aperiodicity = pyworld.wav2world(samples, sample_rate)
    rebuilt = pyworld.synthesize(pitch, envelope, aperiodicity, sample_rate)
    # WORLD rounds the length to whole frames: brought back to that of the input.
    num_missing = max(0, len(samples) - len(rebuilt))
    return np.pad(rebuilt, (0, num_missing))[: len(samples)].astype(np.float32)


def mel_bands(sample_rate: int) -> np.ndarray:
    """Triangles on the mel scale of O'Shaughnessy 1987 (2595 log10(1 + f / 700)).

    Returns:
        (N_MELS, N_FFT // 2 + 1) float64, each summing to 1.
    """
    hertz = np.fft.rfftfreq(N_FFT, 1 / sample_rate)
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, N_MELS + 2) / 2595) - 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    triangles = np.maximum(0, np.minimum(rising, falling))
    # A low band narrower than a bin would hold nothing: it takes the bin nearest to its middle.
    nearest = np.argmin(np.abs(hertz - middle), axis=1)
    triangles[np.arange(N_MELS), nearest] = np.maximum(triangles[np.arange(N_MELS), nearest], 1e-3)
    return triangles / triangles.sum(axis=1, keepdims=True)


def _window() -> np.ndarray:
    return np.hanning(N_FFT + 1)[:N_FFT]


def stft(waveform: np.ndarray) -> np.ndarray:
    """(N_FFT // 2 + 1, num_stft_frames) complex; the signal mirrored at both ends."""
    padded = np.pad(waveform.astype(np.float64), (N_FFT // 2, N_FFT), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    return np.fft.rfft(frames * _window(), axis=1).T


def istft(spectrum: np.ndarray, length: int) -> np.ndarray:
    """Back from `stft`, overlapping frames weighted by the squared window; (length,) float64."""
    frames = np.fft.irfft(spectrum.T, N_FFT, axis=1) * _window()
    size = (len(frames) - 1) * HOP_LENGTH + N_FFT
    out, weight = np.zeros(size), np.zeros(size)
    squared = _window() ** 2
    for index, frame in enumerate(frames):
        out[index * HOP_LENGTH : index * HOP_LENGTH + N_FFT] += frame
        weight[index * HOP_LENGTH : index * HOP_LENGTH + N_FFT] += squared
    return (out / np.maximum(weight, 1e-8))[N_FFT // 2 : N_FFT // 2 + length]
