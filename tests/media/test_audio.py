"""Sound placed by timestamps: offsets, edit lists, drift, formats."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.errors import MediaError
from dfkit.media.audio import SoundReader, read_waveform
from dfkit.media.channels import to_mono
from dfkit.media.facts import probe
from dfkit.media.video import PictureReader, read_frames

from .media_files import numbered, read_number, tone, write_media


def beep_train(seconds: float, at_s: list[float], *, sample_rate: int, stretch: float = 1.0) -> np.ndarray:
    """(1, N) silence with 20 ms of 1 kHz from each time on; `stretch` is true seconds per nominal second."""
    wave = np.zeros(round(seconds * sample_rate / stretch), np.float32)
    beep = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(round(0.02 * sample_rate)) / sample_rate)
    for start_s in at_s:
        start = round(start_s * sample_rate / stretch)
        wave[start : start + len(beep)] = beep[: len(wave) - start]
    return wave[None]


def onset_s(waveform: np.ndarray, sample_rate: int = 16000) -> float:
    """Time at which the envelope first passes half its peak."""
    return float(np.argmax(np.abs(waveform) > 0.5 * np.abs(waveform).max()) / sample_rate)


def first_picture_s(path: Path) -> float:
    reader = PictureReader(path, 25.0)
    next(iter(reader))
    assert reader.first_picture_s is not None
    return reader.first_picture_s


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mpg", "a.mov"])
@pytest.mark.parametrize("offset_s", [0.0, 0.3, 1.1])
def test_start_offset(tmp_path: Path, name: str, offset_s: float) -> None:
    codecs = ("mpeg1video", "mp2") if name.endswith("mpg") else ("libx264", "aac")
    path = write_media(
        tmp_path / name,
        numbered(75),
        codec=codecs[0],
        sound=beep_train(2.5, [0.5], sample_rate=48000),
        sample_rate=48000,
        sound_codec=codecs[1],
        sound_start_s=offset_s,
    )
    facts = probe(path)
    wave = read_waveform(path, sample_rate=16000, first_picture_s=facts.first_picture_s, num_samples=48000)
    # 3 ms: the codecs smear the beep's first period; mkv rounds times to 1 ms.
    assert onset_s(wave) == pytest.approx(offset_s + 0.5, abs=0.003)
    assert facts.leading_silence_s == pytest.approx(offset_s + 0.5, abs=0.03)
    lead = read_waveform(
        path, sample_rate=16000, first_picture_s=facts.first_picture_s, num_samples=48000, lead_samples=1024
    )
    np.testing.assert_allclose(lead[1024:], wave[:-1024], atol=1e-6)


def test_sound_before_the_first_picture(tmp_path: Path) -> None:
    # Pictures from 0.4 s on, the beep at 0.1 s: it lies before time 0, and the samples there are real, not zeros.
    path = write_media(
        tmp_path / "a.mkv",
        numbered(50),
        times_s=[0.4 + i / 25 for i in range(50)],
        sound=beep_train(2.4, [0.35, 1.4], sample_rate=48000),
        sample_rate=48000,
    )
    start_s = first_picture_s(path)
    wave = read_waveform(path, sample_rate=16000, first_picture_s=start_s, num_samples=20000, lead_samples=1024)
    assert onset_s(wave[:1100]) == pytest.approx(0.35 - 0.4 + 0.064, abs=0.003)
    assert onset_s(wave[1500:]) == pytest.approx(1.4 - 0.4 + (1024 - 1500) / 16000, abs=0.003)


def test_edit_list_is_honoured(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "a.mp4",
        numbered(75),
        options={"preset": "ultrafast", "g": "5", "bf": "0"},
        sound=beep_train(3.0, [1.5], sample_rate=48000),
        sample_rate=48000,
    )
    before = [read_number(rgb) for _, _, rgb in read_frames(path, 25.0)]
    assert before == list(range(75))
    _start_later(path, 1.0)
    after = [read_number(rgb) for _, _, rgb in read_frames(path, 25.0)]
    assert after == list(range(25, 75))
    wave = read_waveform(path, sample_rate=16000, first_picture_s=first_picture_s(path), num_samples=32000)
    # FFmpeg cuts sound at whole packets of 21 ms but gives the samples their true time.
    assert onset_s(wave) == pytest.approx(0.5, abs=0.003)


def _start_later(path: Path, seconds: float) -> None:
    """Moves every track's edit list (ISO 14496-12, 8.6.6) by some seconds."""
    content = bytearray(path.read_bytes())
    position = 0
    scales = []
    while (position := content.find(b"mdhd", position)) > 0:
        scales.append(struct.unpack_from(">I", content, position + 16)[0])
        position += 4
    position = 0
    for scale in scales:
        position = content.index(b"elst", position)
        assert struct.unpack_from(">II", content, position + 4) == (0, 1), "version 0, one entry"
        duration, media_time = struct.unpack_from(">Ii", content, position + 12)
        # Movie durations are in 1/1000 s, media times in the track's own scale.
        struct.pack_into(
            ">Ii", content, position + 12, duration - round(seconds * 1000), media_time + round(seconds * scale)
        )
        position += 4
    path.write_bytes(content)


