"""MFCC as matrix products, so that the same module trains, exports to TFLite and exports to ONNX.

`torch.fft` does not lower to TFLite (complex tensors), and a plain DFT matrix of 2,048 points would weigh
17 MB. The DFT is split in two stages (Cooley and Tukey 1965): with N = N1 N2, n = N2 n1 + n2 and
k = k1 + N1 k2,

    X[k] = sum_n2 W_N2^(n2 k2) * ( W_N^(n2 k1) * sum_n1 x[n] W_N1^(n1 k1) ).

Sound is real: X[N - k] is the conjugate of X[k], so that k1 = 0 .. N1 / 2 with all k2 gives every bin's power. Columns
k2 stand in the order 0, N2 - 1, 1, N2 - 2, ...: each brings N1 / 2 + 1 neighbouring bins, one behind the other.

The mel filters are triangles, so each run of neighbouring bands reaches few bins: the filter bank is kept
as a row of small dense blocks (64 kB) instead of one matrix of 557 kB.
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
DECIBELS = 10.0 / math.log(10.0)
"""In one unit of a natural logarithm of power."""


class Constants(nn.Module):
    """Base of modules whose matrices are fixed: buffers that follow the device and are in no checkpoint."""

    def _constant(self, name: str, value: np.ndarray) -> None:
        # Not persistent: a checkpoint holds what was learnt, the spec says the rest.
        self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)


class MelBank(Constants):
    """The mel filters, as a row of small dense blocks: a few neighbouring bands each, from the bins that they reach."""

    def __init__(self, spec: AudioSpec, bins: np.ndarray) -> None:
        """Cuts the filter bank into blocks.

        Args:
            spec: Sound front end.
            bins: (places,) the bin at each place of the power spectrum; where one stands twice, the first counts.
        """
        super().__init__()
        filters = np.zeros((len(bins), spec.n_mels))
        places = np.unique(bins, return_index=True)[1]
        filters[places] = mel_filters(spec)[bins[places]]
        self.ranges: list[tuple[int, int]] = []
        """Of each block: first place, end."""
        for number, (first, last) in enumerate(itertools.pairwise(_block_edges(filters))):
            start, end = _reach(filters, first, last)
            self._constant(f"block_{number}", filters[start:end, first:last])
            self.ranges.append((start, end))

    def forward(self, power: Tensor) -> Tensor:
        """Power per mel band, block by block: (B, T, places) to (B, T, n_mels)."""
        blocks = [
            power[:, :, start:end] @ self.get_buffer(f"block_{number}")
            for number, (start, end) in enumerate(self.ranges)
        ]
        return torch.cat(blocks, dim=-1)


def _reach(filters: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The places that the bands `first` to `last` reach: first, end."""
    places = np.flatnonzero(filters[:, first:last].any(axis=1))
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 1)


def _block_edges(filters: np.ndarray) -> list[int]:
    """Edges of `MEL_BLOCKS` blocks (or one a band) of bands, such that the blocks hold the fewest values in all."""
    num_bands = filters.shape[1]
    reach = np.array([_reach(filters, band, band + 1) for band in range(num_bands)])
    values = np.full((num_bands + 1, num_bands + 1), np.inf)
    """Of one block, by first band and end."""
    for first in range(num_bands):
        starts, ends = np.minimum.accumulate(reach[first:, 0]), np.maximum.accumulate(reach[first:, 1])
        values[first, first + 1 :] = (ends - starts) * np.arange(1, num_bands - first + 1)
    least = values[0]
    """Of all blocks so far, by end."""
    came_from = []
    for _ in range(min(MEL_BLOCKS, num_bands) - 1):
        with_one_more = least[:, None] + values
        came_from.append(with_one_more.argmin(axis=0))
        least = with_one_more.min(axis=0)
    edges = [num_bands]
    for firsts in reversed(came_from):
        edges.append(int(firsts[edges[-1]]))
    return [0, *reversed(edges)]


class Cepstrum(Constants):
    """The DCT: (B, T, n_mels) natural logarithms of power to (B, T, n_mfcc) of decibels."""

    dct: Tensor

    def __init__(self, spec: AudioSpec) -> None:
        """Prepares the DCT of `spec.n_mels` bands to `spec.n_mfcc` coefficients."""
        super().__init__()
        self._constant("dct", DECIBELS * dct_matrix(spec.n_mels, spec.n_mfcc))

    def forward(self, level: Tensor) -> Tensor:
        """Levels to cepstral coefficients: (B, T, n_mels) to (B, T, n_mfcc)."""
        return level @ self.dct


