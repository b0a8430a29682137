"""Manipulations of the sound. All take and give mono float32 of one length; none fills in silence."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfkit.forge.vocoder import resynthesise_griffin_lim, resynthesise_world
from dfkit.media.facts import SILENCE_DB

SEAM_S = 0.02
"""Two pieces of sound are blended over this time where they meet, unless told otherwise: a click would give the place
away."""
LEAST_WINDOW = 16
"""Samples of a spectrum; over shorter seams the waves themselves are blended."""
MAX_LEAD = 0.4
QUIET_S = 0.01
MATCH_LIMIT_DB = 20.0
GRAIN_S = 0.04
SEARCH_S = 0.006
RETIME_S = (0.12, 0.28)
RETIME_PERIOD_S = (1.2, 2.0)


@dataclass(frozen=True)
class Span:
    """A stretch of samples, `start` up to, not including, `end`."""

    start: int
    end: int
    seam: int = round(SEAM_S * 16_000)
    """Samples over which it is blended with what is around it, inside of the stretch."""

    @property
    def length(self) -> int:
        """Number of samples."""
        return self.end - self.start


def level_to(waveform: np.ndarray, level_dbfs: float) -> np.ndarray:
    """Brings a sound to an RMS level; what would clip is held at full scale.

    Args:
        waveform: (N,) float32, not silent.
        level_dbfs: RMS, dBFS.
    Returns:
        (N,) float32.
    """
    wanted = 10 ** (level_dbfs / 20)
    out = waveform.astype(np.float64)
    # Clipping peaks lowers the level again; three rounds bring it within 0.01 dB where few samples clip.
    for _ in range(3):
        out = np.clip(out * (wanted / _rms(out)), -0.99, 0.99)
    return out.astype(np.float32)


def shift_sound(waveform: np.ndarray, shift: int, span: Span) -> np.ndarray:
    """Lets a stretch be heard later or earlier; over the whole sound, its end comes back at its start.

    A stretch shorter than half of the sound is brought to the level of what it replaces.

    Args:
        waveform: (N,) float32.
        shift: Samples; above 0 the sound comes later.
        span: What is changed.
    Returns:
        (N,) float32.
    """
    if span.length < len(waveform) // 2:
        return insert(waveform, _rotate(waveform, shift), span, match_level=True)
    rotated = waveform.copy()
    rotated[span.start : span.end] = _rotate(waveform[span.start : span.end], shift)
    return insert(waveform, rotated, span, match_level=False)


def without_lead(waveform: np.ndarray, *, sample_rate: int, level_dbfs: float) -> Span:
    """The sound from where it first can be heard.

    A recording mostly begins with a pause. Shifting the pause too would make the sound of every forgery begin
    early, and that alone would give it away.

    Args:
        waveform: (N,) float32.
        sample_rate: Hz.
        level_dbfs: RMS level at which it will be written.
    Returns:
        From the end of the pause to the end; all of it where the pause takes more than `MAX_LEAD`.
    """
    gain = 10 ** (level_dbfs / 20) / _rms(waveform)
    block = round(QUIET_S * sample_rate)
    blocks = waveform[: len(waveform) // block * block].reshape(-1, block).astype(np.float64) * gain
    loud = np.flatnonzero(np.sqrt(np.mean(blocks**2, axis=1)) > 10 ** (SILENCE_DB / 20))
    lead = int(loud[0]) * block if len(loud) else 0
    return Span(lead if lead <= MAX_LEAD * len(waveform) else 0, len(waveform))


def level_shift(waveform: np.ndarray, shifts: Sequence[int], span: Span) -> int:
    """The shift that brings sound of the most similar level into a stretch.

    A pause in place of a word would be easy to tell, and would change the level of all that is written.
    """
    wanted = _rms(waveform[span.start : span.end])

    def unlike(shift: int) -> float:
        return abs(float(np.log(_rms(np.roll(waveform, shift)[span.start : span.end]) / wanted)))

    return min(shifts, key=unlike)


def loud_shift(waveform: np.ndarray, shifts: Sequence[int], span: Span, *, sample_rate: int) -> int:
    """The first of some shifts after which a stretch begins at least as loud as it did; else the loudest."""
    block = round(QUIET_S * sample_rate)
    wanted = _rms(waveform[span.start : span.start + block])
    inside = waveform[span.start : span.end]

    def onset(shift: int) -> float:
        return _rms(np.roll(inside, shift)[:block])

    return next((shift for shift in shifts if onset(shift) >= wanted), max(shifts, key=onset))


def swap_sound(waveform: np.ndarray, donor: np.ndarray, span: Span, *, offset: int) -> np.ndarray:
    """Replaces a stretch by another person's sound, at the level of what it replaces.

    Args:
        waveform: (N,) float32.
        donor: (M,) float32, M > 0; repeated where it is too short.
        span: What is changed.
        offset: Sample of the donor that is heard at sample 0.
    Returns:
        (N,) float32.
    """
    return insert(waveform, _repeat(np.roll(donor, -offset), len(waveform)), span, match_level=True)


def resynthesise(
    waveform: np.ndarray, span: Span, *, sample_rate: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Replaces a stretch by the same words from a vocoder.

    Args:
        waveform: (N,) float32.
        span: What is changed.
        sample_rate: Hz.
        rng: Chooses the vocoder where two are installed, and Griffin-Lim's first phases.
    Returns:
        (N,) float32, and the vocoder's name: `griffin_lim` or `world`.
    """
    use_world = rng.random() < 0.5 and importlib.util.find_spec("pyworld") is not None
    if use_world:
        return insert(waveform, resynthesise_world(waveform, sample_rate), span, match_level=True), "world"
    rebuilt = resynthesise_griffin_lim(waveform, sample_rate=sample_rate, rng=rng)
    return insert(waveform, rebuilt, span, match_level=True), "griffin_lim"


