"""Polyphase FIR resampling whose coefficients follow from the two sample rates alone.

With L / M = out / in in lowest terms, output n is the sum over k of h[n M mod L + k L] x[n M div L - k]: the
signal raised to L times its rate, low-passed by h, every M-th value kept. h is a Kaiser-windowed sinc.
Source: Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3; Kaiser's window design.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

import numpy as np

STOP_BAND_DB = 80.0
"""Attenuation the window is designed for."""
TRANSITION = 0.1
"""Width of the transition band as a share of the lower of the two Nyquist frequencies, which it ends at."""
KAISER_BETA = (0.1102, 8.7)
"""beta = a (attenuation - b) of Kaiser's window, for attenuations above 50 dB."""
KAISER_LENGTH = (8.0, 2.285)
"""Taps = (attenuation - a) / (b x transition in radians per sample)."""
LARGEST_UP = 1000
"""Rates whose L is larger are resampled sample by sample, at a tenth of the speed."""
BLAS_QUIET = 200_000
"""Multiplications of a matrix product up to which OpenBLAS stays on one thread (it splits above 262,144)."""
MAX_RATE = 384_000
"""Highest sample rate that is read, Hz."""


@lru_cache(maxsize=8)
def design_filter(rate_in: int, rate_out: int) -> np.ndarray:
    """Coefficients as a table of phases.

    Args:
        rate_in: Hz.
        rate_out: Hz.
    Returns:
        (L, K) float32, K odd or even as needed; entry [p, k] weighs x[i + k - K // 2 + 1] for phase p, where
        the output lies p / L of a sample after x[i]. Each phase sums to 1.
    """
    up = rate_out // gcd(rate_in, rate_out)
    narrow = min(1.0, rate_out / rate_in)
    beta = KAISER_BETA[0] * (STOP_BAND_DB - KAISER_BETA[1])
    taps = (STOP_BAND_DB - KAISER_LENGTH[0]) / (KAISER_LENGTH[1] * np.pi * TRANSITION * narrow)
    half = ceil(taps / 2)
    cutoff = narrow * (1.0 - TRANSITION / 2)
    distance = np.arange(-half + 1, half + 1)[None, :] - np.arange(up)[:, None] / up
    window = np.i0(beta * np.sqrt(np.maximum(0.0, 1.0 - (distance / half) ** 2)))
    table = np.sinc(distance * cutoff) * window
    table = (table / table.sum(axis=1, keepdims=True)).astype(np.float32)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=8)
def _block_matrix(rate_in: int, rate_out: int) -> tuple[np.ndarray, int]:
    """The filter as one matrix: (inputs, outputs) float32, and the inputs that it advances by.

    A block of L (or a multiple of L) outputs repeats exactly, M (or as many times M) inputs later, so that a
    whole signal is one matrix product. Rates with a large L would need a large matrix; they get one row a time.
    """
    divisor = gcd(rate_in, rate_out)
    up, down = rate_out // divisor, rate_in // divisor
    table = design_filter(rate_in, rate_out)
    repeats = ceil(64 / up)
    outputs, advance = up * repeats, down * repeats
    matrix = np.zeros((advance + table.shape[1], outputs), np.float32)
    for output in range(outputs):
        start = output * down // up
        matrix[start : start + table.shape[1], output] = table[output * down % up]
    matrix.setflags(write=False)
    return matrix, advance


class Resampler:
    """Resamples a mono signal block by block; the blocks' sizes do not change the result."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """Starts at sample 0, with silence before it. Equal rates leave the signal as it is.

        Args:
            rate_in: Hz.
            rate_out: Hz.
        """
        divisor = gcd(rate_in, rate_out)
        self._rates = (rate_in, rate_out)
        self._up, self._down = rate_out // divisor, rate_in // divisor
        self._table = design_filter(rate_in, rate_out)
        self._half = self._table.shape[1] // 2
        self._pending = np.zeros(self._half - 1, np.float32)
        """Inputs from the first one on that the next output needs."""
        self._phase = 0
        """Where the next output lies after the input in the middle of its taps, in 1 / L of a sample."""
        self._num_outputs = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """Takes the next samples.

        Args:
            block: (N,) float32.
        Returns:
            The outputs that are complete by now, float32.
        """
        if self._rates[0] == self._rates[1]:
            return block.astype(np.float32)
        self._pending = np.concatenate([self._pending, block.astype(np.float32, copy=False)])
        if self._up > LARGEST_UP:
            return self._make_rows(self._count_ready())
        matrix, advance = _block_matrix(*self._rates)
        if len(self._pending) < len(matrix):
            return np.zeros(0, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, len(matrix))[::advance]
        # In pieces too small for BLAS to wake its threads, which would then spin on the other workers' cores.
        rows = max(1, BLAS_QUIET // matrix.size)
        # Damage and apps give samples of any size: what overflows is infinite, and no line on a terminal.
        with np.errstate(over="ignore", invalid="ignore"):
            pieces = [windows[i : i + rows] @ matrix for i in range(0, len(windows), rows)]
        outputs = np.concatenate(pieces).reshape(-1)
        self._pending = self._pending[len(windows) * advance :]
        self._num_outputs += len(outputs)
        return outputs

    def flush(self, total: int) -> np.ndarray:
        """Ends the signal with silence.

        Args:
            total: Number of input samples there were.
        Returns:
            The rest of the outputs: ceil(total * L / M) in all.
        """
        if self._rates[0] == self._rates[1]:
            return np.zeros(0, np.float32)
        self._pending = np.concatenate([self._pending, np.zeros(self._half + 1, np.float32)])
        return self._make_rows(-(-total * self._up // self._down) - self._num_outputs)

    def _count_ready(self) -> int:
        spare = len(self._pending) - self._table.shape[1]
        return (spare * self._up - self._phase) // self._down + 1 if spare >= 0 else 0

    def _make_rows(self, count: int) -> np.ndarray:
        if count <= 0:
            return np.zeros(0, np.float32)
        steps = self._phase + np.arange(count + 1, dtype=np.int64) * self._down
        starts, phases = steps // self._up, steps % self._up
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, self._table.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = np.einsum("nk,nk->n", windows[starts[:-1]], self._table[phases[:-1]])
        self._pending = self._pending[starts[-1] :]
        self._phase = int(phases[-1])
        self._num_outputs += count
        return outputs


def resample(waveform: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resamples a whole mono signal.

    Args:
        waveform: (N,) float32.
        rate_in: Hz.
        rate_out: Hz.
    Returns:
        (ceil(N * rate_out / rate_in),) float32; sample 0 stays at time 0.
    """
    resampler = Resampler(rate_in, rate_out)
    return np.concatenate([resampler.push(waveform), resampler.flush(len(waveform))])
