from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfkit.errors import ConfigError, ShapeError
from dfkit.media.audio import SoundReader
from dfkit.media.video import pick_nearest
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.stream import GridPicker, PushedSound
from tests.media.media_files import tone, write_media


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number % 251, np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_pushed_pictures_go_to_the_same_grid_points_as_a_files(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fps = (10, 24, 29.97, 120)[seed % 4]
    # Variable frame rate: steps between half and twice the nominal one, now and then a hole.
    steps = rng.uniform(0.5, 2, 80) / fps + (rng.random(80) < 0.05) * 0.7
    times = 3.21 + np.concatenate([[0], np.cumsum(steps)])
    last_s = 1 / fps
    durations = [*np.diff(times), last_s]
    items = [(float(t), float(d), n) for n, (t, d) in enumerate(zip(times, durations, strict=True))]
    expected = list(pick_nearest(items, 25.0))
    picker = GridPicker(25.0)
    served = [p for n, t in enumerate(times) for p in picker.push(float(t), picture(n))]
    served += picker.finish(last_s)
    assert [(index, int(rgb[0, 0, 0])) for index, _, rgb in served] == expected
    assert [t for _, t, _ in served] == pytest.approx([times[n] - times[0] for _, n in expected])


def test_pictures_must_come_in_order() -> None:
    picker = GridPicker(25.0)
    picker.push(1.0, picture(0))
    with pytest.raises(ConfigError, match="order of time"):
        picker.push(1.0, picture(1))


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_pushed_sound_equals_a_files(tmp_path: Path, rate: int) -> None:
    rng = np.random.default_rng(rate)
    waveform = tone(1.5, hz=300, sample_rate=rate)[0] + 0.1 * rng.standard_normal(round(1.5 * rate)).astype(np.float32)
    path = write_media(tmp_path / "a.mkv", sound=waveform[None], sample_rate=rate, sound_codec="pcm_f32le")
    pushed = PushedSound(rate, 16000)
    pushed.first_picture_s = 0.25
    for block in np.split(waveform, np.sort(rng.choice(len(waveform), 9, replace=False))):
        pushed.push(block, None if pushed.has(-(10**6)) else 0.0)
    pushed.end()
    with SoundReader(path, sample_rate=16000, first_picture_s=0.25) as sound:
        for start in (-4100, -1024, 3000, 15000, 60000):
            # Sums over blocks of another length may round differently: a few units of float32 at level 1.
            assert np.abs(pushed.read(start, 5000) - sound.read(start, 5000)).max() <= 2e-6


def test_late_and_missing_blocks_are_placed_by_their_time() -> None:
    pushed = PushedSound(16000, 16000)
    pushed.first_picture_s = 0.0
    ones = np.ones(1600, np.float32)
    pushed.push(ones, 0.0)
    pushed.push(2 * ones, 0.15)  # 0.05 s are missing
    pushed.push(3 * ones, 0.20)  # 0.05 s come twice: cut off
    assert pushed.has(1600 + 800 + 1600) and not pushed.has(4801)
    pushed.end()
    assert pushed.has(10**9)
    # Away from the jumps the 1:1 resampler gives what went in.
    heard = pushed.read(0, 5600)
    assert heard[800] == pytest.approx(1, abs=0.01) and heard[2000] == pytest.approx(0, abs=0.01)
    assert heard[3200] == pytest.approx(2, abs=0.01) and heard[4400] == pytest.approx(3, abs=0.01)
    assert not heard[4900:].any()


def test_sound_of_wrong_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 Hz"):
        PushedSound(0, 16000)
    pushed = PushedSound(48000, 16000)
    with pytest.raises(ConfigError, match="no time"):
        pushed.push(np.zeros(10, np.float32))
    with pytest.raises(ShapeError, match="int16"):
        pushed.push(np.zeros(10, np.int16), 0.0)
    pushed.push(np.zeros((10, 2), np.float32), 0.0)
    pushed.end()
    with pytest.raises(ConfigError, match="after the end"):
        pushed.push(np.zeros(10, np.float32))


def test_pictures_of_wrong_kind_are_refused(tiny_bundle: Bundle) -> None:
    stream = Detector(tiny_bundle).open_stream()
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ShapeError, match="uint8"):
            stream.push_picture(0.0, wrong)
    assert stream.finish() == []


def test_a_stream_whose_sound_never_comes_says_so(tiny_bundle: Bundle, shared: Path) -> None:
    from dfkit.media.video import PictureReader

    stream = Detector(tiny_bundle).open_stream()
    pictures = [rgb for _, _, rgb in PictureReader(shared / "clips" / "lipnet-bbaf2n.mpg", 25.0)]
    with pytest.raises(ConfigError, match="lags"):
        # 12 s and the look-ahead: the first clip is complete at 2 s and waits for 10 s.
        for index in range(16 * 25):
            stream.push_picture(index / 25, pictures[index % len(pictures)])
