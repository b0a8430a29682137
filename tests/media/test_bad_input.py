"""What cannot be used is refused, by name, with a status and a fix."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from dfkit.errors import MediaError
from dfkit.media import video
from dfkit.media.container import check_size
from dfkit.media.faces import FaceModels
from dfkit.media.facts import probe
from dfkit.media.stream import read_clips
from dfkit.media.video import read_frames

from .face_cases import synthetic_head
from .media_files import numbered, tone, write_media


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


def status_of(path: Path, models: FaceModels) -> str:
    try:
        count = sum(1 for _ in read_clips(path, models=models))
    except MediaError as error:
        assert path.name in str(error)
        assert "Fix:" in str(error)
        return error.status
    assert count
    return "ok"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head.mp4"
    sound = tone(3.0, sample_rate=44100)
    return write_media(
        path, synthetic_head(75), sound=sound, sample_rate=44100, container_options={"movflags": "faststart"}
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"this is not a video\n" * 200),
        ("page.mp4", b"<!doctype html><html><body>403</body></html>"),
        ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
        ("list.mp4", b"ffconcat version 1.0\nfile 'other.mp4'\n"),
        ("zeros.mp4", bytes(100_000)),
        ("noise.mpg", np.random.default_rng(0).bytes(100_000)),
        ("subtitles.mp4", b"1\n00:00:00,000 --> 00:00:02,000\nhello\n"),
        ("picture.mp4", b"\x89PNG\r\n\x1a\n" + bytes(64)),
    ],
)
def test_not_media(tmp_path: Path, models: FaceModels, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert status_of(path, models) == "unreadable"
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.status == "unreadable"


def test_missing_and_folder(tmp_path: Path, models: FaceModels) -> None:
    assert status_of(tmp_path / "없는 파일.mp4", models) == "unreadable"
    assert status_of(tmp_path, models) == "unreadable"
    for address in ("http://127.0.0.1:9/a.mp4", "concat:a.mp4|b.mp4", "pipe:0"):
        with pytest.raises(MediaError):
            next(read_frames(address, 25.0))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_what_decodes_before_the_damage_counts(tmp_path: Path, head: Path, models: FaceModels, share: float) -> None:
    content = head.read_bytes()
    path = tmp_path / "cut off.mp4"
    path.write_bytes(content[: int(len(content) * share)])
    numbers = [index for index, _, _ in read_frames(path, 25.0)]
    # Pictures are about equally large, so about that share of the 75 is left; the sound lies in between.
    assert len(numbers) == pytest.approx(75 * share, abs=12)
    # Not "use a longer recording": it was long enough when it was whole.
    assert status_of(path, models) == ("unreadable" if len(numbers) < 50 else "ok")
    if len(numbers) < 50:
        with pytest.raises(
            MediaError, match=r"s of pictures can be read of 3\.\d\d s: the file is incomplete: it states 3"
        ):
            list(read_clips(path, models=models))


def test_without_its_index_nothing_is_left(tmp_path: Path, models: FaceModels) -> None:
    path = write_media(tmp_path / "a.mp4", synthetic_head(55), sound=tone(2.2))  # the index comes last
    path.write_bytes(path.read_bytes()[:-2000])
    assert status_of(path, models) == "unreadable"


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (8193, 16), (16, 8193), (8192, 4400)])
def test_absurd_sizes(tmp_path: Path, width: int, height: int) -> None:
    with pytest.raises(MediaError, match=f"{width} x {height}") as caught:
        check_size(tmp_path / "a.mp4", width, height)
    assert caught.value.status == "unreadable"
    check_size(tmp_path / "a.mp4", 7680, 4320)


def test_a_header_with_an_absurd_size_yields_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Raw pictures have no size but the container's; 30,000 x 30,000 would be 1.35 GB each.
    path = write_media(tmp_path / "a.avi", numbered(5), codec="rawvideo", options={})
    content = bytearray(path.read_bytes())
    start = content.index(b"strf") + 8
    assert struct.unpack_from("<ii", content, start + 4) == (96, 64)
    struct.pack_into("<ii", content, start + 4, 30_000, 30_000)
    path.write_bytes(content)
    made: list[object] = []
    monkeypatch.setattr(video.PictureMaker, "make", lambda _, frame, **__: made.append(frame))
    with pytest.raises(MediaError, match="not one picture") as caught:
        list(read_frames(path, 25.0))
    assert caught.value.status == "unreadable"
    assert made == []


def test_a_picture_of_an_absurd_size_is_refused(tmp_path: Path) -> None:
    # The JPEG's own header lies: FFmpeg is told to stop above 36 million pixels.
    path = write_media(tmp_path / "a.avi", numbered(5), codec="mjpeg", pixel_format="yuvj420p", options={"qscale": "3"})
    content = path.read_bytes().replace(b"\x00\x11\x08\x00\x40\x00\x60", b"\x00\x11\x08\x75\x30\x75\x30")
    assert content != path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        list(read_frames(path, 25.0))
    assert caught.value.status == "unreadable"


def test_lying_durations(tmp_path: Path, models: FaceModels) -> None:
    # The last picture says that it is shown for ten days: nothing is made up to fill them.
    times = [index / 25 for index in range(55)]
    path = write_media(tmp_path / "a.mkv", synthetic_head(56), times_s=[*times, 864_000.0], sound=tone(2.2))
    indexes = [index for index, _, _ in read_frames(path, 25.0)]
    assert indexes == list(range(55))
    # 55 pictures hold two clips of 50: the first, and the one that ends with the video, from picture 5 on.
    assert [clip.start_s for clip in read_clips(path, models=models)] == [0.0, 5 / 25]
    assert probe(path).duration_s < 15


def test_a_header_with_a_lying_duration(tmp_path: Path, head: Path) -> None:
    content = bytearray(head.read_bytes())
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        start = content.index(name)
        offset = {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[name]
        struct.pack_into(">I", content, start + offset, 0x7FFFFFFF)
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert probe(path).duration_s == pytest.approx(3.0, abs=0.05)
    assert sum(1 for _ in read_frames(path, 25.0)) == 75
