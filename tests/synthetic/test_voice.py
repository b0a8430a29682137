from __future__ import annotations

import numpy as np
import pytest

from dfkit.synthetic.voice import LEVEL_DBFS, TRACK_HZ, VoiceSettings, speak

RATE = 16000


def open_stretches(opening: np.ndarray, at_least: float) -> np.ndarray:
    return np.flatnonzero(opening > at_least)


@pytest.mark.parametrize("pitch_hz", [100.0, 220.0])
def test_the_pitch_is_the_speakers(pitch_hz: float) -> None:
    speech = speak(VoiceSettings(pitch_hz=pitch_hz), seconds=4.0, sample_rate=RATE, seed=3)
    found = []
    for moment in open_stretches(speech.opening, 0.5)[::40]:
        start = round(moment / TRACK_HZ * RATE)
        piece = speech.waveform[start : start + 800].astype(float)
        if len(piece) < 800:
            continue
        spectrum = np.abs(np.fft.rfft(piece, 4096)) ** 2
        autocorrelation = np.fft.irfft(spectrum)
        lags = np.arange(round(RATE / 350), round(RATE / 60))
        found.append(RATE / lags[np.argmax(autocorrelation[lags])])
    # The melody moves by about a tenth; the median over many vowels by less.
    assert np.median(found) == pytest.approx(pitch_hz, rel=0.15)


def test_an_open_vowel_has_its_first_formant_where_peterson_and_barney_measured_it() -> None:
    """ "a" of men: F1 730, F2 1090 Hz (1952, table II); only "a" opens the mouth by more than 0.9 here."""
    speech = speak(VoiceSettings(pitch_hz=90), seconds=8.0, sample_rate=RATE, seed=5)
    power = np.zeros(513)
    for moment in open_stretches(speech.opening, 0.93):
        start = round(moment / TRACK_HZ * RATE)
        piece = speech.waveform[start : start + 512]
        if len(piece) == 512:
            power += np.abs(np.fft.rfft(piece * np.hanning(512), 1024)) ** 2
    hertz = np.fft.rfftfreq(1024, 1 / RATE)
    peak = hertz[np.argmax(np.where((hertz > 400) & (hertz < 1500), power, 0))]
    # Harmonics are 90 Hz apart: the strongest lies within one of the formant.
    assert peak == pytest.approx(730, abs=100)


def test_closed_lips_are_quiet_and_the_level_is_kept() -> None:
    speech = speak(VoiceSettings(), seconds=4.0, sample_rate=RATE, seed=1)
    level = 10 * np.log10(np.mean(speech.waveform.astype(float) ** 2))
    assert level == pytest.approx(LEVEL_DBFS, abs=0.1)
    opening, _ = speech.at(np.arange(100) / 25)
    loud = np.array([np.std(speech.waveform[i * 640 : i * 640 + 640]) for i in range(100)])
    assert loud[opening > 0.5].mean() > 4 * loud[opening < 0.02].mean()
    assert np.all(speech.waveform[1000:] != 0), "no recording is exactly silent"
    assert np.abs(speech.waveform).max() <= 0.9
