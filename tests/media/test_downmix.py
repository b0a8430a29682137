"""Sound of many channels becomes one as a player mixes it: a voice in the centre keeps its level."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.errors import MediaError
from dfkit.media.audio import SoundReader, read_waveform
from dfkit.media.channels import mix_weights, to_mono
from dfkit.media.facts import probe
from dfkit.media.uniform50 import read_sound

from .media_files import numbered, tone, write_media

LAYOUTS = {
    "mono": ("FC",),
    "stereo": ("FL", "FR"),
    "2.1": ("FL", "FR", "LFE"),
    "3.0": ("FL", "FR", "FC"),
    "quad": ("FL", "FR", "BL", "BR"),
    "5.0": ("FL", "FR", "FC", "BL", "BR"),
    "5.1": ("FL", "FR", "FC", "LFE", "BL", "BR"),
    "5.1(side)": ("FL", "FR", "FC", "LFE", "SL", "SR"),
    "7.1": ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""FFmpeg's layouts and their channels in order."""
SHARE = {
    "FC": 1.0,
    "FL": 0.5,
    "FR": 0.5,
    "LFE": 0.0,
    **dict.fromkeys(("BL", "BR", "SL", "SR"), 0.5 * 10 ** (-3.01 / 20)),
}
"""By hand: what is beside or behind is 3 dB below left and right (ITU-R BS.775, table 2); no bass."""


def level_db(waveform: np.ndarray) -> float:
    """RMS, dBFS."""
    return float(10 * np.log10(np.square(waveform, dtype=np.float64).mean()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_channel_has_its_share(layout: str) -> None:
    names = LAYOUTS[layout]
    for loud, name in enumerate(names):
        values = np.zeros((len(names), 64), np.float32)
        values[loud] = 0.5
        frame = planar_frame(values, layout)
        assert tuple(channel.name for channel in frame.layout.channels) == names
        expected = 0.5 * (1.0 if layout == "mono" else SHARE[name])
        np.testing.assert_allclose(to_mono(frame), expected, atol=1e-4)


def planar_frame(values: np.ndarray, layout: str) -> av.AudioFrame:
    """(channels, N) float32 in a plane each. Not `from_ndarray`: of eight planes PyAV 18 fills a ninth."""
    frame = av.AudioFrame(format="fltp", layout=layout, samples=values.shape[1])
    for plane, channel in zip(frame.planes, values, strict=False):
        plane.update(channel.tobytes().ljust(plane.buffer_size, b"\0"))
    return frame


def test_unknown_channels_are_shared_equally() -> None:
    assert mix_weights(("AMBI0", "AMBI1", "AMBI2", "AMBI3")).tolist() == [0.25] * 4
    assert mix_weights(("FL", "X")).tolist() == [0.5, 0.5]
    # A layout of bass alone is heard, not left out.
    assert mix_weights(("LFE",)).tolist() == [1.0]
    assert mix_weights(("LFE", "LFE2")).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_voice_keeps_its_level(tmp_path: Path, layout: str) -> None:
    # In the centre where there is one, else shared by left and right.
    names = LAYOUTS[layout]
    voice = tone(1.0, sample_rate=48000)[0]
    where = [names.index("FC")] if "FC" in names else [0, 1]
    sound = np.zeros((len(names), len(voice)), np.float32)
    sound[where] = voice
    path = write_media(
        tmp_path / "a.mkv", numbered(25), sound=sound, sample_rate=48000, sound_codec="flac", layout=layout
    )
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=16000)
    assert level_db(wave[1000:-1000]) == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.05)
    np.testing.assert_allclose(wave[500:-500], tone(1.0)[0][500:-500], atol=1e-3)
    assert probe(path).audio_channels == len(names)


@pytest.mark.parametrize(("layout", "codec"), [("5.1", "aac"), ("7.1", "aac"), ("5.1", "ac3"), ("quad", "libopus")])
def test_a_voice_keeps_its_level_in_what_phones_and_films_use(tmp_path: Path, layout: str, codec: str) -> None:
    names = LAYOUTS[layout]
    sound = np.zeros((len(names), 96000), np.float32)
    sound[[names.index("FC")] if "FC" in names else [0, 1]] = tone(2.0, sample_rate=48000)
    path = write_media(
        tmp_path / "a.mkv", numbered(50), sound=sound, sample_rate=48000, sound_codec=codec, layout=layout
    )
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=32000)
    assert level_db(wave[2000:-2000]) == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.5)


