"""A decoded picture whose parts are converted to RGB when they are asked for.

A decoder gives planes of Y, U and V. What a network sees of them is a square of a few hundred pixels, so each plane is
sampled first, and only the samples are converted. Sampling also does what a player does with the whole picture:
stretching pixels that are not square, turning and mirroring.

Index i is the middle of pixel i; a plane of half the size has its pixels where its picture says, so that its index is
(i + 0.5) / 2 - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from dfkit.media.color import TRANSFERS, Transfer, choose_matrix, rgb_matrix, to_rgb, tone_map
from dfkit.media.geometry import Geometry, make_geometry, read_turn

AVERAGE_FROM = 2
"""Pixels of a plane per pixel of the result from which on blocks are averaged first."""
PLANAR_BITS = {
    **dict.fromkeys(("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p"), 8),
    **dict.fromkeys(("yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p"), 8),
    **dict.fromkeys(("yuv420p10le", "yuv422p10le", "yuv444p10le"), 10),
    **dict.fromkeys(("yuv420p12le", "yuv422p12le", "yuv444p12le"), 12),
}
"""Pixel formats whose planes are sampled as they are, and bits of a sample."""
OTHER_DEEP, OTHER_YUV, OTHER = "yuv444p10le", "yuv444p", "rgb24"
"""What pictures of other formats are converted to first: YUV of more than 8 bits, of 8 bits, and all else."""


Border = int | tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Picture:
    """Planes of a picture and how they are shown."""

    planes: tuple[np.ndarray, ...]
    """Y, U and V, each (H, W) uint8 or uint16; or one of (H, W, 3) uint8 RGB."""
    geometry: Geometry
    matrix: np.ndarray | None = None
    """(3, 4) from Y, U, V to RGB; None for RGB."""
    black: tuple[int, int, int] = (0, 0, 0)
    """Values of black in the planes."""
    luma_range: tuple[int, int] = (0, 255)
    """Values of black and white in Y."""
    transfer: Transfer = "sdr"
    segment: int = 0
    """Which of a file's joined recordings it is of; another one is another scene."""

    @property
    def width(self) -> int:
        """As shown."""
        return self.geometry.shown[0]

    @property
    def height(self) -> int:
        """As shown."""
        return self.geometry.shown[1]

    def sample(self, matrix: np.ndarray, out_px: int, *, replicate: bool, average: bool) -> np.ndarray:
        """Samples an affine part of the picture, bilinearly.

        Args:
            matrix: (2, 3) float64, from column and row of the result to x and y in the shown picture, as indices.
            out_px: Side of the result.
            replicate: Whether the picture's edge goes on outside of it; else black.
            average: Whether blocks of pixels are averaged first where the result is much smaller; of an upright part
                only.
        Returns:
            (out_px, out_px, 3) uint8 RGB.
        """
        parts = [
            self._sample_plane(plane, matrix, out_px, border=None if replicate else black, average=average)
            for plane, black in zip(self.planes, self._borders(), strict=True)
        ]
        return self._to_rgb(parts)

    def _sample_plane(
        self, plane: np.ndarray, matrix: np.ndarray, out_px: int, *, border: Border | None, average: bool
    ) -> np.ndarray:
        placed = place_in_plane(matrix, self.geometry, plane.shape[1::-1])
        if average:
            return warp(*average_blocks(plane, placed, out_px), out_px, border=border)
        return warp(plane, placed, out_px, border=border)

    def luma(self, columns: np.ndarray, rows: np.ndarray, weights: tuple[int, int, int]) -> np.ndarray:
        """Luma of single pixels.

        Args:
            columns: (N,) indices in the shown picture.
            rows: (M,) likewise.
            weights: Of R, G and B in 1 / 256, for a picture of RGB.
        Returns:
            (M, N) uint8, full range; of YUV it is Y.
        """
        plane = self.planes[0]
        x, y = _coded_places(self.geometry, columns.tobytes(), rows.tobytes())
        values = plane[y, x]
        if self.matrix is None:
            return ((values.astype(np.uint32) @ np.array(weights, np.uint32)) >> 8).astype(np.uint8)
        low, high = self.luma_range
        return np.clip((values.astype(np.float32) - low) * np.float32(255 / (high - low)) + 0.5, 0, 255).astype(
            np.uint8
        )

    def rgb(self) -> np.ndarray:
        """The whole picture as shown, (height, width, 3) uint8, C-contiguous."""
        a, b, c, d = self.geometry.turn
        size = self.geometry.shown[::-1] if self.geometry.is_swapped else self.geometry.shown
        parts = [
            p if p.shape[1::-1] == size else cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in self.planes
        ]
        rgb = self._to_rgb(parts)
        if self.geometry.is_swapped:
            rgb = rgb.transpose(1, 0, 2)
            a, d = c, b
        return np.ascontiguousarray(rgb[:: d or 1, :: a or 1])

    def _borders(self) -> tuple[Border, ...]:
        return self.black if self.matrix is not None else (self.black,)

    def _to_rgb(self, parts: list[np.ndarray]) -> np.ndarray:
        if self.matrix is None:
            return parts[0]
        yuv = cv2.merge(parts)
        if yuv.dtype == np.uint8:
            return to_rgb(yuv, self.matrix)
        values = to_rgb(yuv.astype(np.float32), self.matrix)
        if self.transfer == "sdr":
            return np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return tone_map(values, self.transfer, height=self.geometry.coded[1])


