"""Recordings joined into one file, clocks that jump or lie, pictures without times, sound that changes its rate."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.media.audio import SoundReader
from dfkit.media.coverage import Coverage, read_notes
from dfkit.media.stream import read_clips
from dfkit.media.survey import survey_file
from dfkit.media.video import PictureDecoder, PictureReader, read_frames

from .face_cases import synthetic_head
from .media_files import numbered, read_number, tone, write_media
from .test_audio import beep_train

FAST = {"preset": "ultrafast", "bf": "0", "g": "10", "crf": "12"}


def part(
    path: Path, first: int, count: int, *, start_s: float = 0.0, hz: float = 440.0, sample_rate: int = 48000
) -> Path:
    """`count` numbered pictures from `first` on, at 25 a second, with a tone as long."""
    pictures = list(numbered(first + count))[first:]
    return write_media(
        path,
        pictures,
        times_s=[start_s + i / 25 for i in range(count)],
        options=FAST,
        sound=tone(count / 25, hz=hz, sample_rate=sample_rate),
        sample_rate=sample_rate,
        sound_start_s=start_s,
    )


def join(path: Path, parts: list[Path]) -> Path:
    path.write_bytes(b"".join(each.read_bytes() for each in parts))
    return path


def numbers(path: Path) -> list[int]:
    return [read_number(rgb) for _, _, rgb in read_frames(path, 25.0)]


def read_all(path: Path) -> tuple[PictureReader, np.ndarray, Coverage]:
    """Reads everything; the reader after the pictures, the sound against them, and how much of it was read."""
    reader = PictureReader(path, 25.0)
    count = sum(1 for _ in reader)
    with SoundReader(path, sample_rate=16000, first_picture_s=reader.first_picture_s or 0.0) as sound:
        return reader, sound.read(0, round(count / 25 * 16000)), sound.finish()


def hz_of(waveform: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(waveform))) * 16000 / len(waveform))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_three_recordings_whose_clock_starts_again(tmp_path: Path, suffix: str) -> None:
    if suffix == "ts":
        parts = [part(tmp_path / f"{n}.ts", n * 50, 50, hz=300 + 200 * n) for n in range(3)]
    else:
        parts = [
            write_media(
                tmp_path / f"{n}.mpg",
                list(numbered(n * 50 + 50))[n * 50 :],
                codec="mpeg1video",
                options={"b": "2000000"},
                sound=tone(2.0, hz=300 + 200 * n, sample_rate=48000),
                sample_rate=48000,
                sound_codec="mp2",
            )
            for n in range(3)
        ]
    path = join(tmp_path / f"joined.{suffix}", parts)
    reader, wave, sound = read_all(path)
    assert numbers(path) == list(range(150))
    assert reader.coverage.missing is None
    assert (reader.coverage.read_s, reader.coverage.duration_s) == pytest.approx((6.0, 6.0), abs=0.05)
    assert len(reader.survey.segments) == 3
    assert {p.segment for p in PictureDecoder(survey_file(path))} == {0, 1, 2}
    # Each part's sound lies under its own pictures.
    assert [round(hz_of(wave[s : s + 24000]), -1) for s in (4000, 36000, 68000)] == [300, 500, 700]
    assert sound.share > 0.97
    (note,) = read_notes(reader.survey, reader.survey.sound_tracks[0])
    assert note.startswith("3 recordings joined at 2.0 s, 4.0 s")


@pytest.mark.parametrize("jump_s", [60.0, 3600.0])
def test_a_clock_that_jumps(tmp_path: Path, jump_s: float) -> None:
    first, second = part(tmp_path / "a.ts", 0, 50, hz=300), part(tmp_path / "b.ts", 50, 50, start_s=2 + jump_s, hz=700)
    path = join(tmp_path / "joined.ts", [first, second])
    reader, wave, sound = read_all(path)
    assert numbers(path) == list(range(100))
    assert (reader.coverage.read_s, reader.coverage.duration_s) == pytest.approx((4.0, 4.0), abs=0.05)
    assert reader.coverage.missing is None
    assert len(reader.survey.segments) == 2
    assert [round(hz_of(wave[s : s + 24000]), -1) for s in (4000, 36000)] == [300, 700]
    assert sound.share > 0.97


def test_a_pause_is_no_joint(tmp_path: Path) -> None:
    # Six seconds without a picture in one recording, as at 0.1 pictures a second: the clock is right.
    times = [*(i / 25 for i in range(25)), *(7 + i / 25 for i in range(25))]
    path = write_media(tmp_path / "a.mkv", numbered(50), times_s=times)
    survey = survey_file(path)
    assert len(survey.segments) == 1
    assert survey.pictures_s == pytest.approx(8.0, abs=0.05)
    assert len(numbers(path)) == 200


@pytest.mark.parametrize("rates", [(44100, 48000), (48000, 44100), (48000, 16000, 44100)])
def test_sound_that_changes_its_rate(tmp_path: Path, rates: tuple[int, ...]) -> None:
    parts = []
    for number, rate in enumerate(rates):
        sound = beep_train(2.0, [0.5, 1.5], sample_rate=rate)
        pictures = list(numbered(50 * number + 50))[50 * number :]
        times = [10 + 2 * number + i / 25 for i in range(50)]
        parts.append(
            write_media(
                tmp_path / f"{number}.ts",
                pictures,
                times_s=times,
                options=FAST,
                sound=sound,
                sample_rate=rate,
                sound_start_s=10.0 + 2 * number,
            )
        )
    path = join(tmp_path / "joined.ts", parts)
    reader, wave, sound = read_all(path)
    assert numbers(path) == list(range(50 * len(rates)))
    assert len(reader.survey.segments) == 1
    loud = np.flatnonzero(np.abs(wave) > 0.2)
    starts = [loud[0], *(b for a, b in pairwise(loud) if b - a > 4000)]
    # In step with the pictures at every rate: 10 ms is the most by which samples may run against their times, and
    # AAC smears the beep's first period.
    expected = [n * 2 + at for n in range(len(rates)) for at in (0.5, 1.5)]
    assert np.array(starts) / 16000 == pytest.approx(expected, abs=0.0125)
    assert sound.missing is None
    assert sound.share == 1.0


def remux(source: Path, path: Path, edit: dict[int, int]) -> Path:
    """Copies pictures; packet n gets another time to be shown at, in 1 / 90,000 s."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(p for p in given.demux(given.streams.video[0]) if p.size):
            packet.stream = stream
            if number in edit:
                packet.pts = edit[number]
            out.mux(packet)
    return path


