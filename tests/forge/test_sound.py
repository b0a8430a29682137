from __future__ import annotations

import numpy as np
import pytest

from dfkit.forge import sound
from dfkit.forge.sound import Span
from dfkit.synthetic.voice import VoiceSettings, speak

RATE = 16000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return speak(VoiceSettings(pitch_hz=130), seconds=3.0, sample_rate=RATE, seed=2).waveform


@pytest.fixture(scope="module")
def other() -> np.ndarray:
    return speak(VoiceSettings(pitch_hz=210, formant_scale=1.15), seconds=2.0, sample_rate=RATE, seed=9).waveform


def best_shift(a: np.ndarray, b: np.ndarray) -> int:
    """The circular shift of `a` that is most like `b`, samples."""
    product = np.fft.irfft(np.fft.rfft(b) * np.conj(np.fft.rfft(a)), len(a))
    shift = int(np.argmax(product))
    return shift if shift <= len(a) // 2 else shift - len(a)


@pytest.mark.parametrize("shift", [-14000, -3200, 3200, 16000])
def test_a_shift_is_recovered_and_wraps_around(speech: np.ndarray, shift: int) -> None:
    moved = sound.shift_sound(speech, shift, Span(0, len(speech)))
    assert best_shift(speech, moved) == shift
    # Only the 20 ms seam differs from a pure rotation; nothing is filled in.
    different = np.flatnonzero(moved != np.roll(speech, shift))
    assert 0 < len(different) <= 320
    assert np.count_nonzero(moved == 0) <= np.count_nonzero(speech == 0)


def test_a_part_is_shifted_to_where_it_is_about_as_loud(speech: np.ndarray) -> None:
    span = Span(12800, 28800)
    quiet = speech.copy()
    quiet[:8000] *= 0.01
    # Later by half a second brings the quiet beginning into the stretch; earlier does not.
    assert sound.level_shift(quiet, [8000, 12000, -4000], span) == -4000


def test_the_seam_does_not_click(speech: np.ndarray) -> None:
    moved = sound.shift_sound(speech, 5000, Span(0, len(speech)))
    steps = np.abs(np.diff(moved))
    # No step at the seam is larger than speech itself makes.
    assert steps[4700:5300].max() <= np.abs(np.diff(speech)).max()


def test_only_the_stretch_changes(speech: np.ndarray, other: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    span = Span(12800, 28800)
    made = [
        sound.shift_sound(speech, 4000, span),
        sound.swap_sound(speech, other, span, offset=100),
        sound.resynthesise(speech, span, sample_rate=RATE, rng=rng)[0],
        sound.retime_sound(speech, span, sample_rate=RATE, sign=1, rng=rng)[0],
    ]
    for waveform in made:
        assert waveform.dtype == np.float32
        assert len(waveform) == len(speech)
        changed = np.flatnonzero(waveform != speech)
        assert changed[0] >= span.start
        assert changed[-1] < span.end
        blocks = (waveform - speech)[span.start : span.end].reshape(-1, 640)
        assert np.all(np.abs(blocks).max(axis=1) > 0), "every frame of the stretch is changed"


def test_a_part_is_as_loud_as_what_it_replaces(speech: np.ndarray, other: np.ndarray) -> None:
    span = Span(12800, 28800)
    made = sound.swap_sound(speech, 0.3 * other, span, offset=0)
    before, after = speech[span.start : span.end], made[span.start : span.end]
    # The blended edges take 20 ms of a second each: a few tenths of a dB.
    assert 20 * np.log10(np.std(after) / np.std(before)) == pytest.approx(0, abs=0.5)


def test_a_short_donor_is_repeated_not_padded(speech: np.ndarray, other: np.ndarray) -> None:
    made = sound.swap_sound(speech, other, Span(0, len(speech)), offset=0)
    blocks = made[: len(made) // 1600 * 1600].reshape(-1, 1600)
    assert np.all(np.abs(blocks).max(axis=1) > 0)


def test_griffin_lim_keeps_the_words_and_not_the_wave(speech: np.ndarray) -> None:
    made, vocoder = sound.resynthesise(speech, Span(0, len(speech)), sample_rate=RATE, rng=np.random.default_rng(1))
    assert vocoder in ("griffin_lim", "world")

    def spectrum(waveform: np.ndarray) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::256] * np.hanning(512)
        return np.log(np.abs(np.fft.rfft(frames, axis=1)) + 1e-2)

    likeness = np.corrcoef(spectrum(speech).ravel(), spectrum(made).ravel())[0, 1]
    assert likeness > 0.8, "the same sounds at the same times"
    # The phase is invented: sample by sample little is left.
    assert abs(np.corrcoef(speech, made)[0, 1]) < 0.5


def test_retiming_displaces_words_and_catches_up(speech: np.ndarray) -> None:
    span = Span(4800, 38400)
    made, depth_s = sound.retime_sound(speech, span, sample_rate=RATE, sign=1, rng=np.random.default_rng(4))
    assert 0.05 < depth_s <= sound.RETIME_S[1]
    reach, size = round(0.35 * RATE), round(0.12 * RATE)
    lags = []
    for middle in range(span.start + reach, span.end - reach, 1600):
        piece = made[middle - size : middle + size]
        region = speech[middle - size - reach : middle + size + reach]
        norm = np.sqrt(np.convolve(region**2, np.ones(2 * size), mode="valid")) + 1e-9
        lags.append((reach - int(np.argmax(np.correlate(region, piece, mode="valid") / norm))) / RATE)
    # The largest displacement that is heard is the one that was drawn, within a grain.
    assert max(np.abs(lags)) == pytest.approx(depth_s, abs=0.05)


def test_the_level_is_reached_even_where_peaks_are_held() -> None:
    rng = np.random.default_rng(0)
    waveform = (rng.standard_normal(RATE) * 0.01).astype(np.float32)
    waveform[::4000] = 0.9
    out = sound.level_to(waveform, -20.0)
    assert 10 * np.log10(np.mean(out.astype(float) ** 2)) == pytest.approx(-20, abs=0.1)
    assert np.abs(out).max() <= 1


def test_the_pause_at_the_start_stays() -> None:
    rng = np.random.default_rng(0)
    waveform = np.concatenate([rng.normal(0, 1e-5, 4000), rng.normal(0, 0.1, 28000), rng.normal(0, 1e-5, 8000)])
    span = sound.without_lead(waveform.astype(np.float32), sample_rate=RATE, level_dbfs=-26)
    assert span == Span(4000, 40000)
    # A shift by which the pause at the end would come first is passed over.
    assert sound.loud_shift(waveform, [4000, -6000], span, sample_rate=RATE) == -6000