def test_noise_around_does_not_drown_a_voice(tmp_path: Path) -> None:
    # In 5.1 the mean of six channels would be 15.6 dB below the voice.
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.01, (6, 48000)).astype(np.float32)
    sound[2] = tone(1.0, sample_rate=48000)[0]
    sound[3] = 0.9  # bass
    path = write_media(
        tmp_path / "a.mkv", numbered(25), sound=sound, sample_rate=48000, sound_codec="flac", layout="5.1"
    )
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=16000)
    assert level_db(wave[1000:-1000]) == pytest.approx(level_db(tone(1.0)), abs=0.1)


@pytest.mark.parametrize("codec", ["flac", "aac", "libopus", "mp2", "ac3"])
def test_channels_that_cancel_out_are_no_sound(tmp_path: Path, shared: Path, codec: str) -> None:
    # Speech: what coders change is not the same in both channels, and is more than zeros.
    voice = read_waveform(shared / "cases" / "base.mp4", sample_rate=48000, first_picture_s=0.0, num_samples=144000)
    sound = np.stack([voice, -voice])
    path = write_media(tmp_path / "a.mkv", numbered(75), sound=sound, sample_rate=48000, sound_codec=codec)
    for read in (
        lambda: SoundReader(path, sample_rate=16000, first_picture_s=0.0).__enter__(),
        lambda: read_sound(path, 16000),
    ):
        with pytest.raises(MediaError, match="digital silence: muted, or the channels cancel each other out") as caught:
            read()
        assert caught.value.status == "no_audio"


def test_channels_that_nearly_cancel_out_are_sound(tmp_path: Path) -> None:
    # One channel was turned over and is 1 dB quieter: 25 dB below what the channels hold, and a voice.
    voice = tone(2.0, sample_rate=48000)
    sound = np.concatenate([voice, -voice * 10 ** (-1 / 20)])
    path = write_media(tmp_path / "a.mkv", numbered(50), sound=sound, sample_rate=48000, sound_codec="flac")
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=32000)
    expected = level_db(voice) + 20 * np.log10((1 - 10 ** (-1 / 20)) / 2)
    assert level_db(wave[1000:-1000]) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("level", [0.0, 0.5 / 32768, 3 / 32768])
def test_zeros_and_dither_are_no_sound(tmp_path: Path, level: float) -> None:
    noise = np.random.default_rng(1).choice([-1.0, 1.0], (1, 32000)).astype(np.float32) * level
    path = write_media(tmp_path / "a.mkv", numbered(50), sound=noise, sound_codec="flac")
    with pytest.raises(MediaError, match="digital silence") as caught:
        read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=32000)
    assert caught.value.status == "no_audio"


def test_the_quietest_sound_is_sound(tmp_path: Path) -> None:
    # A distant voice 70 dB below full scale, after a second of zeros.
    sound = np.concatenate([np.zeros((1, 16000), np.float32), tone(1.0, level=10 ** (-70 / 20))], axis=1)
    path = write_media(tmp_path / "a.mkv", numbered(50), sound=sound, sound_codec="flac")
    wave = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=32000)
    assert np.abs(wave[16000:]).max() == pytest.approx(10 ** (-70 / 20), rel=0.15)  # 16 bit


def test_handed_voice_in_the_centre(shared: Path) -> None:
    base, mixed = (
        read_waveform(shared / "cases" / name, sample_rate=16000, first_picture_s=0.0, num_samples=48000)
        for name in ("base.mp4", "surround51.mp4")
    )
    assert level_db(mixed) == pytest.approx(level_db(base), abs=0.5)
    # Not only as loud but the same: coded twice.
    assert np.corrcoef(base, mixed)[0, 1] > 0.99


def test_handed_track_of_zeros(shared: Path) -> None:
    with pytest.raises(MediaError, match="digital silence") as caught:
        read_waveform(shared / "cases" / "zeros.mp4", sample_rate=16000, first_picture_s=0.0, num_samples=16000)
    assert caught.value.status == "no_audio"
