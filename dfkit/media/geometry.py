"""How a decoded picture is shown: pixel aspect ratio, rotation and mirroring, as one affine map."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

MAX_ASPECT = 4.0
"""Pixels that are longer than this, either way, are a lie of the header; DV and anamorphic film reach 2."""
SQUARE_TOLERANCE = 0.005
"""Pixels this close to square are square: headers round."""
UPRIGHT = (1, 0, 0, 1)


@dataclass(frozen=True)
class Geometry:
    """From a coded picture to the one that a player shows; pixels of the latter are square."""

    coded: tuple[int, int]
    """Width and height as decoded."""
    shown: tuple[int, int]
    """Width and height as shown."""
    turn: tuple[int, int, int, int] = UPRIGHT
    """a, b, c, d of the display matrix, each -1, 0 or 1: x' = a x + c y, y' = b x + d y."""

    @property
    def is_swapped(self) -> bool:
        """Whether rows become columns."""
        return self.turn[0] == 0

    @property
    def to_coded(self) -> np.ndarray:
        """(2, 3) float64, from a place in the shown picture to one in the coded; the corner of both is (0, 0)."""
        return _to_coded(self)


@lru_cache(maxsize=32)
def _to_coded(geometry: Geometry) -> np.ndarray:
    a, b, c, d = geometry.turn
    width, height = geometry.shown
    # The inverse of a turn is its transpose; mirrored axes begin at the other end.
    turn = np.array([[a, b], [c, d]], np.float64)
    upright = (height, width) if geometry.is_swapped else (width, height)
    shift = np.array([size if row.sum() < 0 else 0 for row, size in zip(turn, upright, strict=True)], np.float64)
    scale = np.array([coded / size for coded, size in zip(geometry.coded, upright, strict=True)])
    matrix = np.concatenate([turn, shift[:, None]], axis=1) * scale[:, None]
    matrix.setflags(write=False)
    return matrix


def make_geometry(width: int, height: int, *, aspect: Fraction | float | None, turn: tuple[int, ...]) -> Geometry:
    """The geometry of a picture.

    Args:
        width: Coded.
        height: Coded.
        aspect: Width of a pixel by its height; None and nonsense are square.
        turn: As in `Geometry`.
    Returns:
        A geometry that enlarges along the shorter side of a pixel, so that none is lost.
    """
    ratio = float(aspect) if aspect else 1.0
    if not 1 / MAX_ASPECT <= ratio <= MAX_ASPECT or abs(ratio - 1) < SQUARE_TOLERANCE:
        ratio = 1.0
    upright = (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))
    a, b, c, d = turn
    return Geometry((width, height), upright[::-1] if a == 0 else upright, (a, b, c, d))


def read_turn(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Rotation and mirroring that a picture's display matrix asks for, to the nearest quarter turn."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]  # PyAV's stubs know names only
    if data is None:
        return UPRIGHT
    return nearest_turn(np.frombuffer(bytes(data), "<i4")[:5])


def nearest_turn(matrix: np.ndarray) -> tuple[int, int, int, int]:
    """The turn nearest to a display matrix.

    Args:
        matrix: Its first five values at least, in rows of three.
    Returns:
        a, b, c, d; upright where the matrix has no area.
    """
    a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))
    if a * d - b * c == 0:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (_sign(a), 0, 0, _sign(d))
    return (0, _sign(b), _sign(c), 0)


def rotation_deg(turn: tuple[int, int, int, int]) -> int:
    """Counter-clockwise degrees of a turn; of a mirrored one those that come before the mirroring left to right."""
    a, b, c, d = turn
    if a * d - b * c < 0:
        a, c = -a, -c
    return {(1, 0): 0, (0, -1): 90, (-1, 0): 180, (0, 1): 270}[(a, b)]


def _sign(value: float) -> int:
    return -1 if value < 0 else 1
