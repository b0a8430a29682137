"""Which of a file's streams is the film, and which its sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from dfkit.errors import MediaError
from dfkit.media.audio import SoundReader, choose_sound
from dfkit.media.coverage import read_notes
from dfkit.media.facts import probe
from dfkit.media.survey import survey_file
from dfkit.media.uniform50 import read_sound
from dfkit.media.video import read_frames

from .media_files import numbered, read_number, tone


@dataclass
class Track:
    """A stream to be written: pictures, or sound of one channel."""

    pictures: list[np.ndarray] = field(default_factory=list)
    sound: np.ndarray | None = None
    codec: str = "libx264"
    disposition: int = 0
    language: str | None = None
    title: str | None = None


def write_tracks(path: Path, tracks: list[Track]) -> Path:
    """Writes streams in the order given; empty ones get a header only."""
    with av.open(str(path), "w") as out:
        streams = []
        for track in tracks:
            if track.sound is None:
                stream = out.add_stream(track.codec, rate=25)
                size = track.pictures[0].shape[:2] if track.pictures else (64, 96)
                stream.height, stream.width = size
                stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            else:
                stream = out.add_stream("aac", rate=16000, layout="mono")
            stream.disposition = Disposition(track.disposition)
            for key, value in (("language", track.language), ("title", track.title)):
                if value:
                    stream.metadata[key] = value
            streams.append(stream)
        for stream, track in zip(streams, tracks, strict=True):
            for index, rgb in enumerate(track.pictures):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(stream.encode(frame))
            for start in range(0, 0 if track.sound is None else track.sound.shape[1], 1024):
                block = np.ascontiguousarray(track.sound[:, start : start + 1024], np.float32)
                frame = av.AudioFrame.from_ndarray(block, "fltp", "mono")
                frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), start
                out.mux(stream.encode(frame))
            if track.pictures or (track.sound is not None and track.sound.shape[1]):
                out.mux(stream.encode(None))
    return path


def film(count: int = 50, **options: object) -> Track:
    return Track(pictures=list(numbered(count)), **options)


def cover(**options: object) -> Track:
    return Track(pictures=[np.full((128, 128, 3), 200, np.uint8)], codec="mjpeg", **options)


def voice(hz: float, **options: object) -> Track:
    return Track(sound=tone(2.0, hz=hz), **options)


def silence(**options: object) -> Track:
    return Track(sound=np.zeros((1, 32000), np.float32), **options)


EMPTY = np.zeros((1, 0), np.float32)


def numbers(path: Path) -> list[int]:
    return [read_number(rgb) for _, _, rgb in read_frames(path, 25.0)]


def heard_hz(path: Path) -> float:
    with SoundReader(path, sample_rate=16000, first_picture_s=0.0) as reader:
        spectrum = np.abs(np.fft.rfft(reader.read(8000, 16000)))
    found = float(np.argmax(spectrum))
    whole = np.abs(np.fft.rfft(read_sound(path, 16000)[8000:24000]))
    assert float(np.argmax(whole)) == found, "both samplings hear one track"
    return found


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("disposition", [0, int(Disposition.default), int(Disposition.attached_pic)])
def test_a_cover_is_not_the_film(tmp_path: Path, suffix: str, disposition: int) -> None:
    path = write_tracks(tmp_path / f"a.{suffix}", [cover(disposition=disposition), film(), voice(440)])
    assert numbers(path) == list(range(50))
    assert probe(path).num_frames == 50


def test_a_cover_alone_is_one_picture(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [cover(), voice(440)])
    assert sum(1 for _ in read_frames(path, 25.0)) <= 1


def test_an_attached_picture_alone_is_no_film(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mp4", [voice(440), cover(disposition=int(Disposition.attached_pic))])
    if survey_file(path).video_index is None:
        with pytest.raises(MediaError, match="it has no moving picture"):
            numbers(path)
    else:  # a muxer that does not keep the flag leaves a stream of one picture
        assert len(numbers(path)) <= 1


def test_the_default_film_goes_before_the_first(tmp_path: Path) -> None:
    inverse = Track(pictures=[255 - rgb for rgb in numbered(50)], disposition=0)
    path = write_tracks(tmp_path / "a.mkv", [inverse, film(disposition=int(Disposition.default))])
    assert survey_file(path).video_index == 1
    assert numbers(path) == list(range(50))
    path = write_tracks(tmp_path / "b.mkv", [film(), inverse])
    assert survey_file(path).video_index == 0


def test_a_film_without_pictures_is_passed_over(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [Track(disposition=int(Disposition.default)), film()])
    assert numbers(path) == list(range(50))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_default_sound_goes_before_the_first(tmp_path: Path, suffix: str) -> None:
    default = int(Disposition.default)
    tracks = [film(), voice(300), voice(500, disposition=default, language="eng"), voice(700)]
    path = write_tracks(tmp_path / f"a.{suffix}", tracks)
    assert heard_hz(path) == 500
    survey = survey_file(path)
    note = read_notes(survey, choose_sound(survey))
    assert note == ("3 sound tracks: heard track 2 (eng, default), not track 1, track 3",)


def test_without_a_default_the_first_is_heard(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [film(), voice(300, title="studio"), voice(500)])
    survey = survey_file(path)
    assert heard_hz(path) == 300
    assert read_notes(survey, choose_sound(survey)) == ("2 sound tracks: heard track 1 (studio), not track 2",)


def test_a_silent_default_track_does_not_win(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [film(), silence(disposition=int(Disposition.default)), voice(500)])
    assert heard_hz(path) == 500


def test_an_empty_track_does_not_win(tmp_path: Path) -> None:
    empty = Track(sound=EMPTY, disposition=int(Disposition.default))
    path = write_tracks(tmp_path / "a.mkv", [film(), empty, voice(500)])
    assert heard_hz(path) == 500
    assert [track.index for track in survey_file(path).sound_tracks] == [2]
    only_empty = write_tracks(tmp_path / "b.mkv", [film(), Track(sound=EMPTY)])
    with pytest.raises(MediaError, match="it has no sound track") as caught:
        heard_hz(only_empty)
    assert caught.value.status == "no_audio"


def test_two_silent_tracks_are_silence(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [film(), silence(), silence()])
    with pytest.raises(MediaError, match="digital silence") as caught:
        heard_hz(path)
    assert caught.value.status == "no_audio"


def test_one_track_needs_no_note(tmp_path: Path) -> None:
    survey = survey_file(write_tracks(tmp_path / "a.mkv", [film(), voice(300)]))
    assert read_notes(survey, choose_sound(survey)) == ()
    assert read_notes(survey, None) == ()


def test_sound_before_the_film_in_order(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mp4", [voice(300), film()])
    assert numbers(path) == list(range(50))
    assert heard_hz(path) == 300


def test_handed_files(shared: Path) -> None:
    cases = shared / "cases"
    base = [rgb for _, _, rgb in read_frames(cases / "base.mp4", 25.0)]
    film_of_cover = [rgb for _, _, rgb in read_frames(cases / "cover_plain.mkv", 25.0)]
    assert len(film_of_cover) == len(base) == 75
    assert np.abs(film_of_cover[40].astype(int) - base[40]).mean() < 3
    survey = survey_file(cases / "twotracks_silent_first.mp4")
    track = choose_sound(survey)
    assert track is not None
    assert (track.index, track.is_default) == (2, True)
    with (
        SoundReader(survey.path, sample_rate=16000, first_picture_s=0.0) as two,
        SoundReader(cases / "base.mp4", sample_rate=16000, first_picture_s=0.0) as one,
    ):
        assert np.corrcoef(two.read(0, 48000), one.read(0, 48000))[0, 1] > 0.99