def place_in_plane(matrix: np.ndarray, geometry: Geometry, plane_size: tuple[int, ...]) -> np.ndarray:
    """Takes an affine map onto the shown picture further onto one of its planes.

    Args:
        matrix: (2, 3), from column and row of a result to x and y in the shown picture, as indices.
        geometry: Of the picture.
        plane_size: Width and height of the plane: those of the picture divided by a whole number, rounded up.
    Returns:
        (2, 3) float64, to indices of the plane.
    """
    onto = _onto_plane(geometry, plane_size)
    placed = np.empty((2, 3))
    placed[:, :2] = onto[:, :2] @ matrix[:, :2]
    placed[:, 2] = onto[:, :2] @ (matrix[:, 2] + 0.5) + onto[:, 2] - 0.5
    return placed


@lru_cache(maxsize=32)
def _onto_plane(geometry: Geometry, plane_size: tuple[int, ...]) -> np.ndarray:
    """(2, 3) from a place in the shown picture to one in a plane: the same for every sample of a stream's pictures."""
    return geometry.to_coded / np.array([[round(c / p)] for c, p in zip(geometry.coded, plane_size, strict=True)])


def warp(plane: np.ndarray, matrix: np.ndarray, out_px: int, *, border: Border | None) -> np.ndarray:
    """Samples a plane bilinearly, positions in steps of 1 / 32 pixel.

    Args:
        plane: (H, W) or (H, W, 3).
        matrix: (2, 3), from column and row of the result to indices of the plane.
        out_px: Side of the result.
        border: Value outside of the plane; None lets its edge go on.
    """
    mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(plane, matrix, (out_px, out_px), flags=flags, borderMode=mode, borderValue=border or 0)


def average_blocks(plane: np.ndarray, matrix: np.ndarray, out_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks the part of a plane that a map reaches by whole numbers, so that nothing aliases.

    Args:
        plane: (H, W) or (H, W, 3).
        matrix: (2, 3) from column and row of a result to indices of the plane; by quarter turns only.
        out_px: Side of the result.
    Returns:
        Means of blocks and the map to their indices; both as they were where neither axis shrinks by 2 or more.
    """
    shrink = [int(abs(a) + abs(b)) for a, b in matrix[:, :2]]
    if max(shrink) < AVERAGE_FROM:
        return plane, matrix
    placed = matrix.copy()
    starts, counts = [], []
    for axis, step in enumerate(shrink := [max(step, 1) for step in shrink]):
        reach = (out_px - 1) * matrix[axis, :2]
        first, last = (matrix[axis, 2] + side(reach, 0).sum() for side in (np.minimum, np.maximum))
        # A block more to either side: bilinear needs a neighbour.
        starts.append(int(np.floor(first)) - step)
        counts.append(int(np.ceil((last - starts[-1]) / step)) + 2)
        placed[axis] = matrix[axis] / step
        placed[axis, 2] = (matrix[axis, 2] - starts[-1] + 0.5) / step - 0.5
    region = cut_replicated(plane, starts[0], starts[1], counts[0] * shrink[0], counts[1] * shrink[1])
    # INTER_AREA at a whole ratio is the mean of each block, rounded.
    return cv2.resize(region, (counts[0], counts[1]), interpolation=cv2.INTER_AREA), placed


def cut_replicated(plane: np.ndarray, x0: int, y0: int, width: int, height: int) -> np.ndarray:
    """A part of a plane; where it reaches beyond, the edge goes on."""
    before_x, left, right, after_x = _split_span(x0, width, plane.shape[1])
    before_y, top, bottom, after_y = _split_span(y0, height, plane.shape[0])
    inside = plane[top:bottom, left:right]
    if inside.shape[:2] == (height, width):
        return inside
    return cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)


def _split_span(start: int, length: int, size: int) -> tuple[int, int, int, int]:
    """Pixels missing before, the span inside of the picture (at least one pixel), pixels missing after."""
    first = min(max(start, 0), size - 1)
    last = max(min(start + length, size), first + 1)
    before = min(max(first - start, 0), length - 1)
    return before, first, last, length - before - (last - first)


@lru_cache(maxsize=8)
def _coded_places(geometry: Geometry, columns: bytes, rows: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the coded picture for a grid of shown pixels, each (M, N)."""
    x, y = np.meshgrid(np.frombuffer(columns, np.int64) + 0.5, np.frombuffer(rows, np.int64) + 0.5)
    onto = geometry.to_coded
    column, row = (np.floor(part[0] * x + part[1] * y + part[2]).astype(np.int64) for part in onto)
    width, height = geometry.coded
    return np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)


