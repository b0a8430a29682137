"""From a decoded picture to RGB, as its colour tags and its rotation say."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

HD_LINES = 720
"""Untagged pictures are BT.709 from this many coded lines on, else BT.601."""
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""H.273 matrix numbers, as a stream carries them, to what the converter takes."""
COEFFICIENTS = {
    Colorspace.ITU709: (117489, 138438, 13975, 34925),
    Colorspace.FCC: (104448, 132798, 24759, 53109),
    Colorspace.ITU601: (104597, 132201, 25675, 53279),
    Colorspace.SMPTE240M: (117579, 136230, 16907, 35559),
    Colorspace.BT2020: (110013, 140363, 12277, 42626),
}
"""V to R, U to B, U to G, V to G in 1 / 65536 of a grey level, limited range: those of FFmpeg's swscale."""
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
    return int(MATRICES.get(tag, untagged))


def yuv420_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray, *, matrix: Colorspace, full: bool) -> np.ndarray:
    """What `RgbConverter` computes of an 8-bit 4:2:0 picture that is not scaled, for ports to other languages.

    Args:
        y: (H, W) uint8, H and W even.
        u: (H / 2, W / 2) uint8; a sample holds for its four pixels.
        v: Likewise.
        matrix: A key of `COEFFICIENTS`.
        full: Whether Y spans 0 to 255, else 16 to 235.
    Returns:
        (H, W, 3) uint8 RGB. Fractions are dropped downwards, so it lies half a level below the exact value on average.
    Source: FFmpeg, libswscale/yuv2rgb.c (coefficients) and x86/yuv_2_rgb.asm (arithmetic).
    """
    gain, offset = (65536, 0) if full else (65536 * 255 // 219, 128)
    r, b, gu, gv = (c * 224 // 255 if full else c for c in COEFFICIENTS[matrix])
    luma_gain, v_to_r, u_to_b, u_to_g, v_to_g = ((c * 8192 + 32768) >> 16 for c in (gain, r, b, -gu, -gv))
    luma = ((y.astype(np.int64) * 8 - offset) * luma_gain) >> 16
    blue, red = (np.repeat(np.repeat(c.astype(np.int64) * 8 - 1024, 2, axis=0), 2, axis=1) for c in (u, v))
    green = luma + ((blue * u_to_g) >> 16) + ((red * v_to_g) >> 16)
    rgb = np.stack([luma + ((red * v_to_r) >> 16), green, luma + ((blue * u_to_b) >> 16)], axis=2)
    return np.clip(rgb, 0, 255).astype(np.uint8)


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