@pytest.mark.parametrize("lie_s", [100.0, 86_400.0])
def test_a_stray_time_to_be_shown_at(tmp_path: Path, lie_s: float) -> None:
    source = write_media(tmp_path / "a.ts", numbered(60), options=FAST)
    path = remux(source, tmp_path / "b.ts", {30: round((lie_s + 1.4) * 90_000)})
    # One picture is lost, the one before it shown for it; all others are where they were.
    assert numbers(path) == [29 if n == 30 else n for n in range(60)]
    assert len(survey_file(path).segments) == 1


def patch_times(path: Path, number: int, seconds: float) -> None:
    """Gives one picture of a transport stream another time, to be decoded and shown at (ISO 13818-1, 2.4.3.7)."""
    content = bytearray(path.read_bytes())
    position = seen = 0
    while (position := content.find(b"\0\0\1\xe0", position)) >= 0:
        if seen == number:
            ticks = round(seconds * 90_000)
            flags = content[position + 7] >> 6
            for at in range(1 + (flags == 3)):
                field = position + 9 + 5 * at
                content[field] = content[field] & 0xF1 | (ticks >> 30 & 7) << 1
                content[field + 1 : field + 5] = bytes(
                    [ticks >> 22 & 255, (ticks >> 15 & 127) << 1 | 1, ticks >> 7 & 255, (ticks & 127) << 1 | 1]
                )
            break
        seen, position = seen + 1, position + 4
    assert seen == number
    path.write_bytes(content)