class MfccFrontEnd(Constants):
    """PCM of a clip to its MFCC, uncentred; no trainable parameters."""

    window: Tensor
    stage_one: Tensor
    real_by_real: Tensor
    real_by_imag: Tensor
    imag_by_imag: Tensor
    imag_by_real: Tensor
    stage_two: Tensor

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
        n2 = spec.n_fft // STAGE_ONE
        self._constant("window", hann_window(spec.n_fft))
        # 0 and N1 / 2 have no imaginary part. They come last, so that real and imaginary parts are two windows of one
        # product, N1 columns wide: at their places the second one holds real parts, which the twiddles leave out.
        half = STAGE_ONE // 2
        k1 = np.array([*range(1, half), 0, half])
        angles = -2 * np.pi / STAGE_ONE * np.outer(np.arange(STAGE_ONE), k1)
        self._constant("stage_one", np.concatenate([np.sin(angles[:, : half - 1]), np.cos(angles)], axis=1))
        angles = -2 * np.pi / spec.n_fft * np.outer(np.arange(n2), k1)
        has_imag = np.arange(len(k1)) < half - 1
        self._constant("real_by_real", np.cos(angles))
        self._constant("real_by_imag", -np.sin(angles) * has_imag)
        self._constant("imag_by_imag", np.cos(angles) * has_imag)
        self._constant("imag_by_real", np.sin(angles))
        k2 = np.array([column for pair in zip(range(n2 // 2), range(n2 - 1, 0, -1), strict=False) for column in pair])
        angles = -2 * np.pi / n2 * np.outer(np.arange(n2), k2)
        cos, sin = np.cos(angles), np.sin(angles)
        self._constant("stage_two", np.block([[cos, sin], [-sin, cos]]))
        bins = (k1[None, :] + STAGE_ONE * k2[:, None]).ravel()
        self.mel_bank = MelBank(spec, np.minimum(bins, spec.n_fft - bins))
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
        level = torch.log(torch.clamp(mel, min=self.spec.amin))
        loudest = level.amax(dim=(1, 2), keepdim=True)
        return self.cepstrum(torch.maximum(level, loudest - self.spec.top_db / DECIBELS))

    def stft_frames(self, waveform: Tensor) -> Tensor:
        """Overlapping windows by whole rows of hop_length samples: (B, num_samples) to (B, T, n_fft)."""
        hop, steps = self.spec.hop_length, self.num_frames
        rows_per_frame = -(-self.spec.n_fft // hop)
        num_rows = steps - 1 + rows_per_frame
        padding = num_rows * hop - self.num_samples
        rows = torch.nn.functional.pad(waveform, (0, padding)).view(-1, num_rows, hop)
        # The last row of a window may be needed in part.
        widths = [min(hop, self.spec.n_fft - shift * hop) for shift in range(rows_per_frame)]
        parts = [rows[:, shift : shift + steps, :width] for shift, width in enumerate(widths)]
        return torch.cat(parts, dim=-1)

    def power_spectrum(self, windowed: Tensor) -> Tensor:
        """|DFT|^2 of real windows: (B, T, n_fft) to (B, T, places), bins in the order that the mel bank knows."""
        batch, steps, n_fft = windowed.shape
        n2 = n_fft // STAGE_ONE
        # (.., n1, n2) -> (.., n2, n1): the first stage sums over n1.
        x = windowed.reshape(batch * steps, STAGE_ONE, n2).transpose(1, 2)
        first = x @ self.stage_one
        num_imag = STAGE_ONE // 2 - 1
        real, imag = first[..., num_imag:], first[..., : STAGE_ONE - num_imag]
        turned_real = real * self.real_by_real + imag * self.real_by_imag
        turned_imag = imag * self.imag_by_imag + real * self.imag_by_real
        # The second stage sums over real and imaginary parts of n2: (.., 2 n2, k1) -> (.., k1, 2 n2) @ (2 n2, 2 k2).
        second = torch.cat([turned_real, turned_imag], dim=1).transpose(1, 2) @ self.stage_two
        squares = second * second
        power = squares[..., :n2] + squares[..., n2:]
        return power.transpose(1, 2).reshape(batch, steps, -1)
