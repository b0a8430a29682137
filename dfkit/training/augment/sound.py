"""Augmentations of the sound of a clip; its length and its alignment with the pictures stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.clip import ClipSpec
from dfkit.config.augment import LoudnessStep, SoundBandStep, SoundCodecStep, SoundNoiseStep, SoundRateStep
from dfkit.data.samples import ClipRecord
from dfkit.media.resample import resample
from dfkit.training.augment.roundtrip import roundtrip_sound

LEAST_POWER = 1e-10
"""Mean square up to which sound is silence that no gain is for; -100 dBFS."""
TELEPHONE_HZ = (300.0, 3400.0)
"""ITU-T G.712's band of a telephone channel."""
EDGE_SHARE = 0.1
"""Width of a band edge as a share of its frequency."""


def add_noise(record: ClipRecord, step: SoundNoiseStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Adds white noise at a drawn SNR; silence has none and stays silent."""
    snr_db = rng.uniform(*step.snr_db)
    noise = rng.standard_normal(len(record.waveform), np.float32)
    return replace(record, waveform=mix_at_snr(record.waveform, noise, snr_db=snr_db))


def mix_at_snr(waveform: NDArray[np.float32], noise: NDArray[np.float32], *, snr_db: float) -> NDArray[np.float32]:
    """Adds noise whose power lies `snr_db` below that of the waveform, both taken over their whole length.

    Args:
        waveform: (N,) in [-1, 1].
        noise: (N,), any power above zero.
        snr_db: Power ratio in dB.
    Returns:
        (N,) float32; turned down as a whole where it would leave [-1, 1], which leaves the ratio as it is.
    """
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    noise_power = float(np.mean(np.square(noise, dtype=np.float64)))
    gain = np.sqrt(power / noise_power * 10 ** (-snr_db / 10))
    mixed = waveform + np.float32(gain) * noise
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def limit_band(record: ClipRecord, step: SoundBandStep, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Keeps a telephone's band, or what lies below a drawn frequency."""
    kind = step.kinds[rng.integers(len(step.kinds))]
    cutoff_hz = rng.uniform(*step.cutoff_hz)
    low_hz, high_hz = TELEPHONE_HZ if kind == "telephone" else (0.0, cutoff_hz)
    limited = keep_band(record.waveform, low_hz=low_hz, high_hz=high_hz, sample_rate=spec.audio.sample_rate)
    return replace(record, waveform=limited)


def keep_band(waveform: NDArray[np.float32], *, low_hz: float, high_hz: float, sample_rate: int) -> NDArray[np.float32]:
    """Zero-phase band pass with raised-cosine edges.

    Args:
        waveform: (N,).
        low_hz: Half of the amplitude is left here; 0 for no lower edge.
        high_hz: Half of the amplitude is left here.
        sample_rate: Hz.
    Returns:
        (N,) float32 in [-1, 1].
    """
    # Twice the length: the filter's tail must not come in again at the other end.
    size = 2 * len(waveform)
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    gain = 1 - _rising_edge(frequency, high_hz)
    if low_hz > 0:
        gain *= _rising_edge(frequency, low_hz)
    limited = np.fft.irfft(np.fft.rfft(waveform.astype(np.float64), size) * gain, size)[: len(waveform)]
    return np.clip(limited, -1, 1).astype(np.float32)


def _rising_edge(frequency: NDArray[Any], edge_hz: float) -> NDArray[np.float64]:
    """Raised cosine from 0 below the edge to 1 above it."""
    progress = np.clip((frequency - edge_hz) / (EDGE_SHARE * edge_hz) + 0.5, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * progress)


def reencode(record: ClipRecord, step: SoundCodecStep, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Sends the sound through a drawn codec at a drawn bit rate."""
    codec = step.codecs[rng.integers(len(step.codecs))]
    bitrate_kbps = rng.uniform(*step.bitrate_kbps)
    coded = roundtrip_sound(record.waveform, codec=codec, bitrate_kbps=bitrate_kbps, sample_rate=spec.audio.sample_rate)
    return replace(record, waveform=coded)


def lower_rate(record: ClipRecord, step: SoundRateStep, rng: np.random.Generator, spec: ClipSpec) -> ClipRecord:
    """Brings the sound to a drawn sample rate and back, which leaves it in its place."""
    rate, own_rate = step.rates[rng.integers(len(step.rates))], spec.audio.sample_rate
    if rate == own_rate:
        return record
    returned = resample(resample(record.waveform, own_rate, rate), rate, own_rate)
    return replace(record, waveform=np.clip(returned[: len(record.waveform)], -1, 1).astype(np.float32))


def set_loudness(record: ClipRecord, step: LoudnessStep, rng: np.random.Generator, _spec: ClipSpec) -> ClipRecord:
    """Brings the clip's RMS to a drawn level."""
    level_db = rng.uniform(*step.level_db)
    power = float(np.mean(np.square(record.waveform, dtype=np.float64)))
    if power <= LEAST_POWER:
        return record
    peak = float(np.abs(record.waveform).max())
    gain = min(10 ** (level_db / 20) / np.sqrt(power), 1 / peak)
    return replace(record, waveform=record.waveform * np.float32(gain))