@pytest.mark.parametrize("lie_s", [0.0, 200.0, 20_000.0])
def test_a_stray_clock(tmp_path: Path, lie_s: float) -> None:
    path = write_media(tmp_path / "a.ts", numbered(100), options=FAST)
    patch_times(path, 60, lie_s)
    survey = survey_file(path)
    assert len(survey.segments) == 1
    assert numbers(path) == [59 if n == 60 else n for n in range(100)]
    decoder = PictureDecoder(survey)
    assert sum(1 for _ in decoder) == 99
    assert decoder.coverage.share > 0.98


def test_a_stray_clock_in_the_second_of_two_recordings(tmp_path: Path) -> None:
    first, second = (part(tmp_path / f"{n}.ts", n * 50, 50) for n in range(2))
    patch_times(second, 20, 500.0)
    path = join(tmp_path / "joined.ts", [first, second])
    assert len(survey_file(path).segments) == 2
    assert numbers(path) == [69 if n == 70 else n for n in range(100)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_without_times(tmp_path: Path, codec: str) -> None:
    # AVI keeps none of their own; a bare stream none at all.
    options = FAST if codec == "libx264" else {"b": "3000000"}
    for suffix in ("avi", "h264") if codec == "libx264" else ("avi",):
        path = write_media(tmp_path / f"a.{suffix}", numbered(60), codec=codec, options=options)
        assert numbers(path) == list(range(60)), suffix
        decoder = PictureDecoder(survey_file(path))
        assert sum(1 for _ in decoder) == 60
        assert decoder.coverage.missing is None
        assert decoder.coverage.read_s == pytest.approx(2.4, abs=0.05)


def test_the_first_half_without_times(tmp_path: Path) -> None:
    source = write_media(tmp_path / "a.ts", numbered(60), options=FAST)
    with av.open(str(source)) as given:
        packets = [bytes(p) for p in given.demux(given.streams.video[0]) if p.size]
    assert len(packets) == 60
    path = tmp_path / "b.h264"
    path.write_bytes(b"".join(packets))
    assert numbers(path) == list(range(60))


def test_a_clock_that_begins_below_zero(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", numbered(50), times_s=[1 + i / 25 for i in range(50)])
    assert numbers(path) == list(range(50))


def test_a_joint_is_another_scene(tmp_path: Path) -> None:
    # The same head twice: only the joint tells that the second is another recording.
    heads = list(synthetic_head(60))
    parts = [
        write_media(tmp_path / f"{n}.ts", heads, options=FAST, sound=tone(2.4, sample_rate=48000), sample_rate=48000)
        for n in range(2)
    ]
    path = join(tmp_path / "joined.ts", parts)
    clips = [(clip.start_index, clip.track_id) for clip in read_clips(path)]
    # 120 pictures; clips that would hold the joint at 60 are left out: from 25 and 50.
    assert clips == [(0, 0), (70, 1)]


def test_handed_files(shared: Path) -> None:
    reader, wave, sound = read_all(shared / "cases" / "reset.ts")
    assert reader.coverage == Coverage(pytest.approx(6.0), pytest.approx(6.0))
    assert [round(s.start_s + s.offset_s - reader.survey.segments[0].start_s, 2) for s in reader.survey.segments] == [
        0,
        3,
    ]
    # What sounds behind the last picture of the first is cut off.
    assert sound.share > 0.99
    assert np.abs(wave[:48000]).max() > 0.1
    assert np.abs(wave[48000:]).max() > 0.1
    base = [rgb for _, _, rgb in read_frames(shared / "cases" / "base.mp4", 25.0)]
    found = [rgb for _, _, rgb in read_frames(shared / "cases" / "negts.mkv", 25.0)]
    assert len(found) == len(base) == 75
    # Each picture where it is in the control, not one beside.
    for index in (3, 20, 36, 37, 38, 60):
        errors = [np.abs(found[index].astype(int) - base[n]).mean() for n in (index - 1, index, index + 1)]
        assert min(errors) == errors[1] < 4, index