def test_ten_minutes_do_not_drift(tmp_path: Path) -> None:
    marks = [float(second) for second in range(30, 600, 60)]
    # A recorder whose clock runs 0.1 % slow: its timestamps say so, its nominal rate does not.
    stretch = 1.001
    path = _write_stretched(tmp_path / "a.mkv", beep_train(600, marks, sample_rate=44100, stretch=stretch), stretch)
    with SoundReader(path, sample_rate=16000, first_picture_s=0.0) as reader:
        for mark in marks:
            wave = reader.read(round((mark - 0.5) * 16000), 16000)
            # 10 ms is the most by which the reader lets samples run against their timestamps.
            assert onset_s(wave) == pytest.approx(0.5, abs=0.0125)


def _write_stretched(path: Path, sound: np.ndarray, stretch: float) -> Path:
    with av.open(str(path), "w") as out:
        audio = out.add_stream("pcm_s16le", rate=44100, layout="mono")
        for start in range(0, sound.shape[1], 4410):
            block = (sound[:, start : start + 4410] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "s16", "mono")
            frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
            frame.pts = round(start * stretch)
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return path


def test_plain_file_stays_in_step_for_ten_minutes(tmp_path: Path) -> None:
    marks = [float(second) for second in range(30, 600, 60)]
    pictures = (np.full((32, 32, 3), 255 if index % 300 == 150 else 0, np.uint8) for index in range(3000))
    path = write_media(
        tmp_path / "a.mp4", pictures, fps=5, sound=beep_train(600, marks, sample_rate=44100), sample_rate=44100
    )
    flashes = [t for _, t, rgb in read_frames(path, 5.0) if rgb.mean() > 128]
    assert flashes == pytest.approx(marks, abs=1e-6)
    with SoundReader(path, sample_rate=16000, first_picture_s=first_picture_s(path)) as reader:
        for mark in marks:
            assert onset_s(reader.read(round((mark - 0.5) * 16000), 16000)) == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_rates_and_channels(tmp_path: Path, sample_rate: int, channels: int) -> None:
    sound = np.repeat(tone(2.0, sample_rate=sample_rate), channels, axis=0)
    path = write_media(tmp_path / "a.mkv", numbered(50), sound=sound, sample_rate=sample_rate, sound_codec="flac")
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=32000)
    # 16 bit; the ends ring.
    np.testing.assert_allclose(wave[500:-500], tone(2.0)[0][500:-500], atol=1e-4)
    facts = probe(path)
    assert (facts.audio_sample_rate, facts.audio_channels) == (sample_rate, channels)


def test_stereo_is_the_mean(tmp_path: Path) -> None:
    sound = np.concatenate([tone(2.0, hz=440), 0 * tone(2.0)])
    path = write_media(tmp_path / "a.mkv", numbered(50), sound=sound, sound_codec="flac")
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=32000)
    # 16 bit: half a step of 1/32768, twice.
    np.testing.assert_allclose(wave[100:-100], tone(2.0)[0][100:-100] / 2, atol=5e-5)


@pytest.mark.parametrize("kind", ["u8", "s16", "s32", "flt", "dbl", "u8p", "s16p", "s32p", "fltp", "dblp"])
def test_sample_formats(kind: str) -> None:
    floats = np.array([[0.5, -0.25, 0.0, 0.75], [0.0, 0.25, 0.5, -0.25]])
    scale = {"u8": 128, "s16": 2**15, "s32": 2**31}.get(kind.removesuffix("p"), 1)
    dtype = {"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}[kind.removesuffix("p")]
    values = (floats * scale + (128 if kind.startswith("u8") else 0)).astype(dtype)
    stored = values if kind.endswith("p") else values.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stored), kind, "stereo")
    np.testing.assert_allclose(to_mono(frame), floats.mean(axis=0), atol=1e-6)


def test_reading_in_pieces_equals_one_pass(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sound = rng.normal(0, 0.1, (1, 44100 * 3)).astype(np.float32)
    path = write_media(tmp_path / "a.mp4", numbered(75), sound=sound, sample_rate=44100)
    whole = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=48000)
    with SoundReader(path, sample_rate=16000, first_picture_s=0.0) as reader:
        parts = [reader.read(start, 1600) for start in range(0, 48000, 1600)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.abs(whole).max() > 0.1


def test_no_sound_track(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", numbered(50))
    with pytest.raises(MediaError, match=r"a\.mp4: it has no sound track") as caught:
        read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=16000)
    assert caught.value.status == "no_audio"
    with pytest.raises(MediaError):
        probe(path)
    assert probe(path, allow_silent=True).audio_codec is None
