"""The second stage: distant faces that the short-range detector misses, against MediaPipe and in the tracker."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dfkit.clip import FaceVariant
from dfkit.errors import DfkitError
from dfkit.media.detect import detect_faces, detection_roi, make_anchors
from dfkit.media.faces import FULL_RANGE, MODEL_FOLDER, SHORT_RANGE, VARIANTS, FaceDetector, FaceModels
from dfkit.media.landmark import MIN_PRESENCE, find_landmarks
from dfkit.media.track import FULL_RANGE_EVERY, FaceTracker, TrackedPicture

from .face_cases import GOLDEN, DistantFace, distant_faces, distant_head, hide_face, synthetic_head

MAX_DIFFERENCE_PX = 0.15
"""As of the short-range detector: MediaPipe's own picture warp differs by a grey level here and there."""
SURE_SCORE = 0.63
"""INT8 weights move a score by up to 0.015: what MediaPipe finds with this one has to be found."""
MAX_INT8_SHARE, MAX_INT8_SHARE_EVER = 0.05, 0.2
"""Of a box's side, by INT8 weights, at the 95th percentile and ever: the landmark region is half as large again as the
box, and where a weak neighbour joins or leaves a merged detection, that moves it more than the weights do."""


class CountingModels(FaceModels):
    """Face models that note which detector was run when."""

    def __init__(self, *, second_stage: bool = True) -> None:
        super().__init__("int8", second_stage=second_stage)
        self.picture = -1
        self.runs: dict[str, list[int]] = {"short_range": [], "full_range": []}

    def detect(self, picture: np.ndarray, detector: FaceDetector = SHORT_RANGE) -> tuple[np.ndarray, np.ndarray]:
        self.runs[detector.name].append(self.picture)
        return super().detect(picture, detector)


def follow(models: CountingModels, frames: Iterable[np.ndarray]) -> list[TrackedPicture]:
    tracker = FaceTracker(models)
    pictures = []
    for models.picture, rgb in enumerate(frames):
        pictures.append(tracker.update(rgb))
    return pictures


def noise(num_frames: int, *, size: tuple[int, int] = (360, 640)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(80, 100, (*size, 3), np.uint8) for _ in range(num_frames)]


@pytest.fixture(scope="module")
def cases(shared: Path) -> list[DistantFace]:
    return list(distant_faces(shared))


@pytest.fixture(scope="module")
def expected() -> dict[str, list[list[float]]]:
    return json.loads((GOLDEN / "distant.json").read_text(encoding="utf-8"))["detections"]


def test_anchors_by_hand() -> None:
    anchors = make_anchors(FULL_RANGE)
    assert anchors.shape == (48 * 48, 2) == (FULL_RANGE.num_anchors, 2)
    np.testing.assert_allclose(anchors[[1, 48, 2303]], np.array([[1.5, 0.5], [0.5, 1.5], [47.5, 47.5]]) / 48)
    assert make_anchors().shape == (SHORT_RANGE.num_anchors, 2) == (896, 2)


def test_detections_equal_mediapipe(cases: list[DistantFace], expected: dict[str, list[list[float]]]) -> None:
    models = FaceModels()
    assert [case.name for case in cases] == list(expected)
    num_found, most = 0, 0.0
    for case in cases:
        found, reference = detect_faces(case.rgb, models, FULL_RANGE), expected[case.name]
        assert len(found) == len(reference), case.name
        for own, theirs in zip(found, reference, strict=True):
            assert abs(own[0] - theirs[0]) < 2e-3, case.name
            most = max(most, float(np.abs(own[1:] - theirs[1:]).max()))
            num_found += 1
    print(f"{num_found} detections, most {most:.5f} px")
    assert num_found >= 100 and most < MAX_DIFFERENCE_PX


def test_int8_finds_what_mediapipe_finds(cases: list[DistantFace], expected: dict[str, list[list[float]]]) -> None:
    models = FaceModels("int8")
    num_sure, num_other, scores, shares = 0, 0, [], []
    for case in cases:
        found, reference = detect_faces(case.rgb, models, FULL_RANGE), expected[case.name]
        num_other += len(found) != len(reference)
        if not reference or reference[0][0] < SURE_SCORE:
            continue
        num_sure += 1
        assert len(found), case.name
        scores.append(abs(found[0, 0] - reference[0][0]))
        side = reference[0][4] - reference[0][2]
        shares.append(float(np.abs(found[0, 1:] - reference[0][1:]).max()) / side)
    print(f"{num_sure} sure, {num_other} pictures of another number; score {max(scores):.4f}, box {max(shares):.4f}")
    print(f"box median {np.median(shares):.4f}, p95 {np.percentile(shares, 95):.4f} of its side")
    assert num_sure >= 90 and num_other <= 0.03 * len(cases)
    assert max(scores) < SURE_SCORE - FULL_RANGE.min_score
    assert np.percentile(shares, 95) < MAX_INT8_SHARE and max(shares) < MAX_INT8_SHARE_EVER


