"""The GE2E speaker encoder: 256 numbers for a voice, whatever it says.

Weights: `resemblyzer/pretrained.pt` in the package Resemblyzer 0.1.4 (Apache License 2.0). Of the package only that
file is read; it is never imported.
Source: Wan et al. 2018, arXiv:1710.10467, and the front end that the weights were trained with: 40 mel bands (power,
no logarithm), windows of 25 ms every 10 ms, pieces of 1.6 s.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.clip import AudioSpec
from dfkit.errors import CheckpointError
from dfkit.mel import hann_window, mel_filters
from dfkit.weights.file import read_checkpoint
from dfkit.weights.packaged import packaged_file

PACKAGE = "resemblyzer"
SAMPLE_RATE = 16_000
N_FFT, HOP_LENGTH, N_MELS = 400, 160, 40
PIECE_FRAMES = 160
PIECE_STEP = 77
"""STFT frames from one piece to the next: 1.3 pieces a second."""
MIN_COVERED = 0.75
"""A last piece that holds less sound than this is left out, unless it is the only one."""
SIZE = 256
LEVEL_DBFS = -30.0
"""Softer sound is raised to this RMS: power without a logarithm depends on the level."""


class SpeakerEncoder(nn.Module):
    """Mel power to a voice's direction: three LSTMs, and the last state of the last one projected."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, SIZE, num_layers=3, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, mels: Tensor) -> Tensor:
        """(B, T, 40) mel power to (B, 256), no value below 0, of length 1."""
        _, (hidden_state, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden_state[-1])), dim=1)

    def embed(self, waveform: np.ndarray) -> np.ndarray:
        """The direction of a voice.

        Args:
            waveform: (N,) float32 at 16 kHz, N > 0, pauses left out.
        Returns:
            (256,) float32 of length 1: the mean over pieces of 1.6 s.
        """
        with torch.inference_mode():
            pieces = self(torch.from_numpy(mel_pieces(waveform))).numpy()
        mean = pieces.mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def mel_pieces(waveform: np.ndarray) -> np.ndarray:
    """Cuts sound into pieces of 1.6 s that overlap by half.

    Args:
        waveform: (N,) float32 at 16 kHz, N > 0.
    Returns:
        (num_pieces, 160, 40) float32 mel power; the last piece may end in silence.
    """
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    raised = waveform * max(1.0, 10 ** (LEVEL_DBFS / 20) / max(rms, 1e-9))
    num_frames = len(raised) // HOP_LENGTH + 1
    starts = list(range(0, max(1, num_frames - PIECE_FRAMES + PIECE_STEP + 1), PIECE_STEP))
    if len(starts) > 1 and len(raised) - starts[-1] * HOP_LENGTH < MIN_COVERED * PIECE_FRAMES * HOP_LENGTH:
        starts.pop()
    power = mel_power(np.pad(raised, (0, max(0, (starts[-1] + PIECE_FRAMES) * HOP_LENGTH - len(raised)))))
    return np.stack([power[start : start + PIECE_FRAMES] for start in starts]).astype(np.float32)


def mel_power(waveform: np.ndarray) -> np.ndarray:
    """Power in 40 Slaney bands, frames centred on multiples of 10 ms, (N // 160 + 1, 40) float64."""
    padded = np.pad(waveform.astype(np.float64), N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    spectrum = np.abs(np.fft.rfft(frames * hann_window(N_FFT), axis=1)) ** 2
    spec = AudioSpec(sample_rate=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=N_MELS)
    return np.asarray(spectrum @ mel_filters(spec))


def packaged_encoder() -> Path | None:
    """The weights inside the package Resemblyzer; None where it is not installed."""
    return packaged_file(PACKAGE, "pretrained.pt")


@lru_cache(maxsize=1)
def load_encoder(path: Path) -> SpeakerEncoder:
    """Reads the weights; no code of the package is run.

    Args:
        path: From `packaged_encoder`.
    Raises:
        CheckpointError: The file is none, or holds other layers.
    """
    stored = read_checkpoint(path).get("model_state", {})
    encoder = SpeakerEncoder()
    # `similarity_weight` and `similarity_bias` belong to the training loss.
    own = {name: value for name, value in stored.items() if name in encoder.state_dict()}
    try:
        encoder.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: not the layers of the GE2E speaker encoder",
            fix="pip install --no-deps --force-reinstall Resemblyzer==0.1.4",
        ) from error
    return encoder.eval()
