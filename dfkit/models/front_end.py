"""MFCC as matrix products, so that the same module trains, exports to TFLite and exports to ONNX.

`torch.fft` does not lower to TFLite (complex tensors), and a plain DFT matrix of 2,048 points would weigh
17 MB. The DFT is split in two stages (Cooley and Tukey 1965): with N = N1 N2, n = N2 n1 + n2 and
k = k1 + N1 k2,

    X[k] = sum_n2 W_N2^(n2 k2) * ( W_N^(n2 k1) * sum_n1 x[n] W_N1^(n1 k1) ).

The mel filters are triangles, so each run of neighbouring bins reaches few bands: the filter bank is kept
as a row of small dense blocks (80 kB) instead of one matrix of 557 kB.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from dfkit.clip import AudioSpec
from dfkit.errors import ShapeError
from dfkit.mel import dct_matrix, hann_window, mel_filters

STAGE_ONE = 64
MEL_BLOCKS = 8


class Constants(nn.Module):
    """Base of modules whose matrices are fixed: buffers that follow the device and are in no checkpoint."""

    def _constant(self, name: str, value: np.ndarray) -> None:
        # Not persistent: a checkpoint holds what was learnt, the spec says the rest.
        self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)


class MelBank(Constants):
    """The mel filters, as a row of small dense blocks."""

    def __init__(self, spec: AudioSpec, num_bins: int) -> None:
        """Cuts the filter bank into blocks of neighbouring bins.

        Args:
            spec: Sound front end.
            num_bins: Bins of the power spectrum; those above Nyquist get no weight.
        """
        super().__init__()
        self.n_mels = spec.n_mels
        self.ranges: list[tuple[int, int, int, int]] = []
        """Of each block: first bin, end, first band, end."""
        filters = np.zeros((num_bins, spec.n_mels))
        filters[: spec.n_fft // 2 + 1] = mel_filters(spec)
        edges = np.linspace(0, spec.n_fft // 2 + 1, MEL_BLOCKS + 1).astype(int)
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            bands = np.flatnonzero(filters[start:end].any(axis=0))
            first, last = int(bands[0]), int(bands[-1]) + 1
            self._constant(f"block_{number}", filters[start:end, first:last])
            self.ranges.append((int(start), int(end), first, last))

    def forward(self, power: Tensor) -> Tensor:
        """Power per mel band, block by block: (B, T, bins) to (B, T, n_mels)."""
        total: Tensor | None = None
        for number, (start, end, first, last) in enumerate(self.ranges):
            block = power[:, :, start:end] @ self.get_buffer(f"block_{number}")
            block = torch.nn.functional.pad(block, (first, self.n_mels - last))
            total = block if total is None else total + block
        assert total is not None
        return total


class Cepstrum(Constants):
    """The DCT: (B, T, n_mels) decibels to (B, T, n_mfcc)."""

    dct: Tensor

    def __init__(self, spec: AudioSpec) -> None:
        """Prepares the DCT of `spec.n_mels` bands to `spec.n_mfcc` coefficients."""
        super().__init__()
        self._constant("dct", dct_matrix(spec.n_mels, spec.n_mfcc))

    def forward(self, decibel: Tensor) -> Tensor:
        """Decibels to cepstral coefficients: (B, T, n_mels) to (B, T, n_mfcc)."""
        return decibel @ self.dct


class MfccFrontEnd(Constants):
    """PCM of a clip to its MFCC, uncentred; no trainable parameters."""

    window: Tensor
    stage_one: Tensor
    twiddle_real: Tensor
    twiddle_imag: Tensor
    stage_two_real: Tensor
    stage_two_imag: Tensor

    def __init__(self, spec: AudioSpec, num_frames: int) -> None:
        """Prepares the constants.

        Args:
            spec: Sound front end; `centered` must be False, the clip brings real neighbouring sound.
            num_frames: T; the module takes (T - 1) * hop_length + n_fft samples.
        Raises:
            ShapeError: n_fft is not a multiple of 64, or the spec asks for a centred STFT.
        """
        super().__init__()
        if spec.centered or spec.n_fft % (2 * STAGE_ONE):
            raise ShapeError(f"the exported MFCC takes an uncentred STFT with n_fft a multiple of 128, got {spec}")
        self.spec, self.num_frames = spec, num_frames
        self.num_samples = (num_frames - 1) * spec.hop_length + spec.n_fft
        n1, n2 = STAGE_ONE, spec.n_fft // STAGE_ONE
        # Columns k2 up to the Nyquist bin: N1 * columns bins, of which those above Nyquist get no mel weight.
        columns = n2 // 2 + 1
        self._constant("window", hann_window(spec.n_fft))
        angles = -2 * np.pi / n1 * np.outer(np.arange(n1), np.arange(n1))
        self._constant("stage_one", np.concatenate([np.cos(angles), np.sin(angles)], axis=1))
        angles = -2 * np.pi / spec.n_fft * np.outer(np.arange(n2), np.arange(n1))
        self._constant("twiddle_real", np.cos(angles))
        self._constant("twiddle_imag", np.sin(angles))
        angles = -2 * np.pi / n2 * np.outer(np.arange(n2), np.arange(columns))
        self._constant("stage_two_real", np.concatenate([np.cos(angles), np.sin(angles)], axis=1))
        self._constant("stage_two_imag", np.concatenate([-np.sin(angles), np.cos(angles)], axis=1))
        self.columns = columns
        self.mel_bank = MelBank(spec, columns * n1)
        self.cepstrum = Cepstrum(spec)

    def forward(self, waveform: Tensor) -> Tensor:
        """MFCC of a batch of clips.

        Args:
            waveform: (B, num_samples) float32 in [-1, 1].
        Returns:
            (B, T, n_mfcc) float32.
        Raises:
            ShapeError: Another number of samples.
        """
        if waveform.shape[-1] != self.num_samples:
            raise ShapeError(f"a clip has {self.num_samples} samples, got {tuple(waveform.shape)}")
        return self.coefficients(waveform)

    def coefficients(self, waveform: Tensor) -> Tensor:
        """MFCC without the check of the length: (B, num_samples) float32 to (B, T, n_mfcc)."""
        power = self.power_spectrum(self.stft_frames(waveform) * self.window)
        mel = self.mel_bank(power)
        decibel = 10.0 / math.log(10.0) * torch.log(torch.clamp(mel, min=self.spec.amin))
        loudest = decibel.amax(dim=(1, 2), keepdim=True)
        return self.cepstrum(torch.maximum(decibel, loudest - self.spec.top_db))

    def stft_frames(self, waveform: Tensor) -> Tensor:
        """Overlapping windows by whole rows of hop_length samples: (B, num_samples) to (B, T, n_fft)."""
        hop, steps = self.spec.hop_length, self.num_frames
        rows_per_frame = -(-self.spec.n_fft // hop)
        num_rows = steps - 1 + rows_per_frame
        padding = num_rows * hop - self.num_samples
        rows = torch.nn.functional.pad(waveform, (0, padding)).view(-1, num_rows, hop)
        parts = [rows[:, shift : shift + steps] for shift in range(rows_per_frame)]
        return torch.cat(parts, dim=-1)[:, :, : self.spec.n_fft]

    def power_spectrum(self, windowed: Tensor) -> Tensor:
        """|DFT|^2 of real windows: (B, T, n_fft) to (B, T, columns * 64), bin k at place k."""
        n1 = STAGE_ONE
        batch, steps, n_fft = windowed.shape
        # (.., n1, n2) -> (.., n2, n1): the first stage sums over n1.
        x = windowed.reshape(batch * steps, n1, n_fft // n1).transpose(1, 2)
        first = x @ self.stage_one
        real, imag = first[..., :n1], first[..., n1:]
        turned_real = real * self.twiddle_real - imag * self.twiddle_imag
        turned_imag = real * self.twiddle_imag + imag * self.twiddle_real
        # The second stage sums over n2: (.., n2, k1) -> (.., k1, n2) @ (n2, k2).
        second = turned_real.transpose(1, 2) @ self.stage_two_real + turned_imag.transpose(1, 2) @ self.stage_two_imag
        power = second[..., : self.columns].square() + second[..., self.columns :].square()
        # k = k1 + 64 k2: (.., k1, k2) -> (.., k2, k1) and flat.
        return power.transpose(1, 2).reshape(batch, steps, n1 * self.columns)
