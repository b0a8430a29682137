"""The scorer behind file and stream, with graphs whose answers are known by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import BundleError, ConfigError
from dfkit.media.stream import FaceFrame
from dfkit.runtime.results import ClipScore
from dfkit.runtime.scoring import ClipScorer

SAMPLE_RATE = CLIP2S.audio.sample_rate


class CountingGraphs:
    """Features are a picture's first pixel; the clip's logits are 0 and the natural logarithm of 9."""

    name, recipe, num_threads = "tflite", "fp32", 1

    def __init__(self, clip_logits: tuple[float, float] = (0.0, np.log(9))) -> None:
        self.encoded: list[int] = []
        self.scored: list[Mapping[str, np.ndarray]] = []
        self._logits = np.array(clip_logits, np.float32)

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert pictures["face"].shape[0] == pictures["lip"].shape[0] == 1
        value = int(pictures["face"][0, 0, 0, 0])
        self.encoded.append(value)
        return {"face_features": np.full((1, 3), value, np.float32)}

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        self.scored.append(inputs)
        return np.zeros((50, 2), np.float32), self._logits


class PushedRamp:
    """Sound whose samples are their own numbers, up to where it has come."""

    def __init__(self, end: int) -> None:
        self.end = end

    def has(self, end: int) -> bool:
        return end <= self.end

    def read(self, start: int, num_samples: int) -> np.ndarray:
        return np.arange(start, start + num_samples, dtype=np.float32)

    def forget(self, start: int) -> None:
        self.forgotten = start


def face(index: int, track_id: int = 0) -> FaceFrame:
    picture = np.full((4, 4, 3), index % 256, np.uint8)
    landmarks = np.full((468, 2), index, np.float32)
    return FaceFrame(track_id, index, index / 25, picture, picture, landmarks, False, 0)


def make_scorer(graphs: CountingGraphs, sound: PushedRamp | None) -> ClipScorer:
    return ClipScorer(graphs, CLIP2S, sound, calibration_temperature=2.0, where="by hand")


def push(scorer: ClipScorer, count: int, *, tracks: tuple[int, ...] = (0,)) -> list[ClipScore]:
    return [s for index in range(count) for s in scorer.push([face(index, t) for t in tracks], index)]


def test_overlapping_clips_share_what_is_encoded_once() -> None:
    graphs = CountingGraphs()
    scorer = make_scorer(graphs, None)
    scores = [*push(scorer, 110), *scorer.finish(110)]
    # One clip a second, and the one that ends with the video: 110 - 50 pictures.
    assert [(s.start_index, s.start_s, s.end_s) for s in scores] == [
        (0, 0.0, 2.0),
        (25, 1.0, 3.0),
        (50, 2.0, 4.0),
        (60, 2.4, 4.4),
    ]
    assert graphs.encoded == list(range(110))
    for score, inputs in zip(scores, graphs.scored, strict=True):
        expected = np.arange(score.start_index, score.start_index + 50)
        np.testing.assert_array_equal(inputs["face_features"][:, 0], expected)
        np.testing.assert_array_equal(inputs["landmarks"][:, 0, 0], expected)
        assert "pcm" not in inputs


def test_p_fake_is_calibrated() -> None:
    (score,) = push(make_scorer(CountingGraphs(), None), 50)
    # Logits 0 and ln 9, halved by the temperature: odds of 3 to 1.
    assert score.p_fake == pytest.approx(0.75)


def test_two_faces_are_two_clips_in_order_of_track() -> None:
    scores = push(make_scorer(CountingGraphs(), None), 50, tracks=(1, 0))
    assert [s.track_id for s in scores] == [0, 1]


def test_a_clip_waits_for_its_sound_and_gets_its_own_samples() -> None:
    # The second clip: from picture 25, 16,000 samples in, half a window of 2048 earlier; 33,408 samples of it.
    first, length = SAMPLE_RATE - 1024, 33408
    graphs, sound = CountingGraphs(), PushedRamp(0)
    scorer = make_scorer(graphs, sound)
    assert push(scorer, 75) == []
    sound.end = first + length - 1
    assert [s.start_index for s in scorer.score_waiting()] == [0]
    sound.end += 1
    assert [s.start_index for s in scorer.score_waiting()] == [25]
    assert [inputs["pcm"][0] for inputs in graphs.scored] == [-1024, first]
    assert graphs.scored[1]["pcm"].shape == (length,)


def test_sound_that_stops_is_an_error_before_the_memory_is_full() -> None:
    scorer = make_scorer(CountingGraphs(), PushedRamp(0))
    # Ten seconds lie between the first clip that waits and the one of picture 250; the next is one too many.
    assert push(scorer, 300) == []
    with pytest.raises(ConfigError, match=r"the sound lags 11\.0 s behind the pictures, 10 s at most"):
        for index in range(300, 325):
            scorer.push([face(index)], index)


def test_an_answer_that_is_no_number_is_refused_with_its_clip() -> None:
    with pytest.raises(BundleError, match=r"by hand.*the clip at 0\.00 s"):
        push(make_scorer(CountingGraphs((0.0, float("nan"))), None), 50)
