"""The resampler against scipy's polyphase filter and by its measured bands."""

from __future__ import annotations

import json
from math import gcd
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from dfkit.media.resample import STOP_BAND_DB, TRANSITION, Resampler, design_filter, resample

GOLDEN = Path(__file__).parents[1] / "golden" / "media"
RATES = [8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 96000]


def reference_filter(rate_in: int, rate_out: int) -> np.ndarray:
    """The same design by scipy: Kaiser window times sinc at L times the input's rate."""
    up = rate_out // gcd(rate_in, rate_out)
    half = design_filter(rate_in, rate_out).shape[1] // 2
    narrow = min(1.0, rate_out / rate_in)
    taps = signal.firwin(
        2 * half * up + 1,
        narrow * (1 - TRANSITION / 2) / up,
        window=("kaiser", signal.kaiser_beta(STOP_BAND_DB)),
        scale=False,
    )
    return taps * up


@pytest.mark.parametrize("rate", RATES)
def test_equals_scipy(rate: int) -> None:
    divisor = gcd(rate, 16000)
    up, down = 16000 // divisor, rate // divisor
    taps = reference_filter(rate, 16000)
    rng = np.random.default_rng(0)
    wave = rng.uniform(-1, 1, rate // 2).astype(np.float32)
    expected = signal.resample_poly(wave.astype(np.float64), up, down, window=taps / up)
    mine = resample(wave, rate, 16000)
    assert len(mine) == len(expected) == -(-len(wave) * 16000 // rate)
    # Each phase is normalised to sum 1 here: 1e-4 of the signal is the pass-band ripple of 80 dB.
    np.testing.assert_allclose(mine, expected, atol=5e-4)


@pytest.mark.parametrize("rate", RATES)
def test_stop_band(rate: int) -> None:
    table = design_filter(rate, 16000).astype(np.float64)
    up = table.shape[0]
    # The prototype at L times the input's rate: tap k of phase p lies at (k - K / 2 + 1) - p / L samples.
    order = np.argsort((np.arange(table.shape[1])[None, :] - np.arange(up)[:, None] / up).ravel())
    prototype = table.ravel()[order]
    frequencies, response = signal.freqz(prototype / up, worN=1 << 19, fs=rate * up)
    level_db = 20 * np.log10(np.abs(response) + 1e-12)
    edge = min(rate, 16000) / 2
    assert level_db[frequencies >= edge * 1.001].max() <= -60.0
    passed = level_db[frequencies <= edge * (1 - TRANSITION) * 0.999]
    assert np.abs(passed).max() < 0.01


@pytest.mark.parametrize("rate", [44100, 48000])
def test_what_would_alias_is_gone(rate: int) -> None:
    times = np.arange(rate) / rate
    # 8.2 to 20 kHz would come back as 7.8 kHz and below.
    for hz in (8200, 9000, 12000, 20000):
        wave = np.sin(2 * np.pi * hz * times).astype(np.float32)
        middle = resample(wave, rate, 16000)[800:-800]
        assert 20 * np.log10(np.sqrt(2) * middle.std()) <= -60.0


@pytest.mark.parametrize("rate", [*RATES, 16000, 44099])
def test_pieces_equal_one_pass(rate: int) -> None:
    rng = np.random.default_rng(rate)
    wave = rng.uniform(-1, 1, rate).astype(np.float32)
    whole = resample(wave, rate, 16000)
    resampler = Resampler(rate, 16000)
    parts, start = [], 0
    while start < len(wave):
        size = int(rng.integers(1, 2000))
        parts.append(resampler.push(wave[start : start + size]))
        start += size
    parts.append(resampler.flush(len(wave)))
    # The order of additions differs: a few units of float32.
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=3e-6)


def test_equal_rates_change_nothing() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    np.testing.assert_array_equal(resample(wave, 16000, 16000), wave)


def test_a_tone_keeps_its_time() -> None:
    for rate in RATES:
        wave = np.sin(2 * np.pi * 500 * np.arange(rate) / rate).astype(np.float32)
        expected = np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
        np.testing.assert_allclose(resample(wave, rate, 16000)[500:-500], expected[500:-500], atol=2e-4)


def test_stored_golden() -> None:
    golden = json.loads((GOLDEN / "resample.json").read_text(encoding="utf-8"))
    for case in golden["cases"]:
        made = resample(np.array(case["samples"], np.float32), case["rate_in"], case["rate_out"])
        np.testing.assert_allclose(made, case["resampled"], atol=golden["tolerance"])
