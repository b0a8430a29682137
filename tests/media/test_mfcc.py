"""MFCC against librosa, live and stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dfkit.clip import CLIP2S, UNIFORM50, AudioSpec
from dfkit.errors import ShapeError
from dfkit.media.mfcc import mfcc

GOLDEN = Path(__file__).parents[1] / "golden" / "media"


def signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    times = np.arange(33408) / 16000
    return {
        "noise": rng.normal(0, 0.1, 33408).astype(np.float32),
        "chirp": (0.5 * np.sin(2 * np.pi * (100 + 1500 * times) * times)).astype(np.float32),
        "silence": np.zeros(33408, np.float32),
        "click": np.eye(1, 33408, 20000, dtype=np.float32)[0],
        "loud-then-silent": np.where(times < 1, rng.uniform(-1, 1, 33408), 0).astype(np.float32),
    }


@pytest.mark.parametrize("spec", [CLIP2S.audio, UNIFORM50.audio], ids=["uncentred-640", "centred-512"])
@pytest.mark.parametrize("name", list(signals()))
def test_equals_librosa(spec: AudioSpec, name: str) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is in the extra 'train'")
    wave = signals()[name]
    expected = librosa.feature.mfcc(
        y=wave,
        sr=16000,
        n_mfcc=40,
        n_fft=2048,
        hop_length=spec.hop_length,
        center=spec.centered,
    ).T
    mine = mfcc(wave, spec)
    assert mine.shape == expected.shape
    assert mine.dtype == np.float32
    # librosa works in float32: at the -100 dB floor its spectra differ by 1e-4 of values up to 1,000.
    np.testing.assert_allclose(mine, expected, atol=2e-2 if name == "click" else 5e-3)


def test_stored_golden() -> None:
    for case in json.loads((GOLDEN / "mfcc.json").read_text(encoding="utf-8"))["cases"]:
        spec = AudioSpec(hop_length=case["hop_length"], centered=case["centered"])
        samples = np.array(case["samples"], np.float32)
        np.testing.assert_allclose(mfcc(samples, spec), np.array(case["mfcc"]), atol=5e-3)


def test_a_clip_has_fifty_columns() -> None:
    assert mfcc(np.zeros(CLIP2S.num_samples, np.float32), CLIP2S.audio).shape == (50, 40)


@pytest.mark.parametrize("shape", [(2047,), (2, 4000), (0,)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        mfcc(np.zeros(shape, np.float32), CLIP2S.audio)
