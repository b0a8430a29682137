from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import ConfigError, ShapeError
from dfkit.media.audio import SoundReader
from dfkit.media.picture import Picture
from dfkit.media.stream import FaceFrame
from dfkit.media.video import pick_nearest
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.scoring import ClipScorer
from dfkit.runtime.stream import DetectorStream, GridPicker, GridStream, PushedSound
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


def test_a_late_picture_leaves_the_grid_of_those_behind_it_alone() -> None:
    """The refused picture took the place of the last one: those behind it were served a grid place too early."""
    picker = GridPicker(25.0)
    served = []
    for number, t_s in enumerate((0.0, 0.04, 0.08, 0.02, 0.12, 0.16)):
        if t_s == 0.02:
            with pytest.raises(ConfigError, match="order of time"):
                picker.push(t_s, picture(number))
        else:
            served += picker.push(t_s, picture(number))
    served += picker.finish()
    # Each picture lies on a grid point of its own: 0, 0.04, 0.08, 0.12 and 0.16 s are places 0 to 4.
    assert [(index, int(rgb[0, 0, 0])) for index, _, rgb in served] == [(0, 0), (1, 1), (2, 2), (3, 4), (4, 5)]
    assert [t_s for _, t_s, _ in served] == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])


@pytest.mark.parametrize("t_s", [float("nan"), float("inf"), 3600.0])
def test_a_picture_of_another_clock_is_refused_before_it_fills_the_grid(t_s: float) -> None:
    """A picture an hour ahead was led up to by 90,000 copies of the one before it; NaN as the first time was taken."""
    picker = GridPicker(25.0)
    picker.push(0.0, picture(0))
    with pytest.raises(ConfigError, match=r"order of time|10 s at most"):
        picker.push(t_s, picture(1))
    assert [index for index, _, _ in picker.push(0.04, picture(2))] == [0]


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
    from dfkit.media.video import read_frames

    stream = Detector(tiny_bundle).open_stream()
    pictures = [rgb for _, _, rgb in read_frames(shared / "clips" / "lipnet-bbaf2n.mpg", 25.0)]
    with pytest.raises(ConfigError, match="lags"):
        # 12 s and the look-ahead: the first clip is complete at 2 s and waits for 10 s.
        for index in range(16 * 25):
            stream.push_picture(index / 25, pictures[index % len(pictures)])


FPS, RATE = 25, 48000
BLOCK = RATE // FPS
"""Sound of one picture."""


class MadeFaces:
    """A tracker that sees its one face in every picture, or nobody."""

    def __init__(self, *, seen: bool) -> None:
        self._seen = seen

    def push(
        self, index: int, t_s: float, picture: Picture, *, shrink: int = 1, tracked: object = None
    ) -> list[FaceFrame]:
        rgb = picture.planes[0]
        final = index - CLIP2S.look_ahead_frames
        if not self._seen or final < 0:
            return []
        return [FaceFrame(0, final, final / FPS, rgb, rgb, np.zeros((468, 2), np.float32), False, 0)]

    def flush(self) -> Iterator[FaceFrame]:
        return iter(())


class MeanGraphs:
    """A model whose logit of fake is the mean level of the clip's sound."""

    name, recipe, num_threads = "tflite", "fp32", 1

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"face_features": np.zeros((1, 4), np.float32)}

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((50, 2), np.float32), np.array([0, np.abs(inputs["pcm"]).mean()], np.float32)


def made_stream(*, face: bool) -> DetectorStream:
    sound = PushedSound(RATE, CLIP2S.audio.sample_rate)
    graphs: Any = MeanGraphs()
    scorer = ClipScorer(graphs, CLIP2S, sound, calibration_temperature=1.0, where="by hand")
    faces: Any = MadeFaces(seen=face)
    return DetectorStream(GridStream(faces, scorer, CLIP2S), scorer, sound, fps=FPS)


def bytes_of_arrays() -> int:
    """Of all of numpy's arrays that were made since tracing began and are still there."""
    only = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([only]).traces)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number: bytes of all arrays that were joined from others."""
    total = [0]
    plain = np.concatenate

    def counted(*args: Any, **kwargs: Any) -> np.ndarray:
        joined: np.ndarray = plain(*args, **kwargs)
        total[0] += joined.nbytes
        return joined

    monkeypatch.setattr(np, "concatenate", counted)
    return total


@pytest.mark.parametrize("case", ["nobody", "silence", "sound away for 100 s"])
def test_three_minutes_take_the_memory_of_three_seconds(case: str, copied: list[int]) -> None:
    """Sound was kept until a clip read it, and copied whole for each block: 11.3 MB and 26 GB after three minutes."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, BLOCK).astype(np.float32)
    block = np.zeros(BLOCK, np.float32) if case == "silence" else noise
    stream, rgb = made_stream(face=case == "silence"), picture(0)
    num_pushed = num_scores = 0
    held = []
    tracemalloc.start()
    try:
        for number in range(3 * 60 * FPS):
            t_s = number / FPS
            if case != "sound away for 100 s" or not 40 < t_s < 140:
                num_scores += len(stream.push_sound(block, t_s))
                num_pushed += block.nbytes
            num_scores += len(stream.push_picture(t_s, rgb))
            if number % (10 * FPS) == 5 * FPS:
                held.append(bytes_of_arrays())
    finally:
        tracemalloc.stop()
    # A clip of 2 s, the look-ahead of 0.5 s and a block, 4 bytes a sample at 16 kHz, are 0.17 MB; the features and
    # places of 62 faces, 3.8 kB each, are 0.24 MB.
    assert len(held) == 18 and max(held) < 0.45e6
    # Once joined with what the filter still needs (under a block), once as its output (a third).
    assert copied[0] < 3 * num_pushed
    # One a second from 0 on; the one that ends with the video waits for the look-ahead.
    assert num_scores == (178 if case == "silence" else 0)