def retime_sound(
    waveform: np.ndarray, span: Span, *, sample_rate: int, sign: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Stretches and squeezes a stretch without changing its pitch: words come early or late, and catch up.

    Args:
        waveform: (N,) float32.
        span: What is changed.
        sample_rate: Hz.
        sign: 1 or -1: whether the words are first late or early.
        rng: Draws how far and how often.
    Returns:
        (N,) float32, and the largest displacement in seconds.
    Source: Verhelst and Roelands 1993 (WSOLA): grains are laid where they fit to what was laid before.
    """
    sample = np.arange(span.length)
    swings = max(1, round(span.length / sample_rate / rng.uniform(*RETIME_PERIOD_S)))
    # A swing of d seconds in p seconds changes the tempo by up to pi d / p: held below one half.
    most_s = min(RETIME_S[1], 0.5 * span.length / sample_rate / swings / np.pi)
    depth_s = float(rng.uniform(min(RETIME_S[0], 0.7 * most_s), most_s))
    # From one swing to the next the direction turns, so that the sound leads as long as it lags.
    phase = np.sin(np.pi * swings * sample / span.length)
    source = span.start + sample - sign * depth_s * sample_rate * phase
    warped = waveform.copy()
    warped[span.start : span.end] = _wsola(
        waveform, source, round(GRAIN_S * sample_rate), round(SEARCH_S * sample_rate)
    )
    return insert(waveform, warped, span, match_level=True), depth_s


def insert(waveform: np.ndarray, other: np.ndarray, span: Span, *, match_level: bool) -> np.ndarray:
    """Replaces a stretch, blended at inner edges (not at the start and the end of the sound).

    Args:
        waveform: (N,) float32.
        other: (N,) float32, on the same clock.
        span: What is taken from `other`; nothing outside of it changes.
        match_level: Whether the stretch is brought to the RMS of what it replaces.
    Returns:
        (N,) float32.
    """
    gain = 1.0
    if match_level:
        inside = slice(span.start, span.end)
        limit = 10 ** (MATCH_LIMIT_DB / 20)
        gain = float(np.clip(_rms(waveform[inside]) / _rms(other[inside]), 1 / limit, limit))
    own, new = waveform.astype(np.float64), gain * other.astype(np.float64)
    out = own.copy()
    out[span.start : span.end] = new[span.start : span.end]
    seam = min(span.seam, span.length // 4)
    if span.start > 0:
        out[span.start : span.start + seam] = blend_spectra(own, new, span.start, seam)
    if span.end < len(waveform):
        out[span.end - seam : span.end] = blend_spectra(new, own, span.end - seam, seam)
    result = out.astype(np.float32)
    # To the last bit what it was.
    result[: span.start], result[span.end :] = waveform[: span.start], waveform[span.end :]
    return result


def blend_spectra(before: np.ndarray, after: np.ndarray, start: int, length: int) -> np.ndarray:
    """Goes over from one sound to another without a click or a dip.

    Where waves that have nothing in common are added in equal parts, half of the power is missing; and a frequency
    that both hold is louder or softer by chance. So each frequency's magnitude goes over evenly on a logarithmic scale,
    and only its phase is that of the sum.

    Args:
        before: (N,) float64.
        after: (N,) float64, on the same clock.
        start: First sample of the seam: up to it `before` is heard.
        length: Samples of the seam; behind it `after` is heard.
    Returns:
        (length,) float64.
    """
    window_size = 1 << max((length // 2).bit_length() - 1, 0)
    if window_size < LEAST_WINDOW:
        ramp = (np.arange(length) + 0.5) / max(length, 1)
        return before[start : start + length] * (1 - ramp) + after[start : start + length] * ramp
    hop = window_size // 4
    window = np.sin(np.pi * (np.arange(window_size) + 0.5) / window_size) ** 2
    first, last = start - window_size, start + length
    padded = [np.pad(each, (window_size, 2 * window_size)) for each in (before, after)]
    total = np.zeros(length + 3 * window_size)
    weights = np.zeros_like(total)
    for place in range(first, last + 1, hop):
        piece = slice(place + window_size, place + 2 * window_size)
        middle = place + window_size / 2 - (start + window_size / 2)
        share = float(np.clip(middle / max(length - window_size, 1), 0, 1))
        mixed = _mix_spectra(*(np.fft.rfft(each[piece] * window) for each in padded), share=share)
        into = slice(place - first, place - first + window_size)
        total[into] += np.fft.irfft(mixed, window_size) * window
        weights[into] += window**2
    inside = slice(window_size, window_size + length)
    return total[inside] / np.maximum(weights[inside], 1e-6)


def _mix_spectra(before: np.ndarray, after: np.ndarray, *, share: float) -> np.ndarray:
    """Magnitudes between those of two spectra on a logarithmic scale, with the phase of their sum."""
    if share in (0.0, 1.0):
        return after if share else before
    summed = (1 - share) * before + share * after
    floor = 1e-9
    wanted = np.maximum(np.abs(before), floor) ** (1 - share) * np.maximum(np.abs(after), floor) ** share
    return summed / np.maximum(np.abs(summed), floor) * wanted


def _seam_samples(waveform: np.ndarray) -> int:
    # The rate is not known here; 320 samples are SEAM_S at the contract's 16 kHz.
    return min(round(SEAM_S * 16000), len(waveform) // 8)


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) + 1e-12))


def _rotate(waveform: np.ndarray, shift: int) -> np.ndarray:
    """Rolled around, the seam between its end and its start blended with their mirror images."""
    shift %= len(waveform)
    if shift == 0:
        return waveform.copy()
    half = min(_seam_samples(waveform) // 2, shift, len(waveform) - shift)
    out = np.roll(waveform, shift)
    ramp = (np.arange(2 * half) + 0.5) / (2 * half)
    ending = np.concatenate([waveform[-half:], waveform[-half:][::-1]])
    starting = np.concatenate([waveform[:half][::-1], waveform[:half]])
    out[shift - half : shift + half] = ending * np.sqrt(1 - ramp) + starting * np.sqrt(ramp)
    return out


def _repeat(waveform: np.ndarray, length: int) -> np.ndarray:
    """The sound from its start, repeated with blended seams until it is long enough."""
    out = waveform
    seam = _seam_samples(waveform)
    ramp = (np.arange(seam) + 0.5) / seam
    while len(out) < length:
        blended = out[-seam:] * np.sqrt(1 - ramp) + waveform[:seam] * np.sqrt(ramp)
        out = np.concatenate([out[:-seam], blended, waveform[seam:]])
    return out[:length].astype(np.float32)


def _wsola(waveform: np.ndarray, source: np.ndarray, grain: int, search: int) -> np.ndarray:
    """Lays grains of `waveform` so that output sample i holds what was at about `source[i]`."""
    hop = grain // 2
    window = np.hanning(grain + 1)[:grain]
    pad = grain + search
    padded = np.pad(waveform.astype(np.float64), pad, mode="reflect")
    out, total = np.zeros(len(source) + 2 * grain), np.zeros(len(source) + 2 * grain)
    expected: np.ndarray | None = None
    for start in range(-hop, len(source), hop):
        middle = min(max(start + hop, 0), len(source) - 1)
        ideal = int(np.clip(round(float(source[middle])) - hop, -grain, len(waveform) - 1 + search - grain + hop))
        best = ideal
        if expected is not None:
            region = padded[pad + ideal - search : pad + ideal + search + grain]
            best = ideal - search + int(np.argmax(np.correlate(region, expected, mode="valid")))
        piece = padded[pad + best : pad + best + grain]
        out[start + grain : start + 2 * grain] += piece * window
        total[start + grain : start + 2 * grain] += window
        following = padded[pad + best + hop : pad + best + hop + grain]
        expected = following if len(following) == grain else None
    return (out / np.maximum(total, 1e-3))[grain : grain + len(source)]
