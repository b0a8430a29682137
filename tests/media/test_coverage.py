"""How much was read, and why the rest is missing: damaged, cut-off and whole files, with any number of threads."""

from __future__ import annotations

import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.errors import MediaError
from dfkit.media.audio import SoundReader
from dfkit.media.coverage import Coverage, FileRead, too_short_error
from dfkit.media.survey import survey_file
from dfkit.media.video import PictureDecoder, read_frames

from .media_files import numbered, read_number, tone, write_media
from .test_audio import onset_s

THREADS = (1, 2, 4, 0)
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "libx264": ("mp4", {"preset": "veryfast", "g": "25", "crf": "18"}),
    "mpeg4": ("avi", {"b": "2000000", "g": "25"}),
    "mpeg2video": ("ts", {"b": "3000000", "g": "15"}),
    "libvpx-vp9": ("webm", {"deadline": "realtime", "cpu-used": "8", "g": "25", "b": "800000"}),
    "mjpeg": ("mkv", {"qscale": "4"}),
}


def noisy(count: int, *, size: tuple[int, int] = (96, 128)) -> list[np.ndarray]:
    """Numbered pictures with noise, so that a packet has bytes to damage."""
    rng = np.random.default_rng(7)
    return [
        np.clip(rgb.astype(int) * 0.8 + 25 + rng.normal(0, 12, rgb.shape), 0, 255).astype(np.uint8)
        for rgb in numbered(count, size=size)
    ]


def make(folder: Path, codec: str) -> Path:
    suffix, options = CODECS[codec]
    path = folder / f"{codec}.{suffix}"
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return write_media(path, noisy(100), codec=codec, options=options, pixel_format=pixel_format)


def damage(path: Path, *, seed: int, num_places: int = 3, length: int = 400) -> None:
    """Overwrites some pictures, neither the first nor the last ones, from their 40th byte on."""
    with av.open(str(path)) as whole:
        packets = [p for p in whole.demux(video=0) if p.size]
        spots = [p.pos for p in packets[8:-8] if p.pos is not None and p.pos > 0]
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for start in rng.choice(spots, num_places, replace=False):
        begin = int(start) + 40
        content[begin : begin + length] = rng.bytes(length)
    path.write_bytes(content)


def decode(path: Path, num_threads: int) -> tuple[list[tuple[float, int]], Coverage]:
    """Time and checksum of every picture, and how much was read."""
    decoder = PictureDecoder(survey_file(path), num_threads=num_threads)
    pictures = [
        (picture.start_s, zlib.crc32(b"".join(bytes(plane) for plane in picture.frame.planes))) for picture in decoder
    ]
    return pictures, decoder.coverage


def _complains(path: Path) -> bool:
    """Whether the decoder, of one thread and asked directly, finds an error."""
    with av.open(str(path)) as given:
        given.streams.video[0].codec_context.thread_count = 1
        for packet in given.demux(video=0):
            try:
                if any(frame.is_corrupt for frame in packet.decode()):
                    return True
            except EOFError:
                return False
            except av.FFmpegError:
                return True
    return False


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("codec", CODECS)
def test_damage_in_the_middle(tmp_path: Path, codec: str, seed: int) -> None:
    path = make(tmp_path, codec)
    whole, _ = decode(path, 1)
    assert len(whole) == 100
    damage(path, seed=seed)
    pictures, coverage = decode(path, 1)
    # Reading goes on behind it: what lies before the first and behind the next key frame is as it was.
    assert pictures[0] == whole[0]
    assert pictures[-1][0] == pytest.approx(whole[-1][0], abs=0.5)
    assert [time_s for time_s, _ in pictures] == sorted({time_s for time_s, _ in pictures})
    assert len(pictures) >= 75
    assert coverage.duration_s == pytest.approx(4.0, abs=0.05)
    assert 0.5 < coverage.share <= 1.0
    if _complains(path) or len(pictures) < 100:
        assert coverage.share < 1.0
        assert coverage.missing is not None
    # The same with any number of threads, and when it is read again.
    for num_threads in (*THREADS, 0):
        again, same = decode(path, num_threads)
        assert [t for t, _ in again] == [t for t, _ in pictures], num_threads
        assert again == pictures, num_threads
        assert same == coverage, num_threads