def test_sound_after_a_stretch_without_a_face_is_heard_where_it_belongs() -> None:
    """What was dropped meanwhile must not shift what is read."""
    sound = PushedSound(16000, 16000)
    sound.first_picture_s = 0.0
    ramp = np.arange(16000 * 8, dtype=np.float32) / (16000 * 8)
    for number, block in enumerate(np.split(ramp, 200)):
        sound.push(block, number * 0.04)
        sound.forget(number * 640 - 16000)
    np.testing.assert_array_equal(sound.read(16000 * 7, 16000), ramp[16000 * 7 :])
    # A second of gap is silence, and so is an hour: the pictures have gone on, too.
    sound.forget(16000 * 3600)
    sound.push(ramp[:16000], 3600.5)
    heard = sound.read(16000 * 3600, 24000)
    assert not heard[:8000].any()
    np.testing.assert_array_equal(heard[8000:], ramp[:16000])


def test_sound_far_ahead_of_the_pictures_is_refused_and_may_come_again(copied: list[int]) -> None:
    """A block an hour ahead was led up to by 230 MB of silence."""
    stream = made_stream(face=False)
    block = np.full(BLOCK, 0.5, np.float32)
    stream.push_sound(block, 0.0)
    for number in range(100):
        stream.push_picture(number / FPS, picture(0))
    for t_s in (3600.0, 1e12):
        with pytest.raises(ConfigError, match=r"ahead of the pictures, 30 s at most(.|\n)*Fix: "):
            stream.push_sound(block, t_s)
    with pytest.raises(ConfigError, match="nan s"):
        stream.push_sound(block, float("nan"))
    assert copied[0] < 10 * block.nbytes
    stream.push_sound(block, 4.0)
    stream.push_sound(block)
    assert stream.finish() == []


def test_a_first_block_far_ahead_of_the_pictures_is_refused_too() -> None:
    """Sound of another clock: the clips were judged on silence without a word."""
    stream = made_stream(face=False)
    block = np.full(BLOCK, 0.5, np.float32)
    stream.push_picture(0.0, picture(0))
    with pytest.raises(ConfigError, match=r"36000\.\d s ahead of the pictures, 30 s at most"):
        stream.push_sound(block, 36000.0)
    stream.push_sound(block, 0.0)
    # Sound that begins after a minute of pictures is not ahead of them.
    late = PushedSound(16000, 16000)
    late.first_picture_s = 0.0
    late.forget(16000 * 60)
    late.push(block, 61.0)
    assert late.read(16000 * 61, 8)[4] == pytest.approx(0.5, abs=0.01)


def test_sound_without_a_picture_is_kept_for_half_a_minute_and_then_refused() -> None:
    """A stream that only got sound kept all of it."""
    stream = made_stream(face=False)
    second = np.zeros(RATE, np.float32)
    for number in range(30):
        stream.push_sound(second, float(number))
    with pytest.raises(ConfigError, match="ahead of the pictures"):
        stream.push_sound(second)


def test_samples_that_are_no_numbers_are_silence_as_in_a_file() -> None:
    """One NaN spoilt every sum of the resampler after it, and the model was blamed."""
    sound = PushedSound(48000, 16000)
    sound.first_picture_s = 0.0
    sound.push(np.array([np.nan, np.inf, *np.zeros(9600)], np.float32), 0.0)
    sound.end()
    heard = sound.read(0, 3200)
    assert np.isfinite(heard).all() and not heard[1000:].any()


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_block_may_be_written_into_once_it_was_pushed(value: float) -> None:
    sound = PushedSound(16000, 16000)
    sound.first_picture_s = 0.0
    block = np.full(1600, 0.5, np.float32)
    block[-1] = value
    sound.push(block, 0.0)
    block[:] = 9
    sound.end()
    assert (sound.read(0, 1599) == 0.5).all()


@pytest.mark.filterwarnings("error")
def test_channels_without_a_mean_and_without_any_channel() -> None:
    """Both ended in warnings of numpy: infinities of both signs, and a mean of nothing."""
    sound = PushedSound(16000, 16000)
    sound.push(np.full((1600, 2), [np.inf, -np.inf], np.float32), 0.0)
    assert not sound.read(0, 1600).any()
    with pytest.raises(ShapeError, match=r"sound of no channels, \(1600, 0\)"):
        sound.push(np.zeros((1600, 0), np.float32))
