"""From a decoded picture to RGB, as its colour tags and its rotation say."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

HD_LINES = 720
"""Untagged pictures are BT.709 from this many coded lines on, else BT.601."""
# H.273 matrix numbers, as a stream carries them, to what the converter takes.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_FULL_RANGE_FORMATS = ("yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p")


def choose_matrix(tag: int, height: int) -> int:
    """The YUV matrix of a picture.

    Args:
        tag: Matrix number of the stream (ITU-T H.273); 2 is unspecified.
        height: Coded lines, before any rotation.
    Returns:
        The converter's number of the matrix.
    """
    untagged = Colorspace.ITU709 if height >= HD_LINES else Colorspace.ITU601
    return int(_MATRICES.get(tag, untagged))


class RgbConverter:
    """Converts one stream's pictures; keeps the converter's tables between them."""

    def __init__(self, *, max_area_px: int | None = None) -> None:
        """Starts without tables.

        Args:
            max_area_px: Larger pictures are divided by a whole number until they fit; None leaves them.
        """
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._max_area_px = max_area_px
        self.shrink = 1
        """What the sides were divided by, known from the first picture on."""

    def convert(self, frame: VideoFrame) -> np.ndarray:
        """Converts a picture. Later pictures of another size are scaled to that of the first.

        Args:
            frame: A decoded picture.
        Returns:
            (H, W, 3) uint8 RGB, C-contiguous, upright.
        """
        if self._size is None:
            area = frame.width * frame.height
            while self._max_area_px is not None and area > self._max_area_px * self.shrink**2:
                self.shrink += 1
            self._size = (frame.width // self.shrink, frame.height // self.shrink)
        full = frame.color_range == ColorRange.JPEG or frame.format.name in _FULL_RANGE_FORMATS
        rgb = self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=choose_matrix(int(frame.colorspace), frame.height),
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            # Without ACCURATE_RND: nine times as fast and, at most 2.9 grey levels off, also closer.
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: rgb.height, : rgb.width * 3]
        return rotate_upright(rows.reshape(rgb.height, rgb.width, 3), frame.rotation)


def rotate_upright(rgb: np.ndarray, rotation_deg: int) -> np.ndarray:
    """Turns a picture upright.

    Args:
        rgb: (H, W, 3) uint8.
        rotation_deg: Counter-clockwise turn that the container asks for, as PyAV gives it.
    Returns:
        The turned picture, C-contiguous. Other angles than quarters go to the nearest quarter.
    """
    quarters = round(rotation_deg / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarters) if quarters else rgb)