@pytest.mark.parametrize("codec", CODECS)
def test_a_whole_file_is_whole_with_any_threads(tmp_path: Path, codec: str) -> None:
    path = make(tmp_path, codec)
    results = [decode(path, num_threads) for num_threads in THREADS]
    assert all(result == results[0] for result in results)
    pictures, coverage = results[0]
    assert len(pictures) == 100
    assert (coverage.share, coverage.missing) == (1.0, None)
    assert coverage.duration_s == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_cut_off(tmp_path: Path, share: float) -> None:
    path = write_media(
        tmp_path / "a.mp4",
        noisy(100),
        options={"preset": "veryfast", "bf": "0"},
        sound=tone(4.0),
        container_options={"movflags": "faststart"},
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    survey = survey_file(path)
    decoder = PictureDecoder(survey)
    count = sum(1 for _ in decoder)
    coverage = decoder.coverage
    assert coverage.duration_s == pytest.approx(4.0, abs=0.05)
    assert coverage.read_s == pytest.approx(count / 25, abs=0.041)
    assert coverage.share == pytest.approx(share, abs=0.12)
    assert coverage.missing is not None
    assert coverage.missing.startswith("the file is incomplete: it states 4.0 s and ends after ")
    with SoundReader(path, sample_rate=16000, first_picture_s=0.0, survey=survey) as reader:
        sound = reader.finish()
    assert sound.share == pytest.approx(share, abs=0.12)
    assert sound.missing is not None
    assert "the file is incomplete" in sound.missing


def test_a_whole_file_with_sound(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", numbered(75), sound=tone(3.0))
    decoder = PictureDecoder(survey_file(path))
    assert sum(1 for _ in decoder) == 75
    assert decoder.coverage == Coverage(pytest.approx(3.0), pytest.approx(3.0))
    with SoundReader(path, sample_rate=16000, first_picture_s=0.0) as reader:
        assert reader.finish() == Coverage(pytest.approx(3.0, abs=0.07), pytest.approx(3.0, abs=0.07))


def test_sound_behind_damage_keeps_its_time(tmp_path: Path) -> None:
    sound = np.zeros((1, 48000), np.float32)
    sound[0, :16000] = tone(1.0)[0] / 10
    sound[0, 40000:40400] = 0.8  # the mark, at 2.5 s
    path = write_media(tmp_path / "a.mkv", numbered(75), sound=sound, sound_codec="mp2")
    with av.open(str(path)) as given:
        spots = [p.pos for p in given.demux(audio=0) if p.size and 1.2 < float(p.pts * p.time_base) < 1.8]
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(5)
    for spot in spots:
        content[spot + 8 : spot + 48] = rng.bytes(40)
    path.write_bytes(content)
    with SoundReader(path, sample_rate=16000, first_picture_s=0.0) as reader:
        wave = reader.read(0, 48000)
        coverage = reader.finish()
    assert onset_s(wave[32000:]) == pytest.approx(0.5, abs=0.02)
    assert coverage.read_s <= coverage.duration_s
    assert coverage.share > 0.7


def test_share_and_numbers_by_hand() -> None:
    half = Coverage(4.5, 9.0, "why")
    assert half.share == 0.5
    assert half.to_json() == {"read_s": 4.5, "duration_s": 9.0, "read_share": 0.5}
    assert Coverage(3.1, 3.0).share == 1.0
    assert Coverage(0.0, 0.0).share == 0.0
    read = FileRead(half, Coverage(1.0, 2.0, "why"), ("note",))
    assert read.missing == "why"
    assert FileRead(half, Coverage(1.0, 2.0, "other")).missing == "why; other"
    assert FileRead(Coverage(1.0, 1.0), None).missing is None
    assert read.to_json()["sound"] == {"read_s": 1.0, "duration_s": 2.0, "read_share": 0.5}


def test_the_true_cause_of_too_few_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    short = too_short_error(path, Coverage(1.5, 1.5), seconds=1.5, needed_s=2)
    assert (short.status, short.found) == ("too_short", f"{path}: 1.50 s of pictures, at least 2 s are needed")
    # It was too short when it was whole, too: another upload would not help.
    assert too_short_error(path, Coverage(1.0, 1.5, "cut"), seconds=1.0, needed_s=2).status == "too_short"
    cut = too_short_error(path, Coverage(1.5, 3.0, "cut"), seconds=1.5, needed_s=2)
    assert cut.status == "unreadable"
    assert "1.50 s of pictures can be read of 3.00 s: cut" in cut.found
    assert "whole file" in str(cut.fix)


def test_nothing_reaches_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, "libx264")
    damage(path, seed=1, num_places=6)
    decode(path, 2)
    assert capfd.readouterr() == ("", "")


def test_a_file_without_a_decodable_picture_says_why(tmp_path: Path) -> None:
    path = make(tmp_path, "mjpeg")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as given:
        for packet in [p for p in given.demux(video=0) if p.size]:
            assert packet.pos is not None
            start = content.index(b"\xff\xd8\xff", packet.pos)
            content[start : start + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    with pytest.raises(MediaError, match="not one picture of it can be decoded") as caught:
        list(read_frames(path, 25.0))
    assert caught.value.status == "unreadable"


HANDED = {
    # Pictures, seconds read, seconds there should be (by CASES.md), what is said.
    "base.mp4": (75, 3.0, 3.0, None),
    "base.ts": (75, 3.0, 3.0, None),
    "base.wmv": (75, 3.0, 3.0, None),
    "base.3gp": (75, 3.0, 3.0, None),
    "d11_half.mp4": (None, 4.5, 9.0, "it states 9.0 s and ends after 4."),
    "d11_corrupt.mp4": (None, 8.9, 9.0, "pictures are damaged, the first after 4.5 s"),
    "trunc70.mp4": (None, 1.9, 3.0, "it states 3.0 s and ends after 1.9 s"),
    "reset.ts": (150, 6.0, 6.0, None),
    "negts.mkv": (75, 3.0, 3.0, None),
}


@pytest.mark.parametrize("name", HANDED)
def test_handed_files(shared: Path, name: str) -> None:
    count, read_s, duration_s, missing = HANDED[name]
    path = shared / "cases" / name
    results = [decode(path, num_threads) for num_threads in THREADS]
    assert all(result == results[0] for result in results)
    pictures, coverage = results[0]
    assert count in (None, len(pictures))
    assert coverage.read_s == pytest.approx(read_s, abs=0.15)
    assert coverage.duration_s == pytest.approx(duration_s, abs=0.05)
    assert (coverage.missing is None) == (missing is None)
    assert missing is None or missing in str(coverage.missing)


def test_reading_goes_on_behind_the_damage(shared: Path) -> None:
    # The control without damage is not handed; the pictures behind it come every 40 ms up to the end.
    pictures, _ = decode(shared / "cases" / "d11_corrupt.mp4", 0)
    times = np.array([time_s for time_s, _ in pictures])
    assert times[-1] == pytest.approx(8.96, abs=0.001)
    assert (np.diff(times) < 0.2).all()
    numbers = [read_number(rgb) for _, _, rgb in read_frames(shared / "cases" / "d11_corrupt.mp4", 5.0)]
    assert len(numbers) == 45


def test_a_file_that_ends_early_is_said_once() -> None:
    ends = ("the file is incomplete: it states 9.0 s and ends after 4.6 s", "the file is incomplete: it states 9.0 s")
    both = FileRead(Coverage(4.6, 9.0, ends[0]), Coverage(4.5, 9.0, ends[1]))
    assert both.missing == ends[0]
    other = FileRead(Coverage(4.6, 9.0, ends[0]), Coverage(4.5, 9.0, "its sound jumps by 60 s and is not read behind"))
    assert other.missing == f"{ends[0]}; its sound jumps by 60 s and is not read behind"