def finds(case: DistantFace, models: FaceModels, detector: FaceDetector) -> bool:
    """Whether a detector leads to landmarks where the face is."""
    x, y, width = case.face
    for detection in detect_faces(case.rgb, models, detector):
        landmarks, presence = find_landmarks(case.rgb, detection_roi(detection), models)
        if presence >= MIN_PRESENCE and np.hypot(*(landmarks.mean(axis=0) - (x, y))) < width / 4:
            return True
    return False


def test_how_small_a_face_each_stage_finds(cases: list[DistantFace]) -> None:
    models = FaceModels("int8")
    found: dict[float, list[tuple[bool, bool]]] = {}
    for case in cases:
        both = finds(case, models, SHORT_RANGE), finds(case, models, FULL_RANGE)
        found.setdefault(case.share, []).append(both)
    table = {share: np.mean(rows, axis=0) for share, rows in found.items()}
    for share, (short_range, full_range) in table.items():
        print(f"{share:.0%}: short range {short_range:.0%}, full range {full_range:.0%} of {len(found[share])}")
    assert all(table[share][0] == 0 for share in (0.02, 0.03, 0.04, 0.05, 0.07))
    assert table[0.05][1] >= 0.75 and table[0.07][1] >= 0.9 and table[0.1][1] == 1


def test_a_distant_head_is_followed_and_says_who_found_it() -> None:
    models = CountingModels()
    pictures = follow(models, distant_head(20))
    assert [[(face.track_id, face.found_by) for face in picture.faces] for picture in pictures] == [
        [(0, "full_range")]
    ] * 20
    assert models.runs["full_range"] == [0]
    without = follow(CountingModels(second_stage=False), distant_head(20))
    assert not any(picture.faces for picture in without)


def test_a_near_head_never_runs_the_second_stage() -> None:
    models = CountingModels()
    pictures = follow(models, synthetic_head(30))
    assert {face.found_by for picture in pictures for face in picture.faces} == {"short_range"}
    assert models.runs["full_range"] == [] and len(models.runs["short_range"]) >= 3
    assert not models.is_full_range_loaded


def test_without_a_face_it_looks_now_and_then() -> None:
    models = CountingModels()
    assert not any(picture.faces for picture in follow(models, noise(30)))
    assert models.runs["short_range"] == list(range(30))
    assert models.runs["full_range"] == list(range(0, 30, FULL_RANGE_EVERY))


def test_a_distant_newcomer_is_found_within_the_cadence() -> None:
    heads = list(distant_head(20))
    # The same grey as around the head, so that there is no cut.
    empty = [np.full_like(heads[0], 90)] * 5
    pictures = follow(CountingModels(), [*empty, *heads])
    first = next(index for index, picture in enumerate(pictures) if picture.faces)
    assert first == FULL_RANGE_EVERY and {picture.scene for picture in pictures} == {0}


@pytest.mark.parametrize("away", [3, 10])
def test_a_track_keeps_the_detector_that_found_it_first(away: int) -> None:
    """A near head that hides is looked for at full range, too; back again, its track stays what it was."""
    frames = list(synthetic_head(40))
    frames[10 : 10 + away] = [hide_face(rgb) for rgb in frames[10 : 10 + away]]
    models = CountingModels()
    pictures = follow(models, frames)
    assert {(f.track_id, f.found_by) for picture in pictures for f in picture.faces} == {(0, "short_range")}
    assert models.runs["full_range"] == list(range(10, 10 + away, FULL_RANGE_EVERY))
    assert not any(picture.faces for picture in pictures[10 : 10 + away])


def test_a_lost_distant_head_is_found_again_as_the_same_track() -> None:
    frames = list(distant_head(40))
    frames[20:24] = [np.full_like(frames[0], 90)] * 4
    pictures = follow(CountingModels(), frames)
    assert {(f.track_id, f.found_by) for picture in pictures for f in picture.faces} == {(0, "full_range")}
    assert sum(bool(picture.faces) for picture in pictures) >= 40 - 4 - FULL_RANGE_EVERY


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    for name in VARIANTS["int8"]:
        (tmp_path / name).write_bytes((MODEL_FOLDER / name).read_bytes())
    full_range = tmp_path / [*VARIANTS["int8"]][2]
    content = full_range.read_bytes()
    full_range.write_bytes(content[:-1] + b"\0\0")
    tracker = FaceTracker(FaceModels("int8", folder=tmp_path))
    with pytest.raises(DfkitError, match=r"full_range_sparse_int8\.tflite has SHA-256"):
        tracker.update(next(iter(noise(1))))
    full_range.unlink()
    with pytest.raises(DfkitError, match=r"full_range_sparse_int8\.tflite is missing"):
        FaceModels("int8", folder=tmp_path)
    assert not any(p.faces for p in follow(CountingModels(second_stage=False), islice(distant_head(3), 3)))


@pytest.mark.parametrize("variant", ["float16", "int8"])
def test_loading_waits_until_it_is_needed(variant: FaceVariant) -> None:
    models = FaceModels(variant)
    detect_faces(next(synthetic_head(1)), models)
    assert not models.is_full_range_loaded
    detect_faces(next(synthetic_head(1)), models, FULL_RANGE)
    assert models.is_full_range_loaded