def picture_of_rgb(rgb: np.ndarray) -> Picture:
    """A picture from (H, W, 3) uint8 RGB, upright, pixels square; not copied."""
    height, width = rgb.shape[:2]
    return Picture((rgb,), Geometry((width, height), (width, height)))


def picture_of_planes(
    planes: tuple[np.ndarray, ...],
    *,
    shares: tuple[float, float],
    full: bool,
    bits: int = 8,
    geometry: Geometry | None = None,
    transfer: Transfer = "sdr",
    segment: int = 0,
) -> Picture:
    """A picture from planes of Y, U and V.

    Args:
        planes: (H, W) each, uint8, or uint16 for more than 8 bits; U and V may be smaller by a whole number.
            Not copied.
        shares: Of red and of blue in luma; see `dfkit.media.color.choose_matrix`.
        full: Whether Y spans all values, else 16 to 235 of 8 bits.
        bits: Of a sample.
        geometry: How it is shown; upright with square pixels where None.
        transfer: Of the light.
        segment: Which of a file's joined recordings it is of.
    """
    height, width = planes[0].shape
    unit = 1 << (bits - 8)
    low, high = (0, 256 * unit - 1) if full else (16 * unit, 235 * unit)
    return Picture(
        planes,
        geometry or Geometry((width, height), (width, height)),
        rgb_matrix(shares, full=full, bits=bits),
        (low, 128 * unit, 128 * unit),
        (low, high),
        transfer,
        segment,
    )


def as_picture(value: Picture | np.ndarray) -> Picture:
    """A picture as it is, or one from (H, W, 3) uint8 RGB."""
    return value if isinstance(value, Picture) else picture_of_rgb(value)


class PictureMaker:
    """Makes pictures out of one stream's decoded frames, without copying planes where it can."""

    def __init__(self, *, aspect: Fraction | float | None = None, max_area_px: int | None = None) -> None:
        """Starts without frames.

        Args:
            aspect: Width of a pixel by its height; None is square.
            max_area_px: Larger pictures are divided by a whole number until they fit; None leaves them.
        """
        self._reformatter = VideoReformatter()
        self._aspect, self._max_area_px = aspect, max_area_px
        self._shown: Geometry | None = None
        self.shrink = 1
        """What the sides were divided by, known from the first picture on."""

    def make(self, frame: VideoFrame, *, segment: int = 0) -> Picture:
        """Makes a picture. Later ones of another size are shown at that of the first.

        Args:
            frame: A decoded frame; its planes are kept in use as long as the picture is.
            segment: Which of a file's joined recordings it is of.
        """
        height = frame.height
        if self._shown is None:
            area = frame.width * frame.height
            while self._max_area_px is not None and area > self._max_area_px * self.shrink**2:
                self.shrink += 1
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        shares, transfer = choose_matrix(int(frame.colorspace), height), TRANSFERS.get(int(frame.color_trc), "sdr")
        turn = read_turn(frame)
        frame = self._to_planar(frame, full=full)
        made = make_geometry(frame.width, frame.height, aspect=self._aspect, turn=turn)
        if self._shown is None:
            self._shown = made
        geometry = Geometry(made.coded, self._shown.shown, turn)
        planes = tuple(_plane_values(plane, frame.format.name) for plane in frame.planes)
        if frame.format.name == OTHER:
            return Picture(planes, geometry, segment=segment)
        return picture_of_planes(
            planes,
            shares=shares,
            full=full,
            bits=PLANAR_BITS[frame.format.name],
            geometry=geometry,
            transfer=transfer,
            segment=segment,
        )

    def _to_planar(self, frame: VideoFrame, *, full: bool) -> VideoFrame:
        """The frame in a format whose planes can be sampled, divided by `shrink`."""
        name = frame.format.name
        if name not in PLANAR_BITS:
            is_rgb = frame.format.is_rgb or frame.format.name.startswith(("pal", "gray", "mono", "ya"))
            deep = any(component.bits > 8 for component in frame.format.components)
            name = OTHER if is_rgb else OTHER_DEEP if deep else OTHER_YUV
        if name == frame.format.name and self.shrink == 1:
            return frame
        same = ColorRange.JPEG if full else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            width=frame.width // self.shrink,
            height=frame.height // self.shrink,
            format=name,
            src_color_range=same,
            dst_color_range=ColorRange.JPEG if name == OTHER else same,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )


def _plane_values(plane: VideoPlane, name: str) -> np.ndarray:
    """A plane's samples without its padding, as a view."""
    channels = 3 if name == OTHER else 1
    kind = np.dtype("<u2" if PLANAR_BITS.get(name, 8) > 8 else np.uint8)
    rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    values = rows[: plane.height, : plane.width * channels]
    return values.reshape(plane.height, plane.width, 3) if channels == 3 else values
