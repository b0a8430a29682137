from __future__ import annotations

import csv
import hashlib
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.forge.matching import mouth_opening
from dfkit.media.audio import read_waveform
from dfkit.media.faces import FaceModels
from dfkit.media.facts import probe
from dfkit.media.stream import FaceFrame, read_clips
from dfkit.synthetic import heads as heads_module
from dfkit.synthetic.heads import HeadRenderer, make_head_video, make_heads
from dfkit.synthetic.speakers import PRESETS, make_speakers
from tests.media.tracked_faces import face_frames

SAMPLE_RATE = 16000
SAMPLES_PER_FRAME = 640


@pytest.fixture(scope="module")
def tracked(heads: list[Path]) -> dict[Path, list[FaceFrame]]:
    models = FaceModels()
    return {path: list(face_frames(path, models=models)) for path in heads}


def seen(frames: list[FaceFrame]) -> list[FaceFrame]:
    return [frame for frame in frames if not frame.interpolated]


def envelope(path: Path, num_frames: int) -> np.ndarray:
    """RMS of the sound around each picture, over 80 ms: one syllable is longer, one pitch period shorter."""
    waveform = read_waveform(
        path,
        sample_rate=SAMPLE_RATE,
        first_picture_s=probe(path).first_picture_s,
        num_samples=(num_frames + 1) * SAMPLES_PER_FRAME,
        lead_samples=SAMPLES_PER_FRAME,
    )
    blocks = np.lib.stride_tricks.sliding_window_view(waveform, 2 * SAMPLES_PER_FRAME)[::SAMPLES_PER_FRAME]
    return np.sqrt(np.mean(blocks[:num_frames] ** 2, axis=1))


def correlations(opening: np.ndarray, loudness: np.ndarray, max_lag: int) -> dict[int, float]:
    inner = slice(max_lag, len(opening) - max_lag)
    return {
        lag: float(np.corrcoef(np.roll(opening, lag)[inner], loudness[inner])[0, 1])
        for lag in range(-max_lag, max_lag + 1)
    }


def test_the_tracker_finds_every_head_in_99_percent_of_the_frames(tracked: dict[Path, list[FaceFrame]]) -> None:
    assert len(tracked) == 8
    for path, frames in tracked.items():
        found = {frame.index for frame in seen(frames)}
        assert len(found) >= 0.99 * probe(path).num_frames, path.name
        assert {frame.track_id for frame in frames} == {0}, f"{path.name}: one head, one track"


def test_lips_and_sound_agree_without_a_lag(tracked: dict[Path, list[FaceFrame]]) -> None:
    best_lags, agreements = [], []
    for path, frames in tracked.items():
        opening = mouth_opening(np.stack([frame.landmarks for frame in frames]))
        by_lag = correlations(opening, envelope(path, len(frames)), max_lag=6)
        best_lags.append(max(by_lag, key=by_lag.__getitem__))
        agreements.append(by_lag[0])
        # Half a second apart the words are others. Single videos are short, hence the margin of only 0.2.
        assert by_lag[0] > max(by_lag[-6], by_lag[6]) + 0.2, path.name
    # The landmarks are right to about a pixel of a mouth that opens by fifteen: 0.6 leaves room for that and
    # for consonants that sound with closed lips (m, s).
    assert np.mean(agreements) > 0.6
    # One frame is 40 ms; people notice a lag from about two frames on.
    assert max(abs(lag) for lag in best_lags) <= 1


def test_eight_speakers_do_not_look_alike(tracked: dict[Path, list[FaceFrame]]) -> None:
    def look(frame: FaceFrame) -> np.ndarray:
        return cv2.resize(frame.face, (24, 24), interpolation=cv2.INTER_AREA).astype(float)

    looks = [np.stack([look(frame) for frame in seen(frames)[::10]]) for frames in tracked.values()]
    within = max(float(np.abs(each - each.mean(axis=0)).mean()) for each in looks)
    between = min(float(np.abs(a.mean(axis=0) - b.mean(axis=0)).mean()) for a, b in combinations(looks, 2))
    # A person talking and nodding varies; two persons have to differ by clearly more than that.
    assert between > 2 * within
    geometry = [np.stack([_shape(frame.landmarks) for frame in seen(f)[::10]]) for f in tracked.values()]
    spread = float(np.median([each.std(axis=0).mean() for each in geometry]))
    apart = float(np.median([np.abs(a.mean(axis=0) - b.mean(axis=0)).mean() for a, b in combinations(geometry, 2)]))
    # Not only painted otherwise: their faces have other proportions.
    assert apart > 1.5 * spread


def _shape(landmarks: np.ndarray) -> np.ndarray:
    """Proportions that speech does not change, over the distance of the eyes."""
    pairs = ((234, 454), (10, 2), (129, 358), (133, 362), (172, 397), (6, 1))
    eyes = np.linalg.norm(landmarks[33] - landmarks[263])
    return np.array([np.linalg.norm(landmarks[a] - landmarks[b]) for a, b in pairs]) / eyes


def test_heads_make_clips(heads: list[Path]) -> None:
    clips = list(read_clips(heads[0], CLIP2S))
    assert len(clips) == 1
    assert clips[0].face.shape == (50, 112, 112, 3)


def test_labels_name_every_video_and_its_speaker(heads: list[Path]) -> None:
    with (heads[0].parent / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [path.name for path in heads]
    assert [row["group"] for row in rows] == [speaker.name for speaker in PRESETS]
    assert {row["label"] for row in rows} == {"real"}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> str:
        path = tmp_path / name
        make_head_video(path, PRESETS[4], seconds=0.4, seed=seed, width=192, height=160)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert digest("a.mp4", 1) == digest("b.mp4", 1)
    assert digest("c.mp4", 2) != digest("a.mp4", 1)


def test_videos_that_are_there_are_kept_unless_the_recipe_changed(tmp_path: Path) -> None:
    def make(seconds: float) -> tuple[Path, int]:
        (path,) = make_heads(tmp_path, num_speakers=1, seconds=seconds, width=192, height=160)
        return path, path.stat().st_mtime_ns

    first = make(0.4)
    assert make(0.4) == first
    assert make(0.48)[1] != first[1]
    assert not list(tmp_path.glob(".*"))


def test_a_head_is_made_once_and_drawn_once_per_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long that takes belongs to `make bench`: tools/speed/component_speed.py."""
    work: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            work[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((heads_module, "make_head"), (heads_module, "make_scenery"), (HeadRenderer, "_draw_face")):
        counted(owner, name)
    make_head_video(tmp_path / "a.mp4", PRESETS[0], seconds=2.0, seed=0)
    assert work == {"make_head": 1, "make_scenery": 1, "_draw_face": 50}  # 2 s at 25 pictures per second


def test_further_speakers_are_others(tmp_path: Path) -> None:
    speakers = make_speakers(12, seed=0)
    assert len({speaker.name for speaker in speakers}) == 12
    assert speakers[:8] == list(PRESETS)
    assert make_speakers(12, seed=0) == speakers
    assert make_speakers(12, seed=1)[8:] != speakers[8:]
