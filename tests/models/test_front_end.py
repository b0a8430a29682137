"""The MFCC of the graphs against librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.errors import ShapeError
from dfkit.mel import dct_matrix, mel_filters
from dfkit.models.front_end import MfccFrontEnd

AUDIO = CLIP2S.audio


def sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    times_s = np.arange(CLIP2S.num_samples) / AUDIO.sample_rate
    half = rng.standard_normal(CLIP2S.num_samples) * 0.1
    half[:9000] = 0
    return {
        "noise after silence": half,
        "tone": 0.5 * np.sin(2 * np.pi * 220 * times_s),
        "clipping": np.sign(np.sin(2 * np.pi * 180 * times_s)),
        "silence": np.zeros(CLIP2S.num_samples),
    }


@pytest.mark.parametrize("name", sounds())
def test_equals_librosa(name: str) -> None:
    sound = sounds()[name].astype(np.float32)
    expected = librosa.feature.mfcc(
        y=sound.astype(np.float64), sr=16000, n_mfcc=40, n_fft=2048, hop_length=640, center=False
    ).T
    got = MfccFrontEnd(AUDIO, 50)(torch.from_numpy(sound)[None])[0].numpy()
    assert got.shape == (50, 40)
    # Export's own limit: 1e-3 of the largest |MFCC|; a pure tone's empty bands are float32 round-off.
    assert np.abs(got - expected).max() <= 1e-3 * np.abs(expected).max()


def test_filters_equal_librosa() -> None:
    expected = librosa.filters.mel(sr=16000, n_fft=2048, n_mels=128, dtype=np.float64).T
    np.testing.assert_allclose(mel_filters(AUDIO), expected, atol=1e-12)


def test_dct_is_orthonormal() -> None:
    matrix = dct_matrix(128, 128)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(128), atol=1e-12)


def test_is_small_enough_for_a_phone() -> None:
    size = sum(buffer.numel() for buffer in MfccFrontEnd(AUDIO, 50).buffers()) * 4
    assert size < 170_000  # one dense mel matrix alone would be 557 kB


def test_other_lengths_and_centred_sound_are_refused() -> None:
    with pytest.raises(ShapeError, match="33408"):
        MfccFrontEnd(AUDIO, 50)(torch.zeros(1, 32000))
    with pytest.raises(ShapeError, match="uncentred"):
        MfccFrontEnd(UNIFORM50.audio, 50)
