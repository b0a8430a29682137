"""From Y, U, V to RGB: matrices, ranges, and what is done with pictures of high dynamic range."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

HD_LINES = 720
"""Untagged pictures are BT.709 from this many coded lines on, else BT.601."""
BT601, BT709, FCC, SMPTE240M, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.30, 0.11), (0.212, 0.087), (0.2627, 0.0593)
"""Shares of red and of blue in luma."""
MATRICES = {1: BT709, 4: FCC, 5: BT601, 6: BT601, 7: SMPTE240M, 9: BT2020, 10: BT2020}
"""By the number of H.273 that a stream carries."""
FIXED_POINT = 1024
"""Units of a coefficient of the matrix for 8-bit samples."""
Transfer = Literal["sdr", "pq", "hlg"]
TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""High dynamic range by the number of H.273; all else is shown as it is."""
HLG_WHITE = 0.1468
"""Scene light that becomes SDR's white, of HLG's full scale: 100 cd/m2 on a display of 1,000 (BT.2100, gamma 1.2)."""
PQ_WHITE = 0.01
"""Display light that becomes SDR's white, of PQ's 10,000 cd/m2."""
KNEE = 0.9
"""Linear light from which on what is brighter is compressed, as a share of SDR's white, which nothing exceeds."""
GAMMAS: dict[Transfer, float] = {"hlg": 2.4 / 1.2, "pq": 2.4}
"""Light is SDR's signal to this power. Displays show SDR with a gamma of 2.4 (BT.1886), and HLG's scene with one of 1.2
(BT.2100): the same grey is shown where scene light is the signal squared."""
# Colours of BT.2020 in those of BT.709 and of SMPTE 170M, both white points D65.
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
TO_SMPTE170M = np.array([[1.7763, -0.6878, -0.0885], [-0.1614, 1.1874, -0.0258], [-0.0160, -0.0959, 1.1119]])


def choose_matrix(tag: int, height: int) -> tuple[float, float]:
    """The YUV matrix of a picture.

    Args:
        tag: Matrix number of the stream (ITU-T H.273); 2 is unspecified.
        height: Coded lines, before any rotation.
    Returns:
        Shares of red and of blue in luma.
    """
    return MATRICES.get(tag, BT709 if height >= HD_LINES else BT601)


@lru_cache(maxsize=16)
def rgb_matrix(shares: tuple[float, float], *, full: bool, bits: int) -> np.ndarray:
    """From Y, U, V to R, G, B of 0 to 255.

    Args:
        shares: Of red and of blue in luma.
        full: Whether Y spans all values, else 16 to 235 of 8 bits.
        bits: Of a sample.
    Returns:
        (3, 4) float32, for (Y, U, V, 1); of 8 bits in whole 1 / 1024, with which OpenCV calculates, so that it does not
        depend on the processor whether it does.
    Source: ITU-T H.273, equations 20 to 40.
    """
    red, blue = shares
    unit = 1 << (bits - 8)
    black, white, chroma = (0, 256 * unit - 1, 256 * unit - 1) if full else (16 * unit, 219 * unit, 224 * unit)
    luma, colour = 255 / white, 255 / chroma
    v_to_r, u_to_b = 2 * (1 - red) * colour, 2 * (1 - blue) * colour
    green = 1 - red - blue
    rows = np.array(
        [[luma, 0, v_to_r], [luma, -blue / green * u_to_b, -red / green * v_to_r], [luma, u_to_b, 0]], np.float64
    )
    offset = -rows @ np.array([black, 128 * unit, 128 * unit])
    matrix = np.concatenate([rows, offset[:, None]], axis=1)
    matrix = (np.rint(matrix * FIXED_POINT) / FIXED_POINT if bits == 8 else matrix).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def to_rgb(yuv: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Converts (H, W, 3) uint8 or float32 of Y, U, V to (H, W, 3) of the same type, R, G, B of 0 to 255, rounded and
    clipped where it is uint8."""
    return np.asarray(cv2.transform(yuv, matrix))


def tone_map(rgb: np.ndarray, transfer: Transfer, *, height: int) -> np.ndarray:
    """From high dynamic range in the colours of BT.2020 to the picture of ordinary range that displays show alike.

    Args:
        rgb: (H, W, 3) float32, 0 to 255, not linear.
        transfer: `pq` or `hlg`.
        height: Coded lines: which colours the training data of that size have.
    Returns:
        (H, W, 3) uint8.
    Source: ITU-R BT.2100, tables 4 and 5; BT.1886; BT.2408, section 5.1.
    """
    signal = np.clip(rgb / np.float32(255), 0, 1)
    light = pq_light(signal) / PQ_WHITE if transfer == "pq" else hlg_light(signal) / HLG_WHITE
    light = np.maximum(light @ (TO_BT709 if height >= HD_LINES else TO_SMPTE170M).T, 0)
    # The brightest of the three is compressed, the others with it: colours keep their hue.
    peak = light.max(axis=2, keepdims=True)
    over = (np.maximum(peak, KNEE) - KNEE) / (1 - KNEE)
    bounded = np.where(peak > KNEE, KNEE + (1 - KNEE) * (1 - np.exp(-over)), peak)
    light = light * (bounded / np.maximum(peak, 1e-6))
    return np.rint(np.power(np.clip(light, 0, 1), 1 / GAMMAS[transfer]) * 255).astype(np.uint8)


def hlg_light(signal: np.ndarray) -> np.ndarray:
    """Scene light of HLG: any shape in [0, 1] to float in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def pq_light(signal: np.ndarray) -> np.ndarray:
    """Display light of PQ: any shape in [0, 1] to float in [0, 1] of 10,000 cd/m2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = np.power(signal, 1 / m2)
    return np.power(np.maximum(power - c1, 0) / (c2 - c3 * power), 1 / m1)
