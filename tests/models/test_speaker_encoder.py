"""The front end against librosa's, and the encoder with the package's weights where it is installed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.errors import CheckpointError
from dfkit.forge import ForgeConfig
from dfkit.forge.voices import INSTALL, match_voices
from dfkit.models.speaker_encoder import SpeakerEncoder, load_encoder, mel_pieces, mel_power, packaged_encoder


def test_mel_power_is_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    waveform = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) * 0.1
    expected = librosa.feature.melspectrogram(y=waveform, sr=16_000, n_fft=400, hop_length=160, n_mels=40).T
    # librosa computes in float32.
    np.testing.assert_allclose(mel_power(waveform), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("samples", "pieces"), [(1600, 1), (25_600, 1), (35_000, 2), (16_000 * 12, 15)])
def test_sound_is_cut_into_pieces_of_one_point_six_seconds(samples: int, pieces: int) -> None:
    """By hand: a piece begins every 77 frames (0.77 s), the last one only with 1.2 s of sound."""
    assert mel_pieces(np.full(samples, 0.1, np.float32)).shape == (pieces, 160, 40)


def test_soft_sound_is_raised_and_loud_sound_left() -> None:
    waveform = np.random.default_rng(2).standard_normal(30_000).astype(np.float32)
    at_level, soft = (waveform * 10 ** (level / 20) / waveform.std() for level in (-30, -60))
    np.testing.assert_allclose(mel_pieces(soft), mel_pieces(at_level), rtol=1e-3)
    np.testing.assert_allclose(mel_pieces(10 * at_level), 100 * mel_pieces(at_level), rtol=1e-3)


def test_other_layers_are_refused(tmp_path: Path) -> None:
    torch.save({"model_state": {"linear.weight": torch.zeros(3, 3)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not the layers"):
        load_encoder(tmp_path / "other.pt")
    torch.save({"model_state": SpeakerEncoder().state_dict()}, tmp_path / "right.pt")
    voice = load_encoder(tmp_path / "right.pt").embed(np.random.default_rng(3).standard_normal(40_000))
    assert voice.shape == (256,) and voice.min() >= 0
    assert np.linalg.norm(voice) == pytest.approx(1, abs=1e-5)


@pytest.mark.long
def test_people_sound_like_themselves(shared: Path) -> None:
    """All 42 real clips of both folders, by group; two videos of one group are of one person. Chance: 0.5."""
    if packaged_encoder() is None:
        pytest.skip(f"Resemblyzer is not installed (17 MB): {INSTALL}")
    paths, names = [], []
    for table in (shared / "clips" / "clips.csv", shared / "clips2" / "clips.csv"):
        with table.open(encoding="utf-8") as file:
            real = [row for row in csv.DictReader(file) if row["label"] == "real"]
        paths += [table.parent / row["path"] for row in real]
        names += [row["group"] for row in real]
    likeness = match_voices(paths, ForgeConfig(voice_match="like")).likeness
    assert likeness is not None
    groups = np.array(names)
    upper = np.triu(np.ones(likeness.shape, bool), 1)
    same = likeness[(groups[:, None] == groups) & upper]
    other = likeness[(groups[:, None] != groups) & upper]
    assert len(same) > 5
    assert float(np.mean(same[:, None] > other[None])) > 0.95
