"""High dynamic range, made by the standards' formulae from a picture of ordinary range, comes back as it was."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.media.color import Transfer, hlg_light, pq_light, tone_map
from dfkit.media.crop import SquareBox, crop_square
from dfkit.media.cut import sample_luma
from dfkit.media.picture import PictureMaker
from dfkit.media.video import PictureReader, read_frames

from .media_files import smooth_picture

# Chromaticities of red, green, blue and of D65: BT.2020 table 2, BT.709 item 1.3, SMPTE 170M.
PRIMARIES = {
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "smpte170m": ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
}
D65 = (0.3127, 0.3290)
NUMBERS: dict[Transfer, int] = {"pq": 16, "hlg": 18}
"""H.273, table 3."""


def to_xyz(primaries: str) -> np.ndarray:
    """(3, 3) from linear RGB to CIE XYZ (SMPTE RP 177)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[primaries]]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def shown_light(rgb: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Light of an SDR picture, 1 at white: on a display of gamma 2.4 (BT.1886); for HLG that of the scene which a
    display of gamma 1.2 makes the same grey of (BT.2408, section 5.1)."""
    display = (rgb / 255) ** 2.4
    return display if transfer == "pq" else display ** (1 / 1.2)


def encode_light(light: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Signal in [0, 1] of light from `shown_light`, white at 100 cd/m2 (BT.2100, tables 4 and 5)."""
    if transfer == "pq":
        power = np.power(np.maximum(light, 0) / 100, 0.1593017578125)
        return np.power((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power), 78.84375)
    # A display of 1,000 cd/m2 has gamma 1.2: 100 cd/m2 are a tenth of it.
    scene = np.maximum(light, 0) * 0.1 ** (1 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def hdr_frame(rgb: np.ndarray, transfer: Transfer, *, bits: int = 10) -> av.VideoFrame:
    """What a phone would have recorded of the scene of an SDR picture: limited range, colours of BT.2020."""
    own = "bt709" if len(rgb) >= 720 else "smpte170m"
    wide = shown_light(rgb.astype(float), transfer) @ (np.linalg.solve(to_xyz("bt2020"), to_xyz(own))).T
    red, green, blue = np.moveaxis(encode_light(wide, transfer), 2, 0)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    unit = 2 ** (bits - 8)
    parts = [219 * luma + 16, 224 * (blue - luma) / 1.8814 + 128, 224 * (red - luma) / 1.4746 + 128]
    planes = [np.rint(part * unit).astype("<u2") for part in parts]
    # Chroma of every second row and column: the mean of the four that share it.
    planes[1:] = [np.rint(sum(p[i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4).astype("<u2") for p in planes[1:]]
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], f"yuv420p{bits}le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    frame.color_trc, frame.colorspace, frame.color_primaries, frame.color_range = NUMBERS[transfer], 9, 9, 1
    return frame


def sdr_picture(height: int, width: int) -> np.ndarray:
    """From 50 to 230, as faces are: what is brighter lies above the knee, and a channel near black beside bright ones
    is a matter of how fine the steps of 10 bits are."""
    return (60 + 0.65 * smooth_picture(height, width)).astype(np.uint8)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("size", [(288, 360), (720, 320)], ids=["sd", "hd"])
@pytest.mark.parametrize("transfer", ["hlg", "pq"])
def test_comes_back_as_it_was(transfer: Transfer, size: tuple[int, int], bits: int) -> None:
    rgb = sdr_picture(*size)
    picture = PictureMaker().make(hdr_frame(rgb, transfer, bits=bits))
    assert picture.transfer == transfer
    shown = picture.rgb().astype(int)
    # Steps of 10 bits are up to 2 levels after the curves, in the darkest channel of a colour some more.
    assert np.abs(shown - rgb).max() <= (5 if bits == 10 else 2)
    assert np.abs(shown - rgb).mean() < 1
    box = SquareBox(size[1] / 2 + 3.1, size[0] / 2 - 1.2, 190.4)
    for out_px in (40, 224):
        found, expected = (crop_square(each, box, out_px).astype(int) for each in (picture, rgb))
        # Means of blocks and pixels between are taken before the curves here, after them there.
        assert np.abs(found - expected).max() <= 6
        assert np.abs(found - expected).mean() < 1.2


@pytest.mark.parametrize("transfer", ["hlg", "pq"])
def test_untouched_it_would_be_far_off(transfer: Transfer) -> None:
    # The test above could not fail if the two ranges were alike.
    rgb = sdr_picture(288, 360)
    frame = hdr_frame(rgb, transfer)
    frame.color_trc = 1
    assert np.abs(PictureMaker().make(frame).rgb().astype(int) - rgb).mean() > 10


@pytest.mark.parametrize("transfer", ["hlg", "pq"])
def test_brighter_than_white_is_compressed_in_order(transfer: Transfer) -> None:
    ramp = np.linspace(0, 255, 512, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    grey = tone_map(ramp, transfer, height=720)[0].astype(int)
    assert (np.diff(grey[:, 0]) >= 0).all()
    assert grey[-1].max() <= 255
    assert grey[-1].min() >= 253
    # White and black stay grey: rows of both matrices add up to one, to their four digits.
    assert np.abs(grey - grey[:, :1]).max() <= 1


def test_bright_colours_keep_their_hue() -> None:
    # Reddish light at twice and at ten times SDR's white: the ratios of its linear light stay.
    light = np.array([1.0, 0.5, 0.25])
    for times in (2, 10):
        wide = light * times @ np.linalg.solve(to_xyz("bt2020"), to_xyz("bt709")).T
        signal = (encode_light(wide, "pq") * 255).astype(np.float32).reshape(1, 1, 3)
        found = shown_light(tone_map(signal, "pq", height=1080)[0, 0].astype(float), "pq")
        # 8 bits are 1 % of light at these levels.
        np.testing.assert_allclose(found / found[0], light, atol=0.02)


def test_curves_at_known_points() -> None:
    # BT.2100: PQ's 58 % are 203 cd/m2, 75 % about 1,000; BT.2408: HLG's 75 % are 26.5 % of scene light.
    assert float(pq_light(np.array(0.58))) * 10_000 == pytest.approx(203, abs=2)
    assert float(pq_light(np.array(0.7518))) * 10_000 == pytest.approx(1000, rel=0.005)
    assert float(pq_light(np.array(1.0))) == pytest.approx(1)
    assert float(hlg_light(np.array(0.75))) == pytest.approx(0.265, abs=0.0005)
    assert float(hlg_light(np.array(0.5))) == pytest.approx(1 / 12)
    assert float(hlg_light(np.array(1.0))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("transfer", ["hlg", "pq"])
def test_tags_of_a_file_decide(tmp_path: Path, transfer: Transfer) -> None:
    rgb = sdr_picture(64, 96)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.colorspace, context.color_primaries, context.color_range = NUMBERS[transfer], 9, 9, 1
        for index in range(3):
            frame = hdr_frame(rgb, transfer)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    _, _, shown = next(iter(read_frames(path, 25.0)))
    assert np.abs(shown.astype(int) - rgb).mean() < 1.2


def test_handed_recording_of_a_phone(shared: Path) -> None:
    base, hlg = (
        [picture for _, _, picture in PictureReader(shared / "cases" / name, 25.0)][::15]
        for name in ("base.mp4", "hdr_hlg.mp4")
    )
    assert len(base) == len(hlg) == 5
    for sdr, hdr in zip(base, hlg, strict=True):
        assert (sdr.transfer, hdr.transfer) == ("sdr", "hlg")
        # Coded twice. Every channel within a few levels on the whole, and the face's crop too.
        box = SquareBox(180, 144, 200)
        for found, expected in ((hdr.rgb(), sdr.rgb()), (crop_square(hdr, box, 96), crop_square(sdr, box, 96))):
            difference = found.astype(int) - expected
            assert np.abs(difference.mean(axis=(0, 1))).max() < 3
            assert np.abs(difference).mean() < 6


def test_luma_samples_see_the_same_cuts(shared: Path) -> None:
    # Cuts are told from luma as it is coded; within one recording it is one scale.
    lumas = [sample_luma(p) for _, _, p in PictureReader(shared / "cases" / "hdr_hlg.mp4", 25.0)]
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(lumas)]
    assert max(steps) < 20
