"""Pictures by time, colour, rotation, containers, names."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dfkit.media.color import choose_matrix
from dfkit.media.facts import probe
from dfkit.media.video import pick_nearest, read_frames

from .media_files import numbered, read_number, tone, write_media


@pytest.mark.parametrize("fps", [10, 15, 20, 24, Fraction(24000, 1001), 25, Fraction(30000, 1001), 30, 50, 60, 120])
def test_pictures_are_the_nearest_in_time(tmp_path: Path, fps: int | Fraction) -> None:
    count = int(2 * fps)
    path = write_media(tmp_path / "a.mp4", numbered(count), fps=fps)
    seen = [(index, read_number(rgb)) for index, _, rgb in read_frames(path, 25.0)]
    times = np.arange(count) / float(fps)
    assert [index for index, _ in seen] == list(range(int(count / fps * 25 + 0.05)))
    for index, number in seen:
        # Nearest, or as near: at 10 fps every fifth point lies halfway between two pictures.
        assert abs(times[number % 256] - index / 25) <= np.abs(times - index / 25).min() + 1e-3


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.3, 0.32, 0.36, 1.0, 1.2, 2.5]
    path = write_media(tmp_path / "a.mkv", numbered(len(times)), times_s=times)
    seen = {index: read_number(rgb) for index, _, rgb in read_frames(path, 25.0)}
    for index, number in seen.items():
        nearest = np.abs(np.array(times) - index / 25).min()
        assert abs(times[number] - index / 25) == pytest.approx(nearest, abs=1e-3)


def test_grid_by_hand() -> None:
    items = [(10.0, 0.1, "a"), (10.1, 0.1, "b"), (10.3, 0.1, "c")]
    # Ends at 10.4: 0.4 s at 10 fps. Halfway between b and c at 0.2 the earlier is taken.
    assert list(pick_nearest(items, 10.0)) == [(0, "a"), (1, "b"), (2, "b"), (3, "c")]
    assert list(pick_nearest([], 10.0)) == []
    assert list(pick_nearest([(5.0, 0.001, "a")], 10.0)) == [(0, "a")]


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec"),
    [
        ("a.mpg", "mpeg1video", "mp2"),
        ("a.mp4", "libx264", "aac"),
        ("a.mov", "mpeg4", "aac"),
        ("a.mkv", "libx264", "libopus"),
        ("a.webm", "libvpx-vp9", "libopus"),
        ("한국어 이름 과 빈칸.mp4", "libx264", "aac"),
        ("concat:a|b %d.mp4", "libx264", "aac"),
    ],
)
def test_containers_and_names(tmp_path: Path, name: str, codec: str, sound_codec: str) -> None:
    options = {"b": "4000000", "deadline": "realtime", "cpu-used": "8"} if codec != "libx264" else None
    sound = tone(2.0, sample_rate=48000)
    path = write_media(
        tmp_path / name,
        numbered(50),
        codec=codec,
        sound=sound,
        sample_rate=48000,
        sound_codec=sound_codec,
        options=options,
    )
    facts = probe(path)
    assert (facts.width, facts.height, facts.num_frames) == (96, 64, 50)
    assert facts.duration_s == pytest.approx(2.0, abs=0.041)
    assert facts.fps == pytest.approx(25.0, rel=0.03)
    assert facts.loudness_db == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.5)
    assert facts.bitrate_kbps == pytest.approx(path.stat().st_size * 8 / facts.duration_s / 1000)
    numbers = [read_number(rgb) for _, _, rgb in read_frames(path, 25.0)]
    assert numbers == list(range(50))


def test_frames_are_contiguous_at_odd_widths(tmp_path: Path) -> None:
    for width in (98, 106, 122, 354):
        path = write_media(tmp_path / f"{width}.mp4", numbered(3, size=(66, width)))
        for _, _, rgb in read_frames(path, 25.0):
            assert rgb.flags["C_CONTIGUOUS"]
            assert rgb.shape == (66, width, 3)


# H.273: 1 is BT.709, 6 is BT.601 (525 lines), 9 is BT.2020; kr and kb from those standards.
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def to_rgb(yuv: tuple[int, int, int], matrix: int, full: bool) -> np.ndarray:
    """The standards' own formula."""
    kr, kb = WEIGHTS[matrix]
    y, u, v = (float(value) for value in yuv)
    y, u, v = (
        (y / 255, (u - 128) / 255, (v - 128) / 255) if full else ((y - 16) / 219, (u - 128) / 224, (v - 128) / 224)
    )
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.array([red, green, blue]) * 255, 0, 255)


@pytest.mark.parametrize("yuv", [(120, 90, 180), (60, 160, 110), (200, 120, 120), (235, 128, 128), (16, 128, 128)])
@pytest.mark.parametrize(
    ("tag", "full", "height", "expected"),
    [
        (None, None, 64, 5),
        (None, None, 720, 1),
        (1, False, 64, 1),
        (5, False, 720, 5),
        (9, False, 64, 9),
        (1, True, 64, 1),
    ],
)
def test_tags_decide_the_colour(
    tmp_path: Path, yuv: tuple[int, int, int], tag: int | None, full: bool | None, height: int, expected: int
) -> None:
    path = _write_flat(tmp_path / "a.mkv", yuv, height=height, tag=tag, full=full)
    _, _, rgb = next(iter(read_frames(path, 25.0)))
    # 3 grey levels: the converter's integer tables are up to 2.9 off.
    np.testing.assert_allclose(rgb[8, 8], to_rgb(yuv, expected, bool(full)), atol=3.0)


def _write_flat(path: Path, yuv: tuple[int, int, int], *, height: int, tag: int | None, full: bool | None) -> Path:
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, height, "yuv420p"
        if tag is not None:
            video.codec_context.colorspace = tag
        if full is not None:
            video.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame(64, height, "yuv420p")
        for plane, value in zip(frame.planes, yuv, strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        if tag is not None:
            frame.colorspace = tag
        if full is not None:
            frame.color_range = 2 if full else 1
        for index in range(3):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def test_matrix_choice() -> None:
    assert choose_matrix(2, 719) == WEIGHTS[5]
    assert choose_matrix(2, 720) == WEIGHTS[1]
    assert choose_matrix(1, 288) == WEIGHTS[1]
    assert choose_matrix(6, 1080) == WEIGHTS[6]
    assert choose_matrix(9, 288) == WEIGHTS[9]


def test_4k(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", numbered(3, size=(2160, 3840)))
    assert [read_number(rgb) for _, _, rgb in read_frames(path, 25.0)] == [0, 1, 2]


def test_size_change_in_the_middle(tmp_path: Path) -> None:
    first = write_media(tmp_path / "a.ts", numbered(10, size=(64, 96)), codec="mpeg2video", options={"b": "2000000"})
    second = write_media(tmp_path / "b.ts", numbered(10, size=(128, 192)), codec="mpeg2video", options={"b": "2000000"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    shapes = {rgb.shape for _, _, rgb in read_frames(joined, 25.0)}
    assert shapes == {(64, 96, 3)}
