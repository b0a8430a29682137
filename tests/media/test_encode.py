from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfkit.errors import ConfigError
from dfkit.media.audio import read_waveform
from dfkit.media.encode import EncodeSettings, write_video
from dfkit.media.facts import probe
from dfkit.media.video import read_frames

RATE = 16000
TONE = (0.1 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def bars(width: int, height: int, count: int = 25) -> list[np.ndarray]:
    colours = np.array([[200, 60, 50], [60, 180, 70], [50, 70, 190], [180, 180, 60]], np.uint8)
    row = colours[np.arange(width) * 4 // width]
    return [np.ascontiguousarray(np.broadcast_to(row, (height, width, 3))) for _ in range(count)]


def write(path: Path, frames: list[np.ndarray], size_bytes: int | None = None, **settings: int) -> int:
    return write_video(path, frames, TONE, sample_rate=RATE, settings=EncodeSettings(**settings), size_bytes=size_bytes)


@pytest.mark.parametrize("height", [192, 720], ids=["BT.601", "BT.709"])
def test_colours_and_sound_come_back(tmp_path: Path, height: int) -> None:
    frames = bars(160, height)
    write(tmp_path / "a.mp4", frames, video_kbps=1500)
    decoded = [rgb for _, _, rgb in read_frames(tmp_path / "a.mp4", 25)]
    assert len(decoded) == 25
    # Inside of the bars: the other matrix would be up to 20 grey levels off, rounding is 2.
    for x in (20, 60, 100, 140):
        assert np.abs(decoded[12][height // 2, x].astype(int) - frames[0][0, x]).max() <= 5
    facts = probe(tmp_path / "a.mp4")
    assert (facts.fps, facts.duration_s) == (25.0, 1.0)
    sound = read_waveform(tmp_path / "a.mp4", sample_rate=RATE, first_picture_s=0.0, num_samples=RATE)
    # The encoder's delay is taken off again: the tone is where it was, to less than a sample.
    assert np.corrcoef(sound[1000:15000], TONE[1000:15000])[0, 1] > 0.999


def test_a_file_is_filled_up_to_the_byte_and_still_plays(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.mp4", bars(160, 96))
    filled = write(tmp_path / "filled.mp4", bars(160, 96), size_bytes=plain + 5000)
    assert plain == filled == (tmp_path / "plain.mp4").stat().st_size
    assert (tmp_path / "filled.mp4").stat().st_size == plain + 5000
    assert probe(tmp_path / "filled.mp4").num_frames == 25


def test_the_bit_rate_is_the_same_for_a_still_and_for_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (96, 160, 3), dtype=np.uint8) for _ in range(50)]
    sizes = [write(tmp_path / "n.mp4", noise), write(tmp_path / "s.mp4", bars(160, 96, 50))]
    # Constant but for the rate control's buffer of half a second, of two seconds.
    assert sizes[1] == pytest.approx(sizes[0], rel=0.25)


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 255, (12, 20, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = [np.roll(base, 3 * i, axis=1) for i in range(20)]
    contents = set()
    # Ten times: x264's block tree gave another file about every second time.
    for _ in range(10):
        write(tmp_path / "a.mp4", frames)
        contents.add((tmp_path / "a.mp4").read_bytes())
    assert len(contents) == 1


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    def breaks() -> object:
        yield from bars(160, 96, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(
            tmp_path / "a.mp4",
            breaks(),
            TONE,
            sample_rate=RATE,
            settings=EncodeSettings(),  # type: ignore[arg-type]
        )
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="even"):
        write(tmp_path / "odd.mp4", [np.zeros((95, 160, 3), np.uint8)])
    with pytest.raises(ConfigError, match="the first was"):
        write(tmp_path / "two.mp4", [*bars(160, 96, 2), *bars(96, 160, 2)])
    with pytest.raises(ConfigError, match="not one picture"):
        write(tmp_path / "none.mp4", [])
    with pytest.raises(ConfigError, match="planned"):
        write(tmp_path / "small.mp4", bars(160, 96), size_bytes=100)
    assert list(tmp_path.iterdir()) == []
