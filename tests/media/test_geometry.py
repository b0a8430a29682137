"""Pictures as a player shows them: rotation, mirroring and pixels that are not square, in every pixel format."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dfkit.media.color import BT601
from dfkit.media.crop import SquareBox, crop_square
from dfkit.media.cut import sample_luma
from dfkit.media.facts import probe
from dfkit.media.geometry import Geometry, make_geometry, nearest_turn, rotation_deg
from dfkit.media.picture import Picture, PictureMaker, picture_of_planes, picture_of_rgb
from dfkit.media.video import PictureReader, read_frames

from .media_files import set_display_matrix, smooth_picture, write_media

Edit = Callable[[np.ndarray], np.ndarray]
TURNS: dict[tuple[int, int, int, int], tuple[Edit, int]] = {
    (1, 0, 0, 1): (lambda p: p, 0),
    (0, 1, -1, 0): (lambda p: np.rot90(p, -1), 270),  # clockwise
    (-1, 0, 0, -1): (lambda p: p[::-1, ::-1], 180),
    (0, -1, 1, 0): (np.rot90, 90),
    (-1, 0, 0, 1): (lambda p: p[:, ::-1], 0),  # left and right
    (1, 0, 0, -1): (lambda p: p[::-1], 180),  # top and bottom: turned by 180, then left and right
    (0, 1, 1, 0): (lambda p: p.transpose(1, 0, 2), 270),
    (0, -1, -1, 0): (lambda p: np.rot90(p, 2).transpose(1, 0, 2), 90),
}
"""a, b, c, d of the display matrix (x' = a x + c y, y' = b x + d y): what numpy does, and degrees counter-clockwise."""
ASPECTS = [None, Fraction(2), Fraction(1, 2), Fraction(4, 3), Fraction(16, 15)]


def stretched(rgb: np.ndarray, aspect: Fraction | None) -> np.ndarray:
    """The picture with square pixels, by OpenCV: the longer side of a pixel is filled."""
    height, width = rgb.shape[:2]
    ratio = float(aspect or 1)
    size = (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)


def corner(rgb: np.ndarray) -> np.ndarray:
    """The picture with a white patch at the upper left."""
    marked = rgb.copy()
    marked[: len(rgb) // 4, : rgb.shape[1] // 4] = 255
    return marked


@pytest.mark.parametrize("aspect", ASPECTS, ids=str)
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_every_display_matrix_and_pixel(turn: tuple[int, int, int, int], aspect: Fraction | None) -> None:
    rgb = corner(smooth_picture(60, 92))
    geometry = make_geometry(92, 60, aspect=aspect, turn=turn)
    expected = TURNS[turn][0](stretched(rgb, aspect))
    picture = Picture((rgb,), geometry)
    shown = picture.rgb()
    assert shown.shape == expected.shape == (picture.height, picture.width, 3)
    assert shown.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(shown, expected)
    # A part of it, as the crops see it: from the planes, not from the whole, so that an edge would be sharper.
    smooth = smooth_picture(60, 92)
    by_numpy = np.ascontiguousarray(TURNS[turn][0](stretched(smooth, aspect)))
    box = SquareBox(picture.width / 2 + 3.3, picture.height / 2 - 2.2, 50.5)
    found = crop_square(Picture((smooth,), geometry), box, 48).astype(int)
    # Rounded twice there, once here; positions to 1 / 64 pixel.
    assert np.abs(found - crop_square(by_numpy, box, 48)).max() <= 2
    # Single pixels: of a stretched picture the nearest one, at most half a pixel beside.
    luma = np.abs(sample_luma(picture).astype(int) - sample_luma(np.ascontiguousarray(expected)))
    assert luma.max() == 0 if aspect is None else (luma.mean() < 2.5)


@pytest.mark.parametrize("aspect", [None, Fraction(2)], ids=str)
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_files_with_every_display_matrix(tmp_path: Path, turn: tuple[int, int, int, int], aspect: Fraction) -> None:
    rgb = corner(smooth_picture(64, 96))
    path = write_media(tmp_path / "a.mp4", [rgb] * 3, aspect=aspect)
    set_display_matrix(path, turn)
    edit, degrees = TURNS[turn]
    expected = edit(stretched(rgb, aspect))
    _, _, shown = next(iter(read_frames(path, 25.0)))
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 3  # H.264
    assert probe(path, allow_silent=True).rotation_deg == degrees
    reader = PictureReader(path, 25.0)
    _, _, picture = next(iter(reader))
    assert (picture.width, picture.height) == expected.shape[1::-1]


@pytest.mark.parametrize("degrees", [-89, -3, 0, 3, 44])
def test_turn_goes_to_the_nearest_quarter(degrees: int) -> None:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.rint(np.array([cos, sin, 0, -sin, cos]) * 65536).astype(np.int32)
    assert nearest_turn(matrix) == ((0, -1, 1, 0) if degrees == -89 else (1, 0, 0, 1))


def test_a_display_matrix_without_area_changes_nothing() -> None:
    assert nearest_turn(np.zeros(5, np.int32)) == (1, 0, 0, 1)
    assert nearest_turn(np.array([1, 1, 0, 1, 1], np.int32) << 16) == (1, 0, 0, 1)


@pytest.mark.parametrize("aspect", [0.0, -1.0, 1000.0, 1e-6, float("nan"), 1.001, None])
def test_nonsense_is_square(aspect: float | None) -> None:
    assert make_geometry(96, 64, aspect=aspect, turn=(1, 0, 0, 1)).shown == (96, 64)


def test_degrees_of_all_turns() -> None:
    assert {turn: rotation_deg(turn) for turn in TURNS} == {turn: degrees for turn, (_, degrees) in TURNS.items()}


def frame_of(rgb: np.ndarray, pixel_format: str) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    if pixel_format == "rgb24":
        return frame
    # One thread: several spoil a row of pictures of more than 8 bits now and then (FFmpeg 8).
    made = frame.reformat(format=pixel_format, src_color_range=2, dst_colorspace=5, dst_color_range=1, threads=1)
    made.colorspace = 5
    made.color_range = 1
    return made


FORMATS = {
    **dict.fromkeys(("yuv444p", "yuv422p", "yuv440p", "yuyv422", "uyvy422"), 3.0),
    **dict.fromkeys(("nv12", "nv21", "yuv420p"), 4.0),
    "yuv411p": 7.0,
    **dict.fromkeys(("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv444p12le", "p010le"), 3.0),
    **dict.fromkeys(("rgb24", "bgr24", "rgba", "bgra", "gbrp", "rgb48le", "gbrp10le"), 1.01),
    **dict.fromkeys(("yuva420p", "yuva444p10le", "yuv422p16le", "p016le"), 3.0),
}
"""Pixel formats, and how far a smooth picture may be off in grey levels: FFmpeg's own tables on the way there are 2.9
off, and it takes chroma from the left of the pixels that share it, where we have its middle: a quarter of a pixel, of
4:1:1 one and a half."""


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (35, 50), (61, 33)], ids=str)
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_pixel_formats_and_odd_sizes(pixel_format: str, size: tuple[int, int]) -> None:
    rgb = smooth_picture(*size)
    picture = PictureMaker().make(frame_of(rgb, pixel_format))
    shown = picture.rgb()
    assert shown.shape == rgb.shape
    assert np.abs(shown.astype(int) - rgb).mean() < 1.2
    # Two pixels at the border lean on chroma of their neighbours.
    assert np.abs(shown[2:-2, 2:-2].astype(int) - rgb[2:-2, 2:-2]).max() <= FORMATS[pixel_format] + 2
    box = SquareBox(size[1] / 2 + 0.3, size[0] / 2 - 0.4, 30.3)
    found, expected = crop_square(picture, box, 24).astype(int), crop_square(rgb, box, 24)
    assert np.abs(found - expected).max() <= FORMATS[pixel_format] + 2


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray16le", "pal8", "ya8", "monob"])
def test_formats_without_colour_or_with_a_palette(pixel_format: str) -> None:
    grey = np.repeat(smooth_picture(40, 56)[..., :1], 3, axis=2)
    if pixel_format == "monob":
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    if pixel_format == "pal8":
        palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
        palette[:, 0] = 255  # alpha, then R, G, B
        frame = av.VideoFrame.from_ndarray((grey[..., 0], palette), "pal8")
    else:
        frame = av.VideoFrame.from_ndarray(grey, "rgb24").reformat(format=pixel_format, src_color_range=2, threads=1)
        frame = frame_of_grey(grey[..., 0], pixel_format, frame)
    shown = PictureMaker().make(frame).rgb()
    # Weights of R, G and B in FFmpeg's grey add up to a level more or less.
    assert np.abs(shown.astype(int) - grey).max() <= 2


def frame_of_grey(grey: np.ndarray, pixel_format: str, frame: av.VideoFrame) -> av.VideoFrame:
    """`gray` as a camera gives it: all values from 0 to 255."""
    if pixel_format not in ("gray", "gray10le", "gray16le"):
        return frame
    deep = {
        "gray": grey,
        "gray10le": (grey.astype(np.uint32) * 1023 // 255).astype(np.uint16),
        "gray16le": grey.astype(np.uint16) * 257,
    }
    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(deep[pixel_format]), pixel_format)
    made.color_range = 2
    return made


def test_planes_of_odd_sizes_lie_where_their_picture_says() -> None:
    # A ramp in U over 47 columns: its plane has 24, of which the last covers one column only.
    y = np.full((33, 47), 120, np.uint8)
    u = np.broadcast_to((60 + 4 * np.arange(24)).astype(np.uint8), (17, 24)).copy()
    picture = picture_of_planes((y, u, np.full((17, 24), 128, np.uint8)), shares=BT601, full=True)
    box = SquareBox(23.5, 16.5, 16.0)
    blue = crop_square(picture, box, 16)[8, :, 2].astype(float)
    column = 23.5 - 8 + np.arange(16) + 0.5
    expected = 120 + 1.772 * (60 + 4 * (column / 2 - 0.5) - 128)
    # Rounding of U (x 1.772) and of the result.
    np.testing.assert_allclose(blue, np.clip(expected, 0, 255), atol=1.5)


def test_pictures_of_another_size_are_shown_at_that_of_the_first() -> None:
    small, large = smooth_picture(64, 96), smooth_picture(128, 192)
    maker = PictureMaker()
    first, second = (maker.make(frame_of(rgb, "yuv420p")) for rgb in (small, large))
    assert second.geometry == Geometry((192, 128), (96, 64))
    assert first.rgb().shape == second.rgb().shape
    assert np.abs(first.rgb().astype(int) - second.rgb()).max() <= 4


def test_what_is_too_large_is_halved_with_its_geometry() -> None:
    maker = PictureMaker(aspect=2, max_area_px=96 * 64 // 4)
    picture = maker.make(frame_of(smooth_picture(64, 96), "yuv420p"))
    assert maker.shrink == 2
    assert (picture.width, picture.height) == (96, 32)
    expected = stretched(smooth_picture(32, 48), Fraction(2))
    assert np.abs(picture.rgb().astype(int) - expected).mean() < 2


def test_the_edge_goes_on_or_is_black_in_every_plane() -> None:
    planes = (np.full((16, 16), 90, np.uint8), np.full((8, 8), 100, np.uint8), np.full((8, 8), 170, np.uint8))
    picture = picture_of_planes(planes, shares=BT601, full=False)
    inside = picture.rgb()[8, 8]
    away = np.array([[1.0, 0.0, 200.0], [0.0, 1.0, 200.0]])
    assert (picture.sample(away, 8, replicate=True, average=False) == inside).all()
    assert (picture.sample(away, 8, replicate=False, average=False) == 0).all()


def first_picture(path: Path) -> Picture:
    return next(iter(PictureReader(path, 25.0)))[2]


def test_handed_mirror(shared: Path) -> None:
    base, mirrored = (first_picture(shared / "cases" / name) for name in ("base.mp4", "vflip.mp4"))
    np.testing.assert_array_equal(mirrored.rgb(), base.rgb()[::-1])
    box = SquareBox(180.3, 144.0, 111.1)
    found, expected = crop_square(mirrored, box, 96), crop_square(base, box, 96)[::-1]
    # Rows are taken from below: block by block the same only where they divide the height.
    assert np.abs(found.astype(int) - expected).mean() < 1.5


def test_handed_pixels_twice_as_wide(shared: Path) -> None:
    base, wide = (first_picture(shared / "cases" / name) for name in ("base.mp4", "sar2.mp4"))
    assert (wide.width, wide.height) == (base.width, base.height) == (360, 288)
    # Half of the columns are lost, and it was coded again.
    assert np.abs(wide.rgb().astype(int) - base.rgb()).mean() < 5
    assert (
        np.abs(
            crop_square(wide, SquareBox(180, 144, 200), 96).astype(int)
            - crop_square(picture_of_rgb(base.rgb()), SquareBox(180, 144, 200), 96)
        ).mean()
        < 4
    )
