"""Where somebody speaks in a sound, how loud over time, and what is heard between the words."""

from __future__ import annotations

import numpy as np

from dfkit.forge.vocoder import istft, mel_bands, stft

BLOCK_S = 0.01
SMOOTH_S = 0.03
SPEECH_SHARE = 0.35
"""Speech begins this far from the floor to the peaks, on the scale of decibels."""
MAX_BELOW_PEAKS_DB = 30.0
SILENCE_DBFS = -60.0
"""Where not even the peaks reach this level, nobody speaks."""
STEADY_DB = 6.0
"""Sound whose level varies by less is speech throughout: there is no pause to be told from it."""
MIN_GAP_S, MIN_RUN_S = 0.15, 0.12
FLOOR_SHARE = 0.1
"""The floor is the power below which a frequency is for this share of the time."""
NOISE_AT_FLOOR = -np.log(1 - FLOOR_SHARE)
"""Of steady noise, whose power is exponentially distributed, that share lies below this part of the mean."""
BAND_SMOOTHING = 2.0
MAX_RAISE_DB = 20.0
PEAK_ROUNDS, PEAK_SLACK = 6, 1.05
POWER_FLOOR = 1e-12


def levels_db(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """RMS level of each block of 10 ms, smoothed, (num_blocks,) dBFS; the last block may be a part of one."""
    power = block_power(waveform, round(BLOCK_S * sample_rate))
    return 10 * np.log10(_smooth(power, SMOOTH_S / BLOCK_S) + POWER_FLOOR)


def block_power(waveform: np.ndarray, block: int) -> np.ndarray:
    """Mean square of each block of samples, (ceil(N / block),) float64."""
    starts = np.arange(0, len(waveform), block)
    sums = np.add.reduceat(np.square(waveform, dtype=np.float64), starts)
    return sums / np.diff(np.append(starts, len(waveform)))


def speech_runs(waveform: np.ndarray, sample_rate: int) -> list[tuple[int, int]]:
    """Stretches in which somebody is heard: well above the floor, pauses below 0.15 s joined.

    Args:
        waveform: (N,) float32.
        sample_rate: Hz.
    Returns:
        First sample and end of each, rising; none shorter than 0.12 s. Where the level hardly varies, all of it.
    """
    levels = levels_db(waveform, sample_rate)
    floor, peak = np.percentile(levels, [10, 95])
    if peak < SILENCE_DBFS:
        return []
    if peak - floor < STEADY_DB:
        return [(0, len(waveform))]
    limit = max(floor + SPEECH_SHARE * (peak - floor), peak - MAX_BELOW_PEAKS_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (levels > limit).astype(int), [0]]))).reshape(-1, 2)
    runs: list[list[int]] = []
    for start, end in edges.tolist():
        if runs and start - runs[-1][1] < MIN_GAP_S / BLOCK_S:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    block = round(BLOCK_S * sample_rate)
    kept = [(start * block, min(end * block, len(waveform))) for start, end in runs]
    return [(start, end) for start, end in kept if end - start >= MIN_RUN_S * sample_rate]


def count_syllables(waveform: np.ndarray, sample_rate: int) -> int:
    """How many syllables a stretch of speech has, by the peaks of its loudness; at least 1."""
    levels = _smooth(levels_db(waveform, sample_rate), 4.0)
    inner = levels[1:-1]
    return max(1, int(np.sum((inner > levels[:-2]) & (inner >= levels[2:]))))


def room_tone(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Steady noise with the spectrum of what is heard of a recording when nobody speaks.

    Args:
        waveform: (N,) float32, the recording.
        rng: Draws the noise.
    Returns:
        (N,) float64.
    """
    floor = np.quantile(np.abs(stft(waveform)) ** 2, FLOOR_SHARE, axis=1) / NOISE_AT_FLOOR
    white = stft(rng.standard_normal(len(waveform)))
    return istft(white * np.sqrt(floor / np.mean(np.abs(white) ** 2, axis=1))[:, None], len(waveform))


def colour_like(waveform: np.ndarray, model: np.ndarray, *, sample_rate: int) -> np.ndarray:
    """Gives a sound the mean spectrum of another, so that its bandwidth and its microphone are alike.

    Args:
        waveform: (N,) float; only its power over all time counts, and pauses do not.
        model: (M,) float.
        sample_rate: Hz of both.
    Returns:
        (N,) float64; no band is raised by more than 20 dB, and lowered ones as far as it takes.
    """
    bands = mel_bands(sample_rate)
    own, wanted = (bands @ np.mean(np.abs(stft(each)) ** 2, axis=1) + POWER_FLOOR for each in (waveform, model))
    ratio_db = _smooth(10 * np.log10(wanted / own), BAND_SMOOTHING)
    # Its overall level is the caller's: the limit is on how the bands differ.
    ratio_db = np.minimum(ratio_db - np.median(ratio_db), MAX_RAISE_DB)
    middles = np.argmax(bands, axis=1)
    gain = 10 ** (np.interp(np.arange(bands.shape[1]), middles, ratio_db) / 20)
    return istft(stft(waveform) * gain[:, None], len(waveform))


def follow_level(
    waveform: np.ndarray, model: np.ndarray, *, sample_rate: int, limit_db: float, around_db: float | None = None
) -> np.ndarray:
    """Lets a sound be as loud as another at every time, within limits.

    Args:
        waveform: (N,) float.
        model: (N,) float, on the same clock.
        sample_rate: Hz.
        limit_db: How far it is raised or lowered at most, around `around_db`.
        around_db: A gain; the median difference of the two where left out.
    Returns:
        (N,) float64.
    """
    difference = levels_db(model, sample_rate) - levels_db(waveform, sample_rate)
    middle = float(np.median(difference)) if around_db is None else around_db
    gain_db = _smooth(np.clip(difference - middle, -limit_db, limit_db), 1.0) + middle
    block = round(BLOCK_S * sample_rate)
    middles = (np.arange(len(gain_db)) + 0.5) * block
    return np.asarray(waveform * 10 ** (np.interp(np.arange(len(waveform)), middles, gain_db) / 20))


def limit_peaks(waveform: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Softens peaks until they stand no further above a sound's RMS than those of another do.

    Rooms and recorders flatten speech, and a synthesis has met neither: the coder of the file would lose more of it.

    Args:
        waveform: (N,) float.
        model: (M,) float.
    Returns:
        (N,) float64 with the RMS of `model`.
    """
    rms, peak = float(np.sqrt(np.mean(np.square(model)))) + 1e-9, float(np.max(np.abs(model))) + 1e-9
    out = np.asarray(waveform, np.float64)
    for _ in range(PEAK_ROUNDS):
        out = out * (rms / (np.sqrt(np.mean(out**2)) + 1e-9))
        if np.max(np.abs(out)) <= PEAK_SLACK * peak:
            break
        out = peak * np.tanh(out / peak)
    return out * (rms / (np.sqrt(np.mean(out**2)) + 1e-9))


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over neighbours, the ends repeated."""
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
