"""Tracks: several people, leaving and coming back, cuts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice

import cv2
import numpy as np
import pytest

from dfkit.media.faces import FaceModels
from dfkit.media.track import DETECT_EVERY, FaceTracker, TrackedPicture, is_same_region, match_lost
from dfkit.media.warp import Roi

from .face_cases import GOLDEN as FACES
from .face_cases import hide_face, synthetic_head

GOLDEN = FACES.parent / "media"


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


def follow(models: FaceModels, frames: Iterable[np.ndarray], *, max_faces: int = 4) -> list[TrackedPicture]:
    tracker = FaceTracker(models, max_faces=max_faces, max_missing=12)
    return [tracker.update(rgb) for rgb in frames]


def crowd(num_frames: int, *, count: int) -> Iterable[np.ndarray]:
    """Heads side by side, each at another point of its motion."""
    heads = list(synthetic_head(num_frames + 10 * count))
    for index in range(num_frames):
        yield np.ascontiguousarray(np.concatenate([heads[index + 10 * k] for k in range(count)], axis=1))


def test_stored_pictures_equal_mediapipe(models: FaceModels) -> None:
    golden = json.loads((GOLDEN / "track.json").read_text(encoding="utf-8"))
    pictures = [cv2.imread(str(GOLDEN / name))[..., ::-1].copy() for name in golden["pictures"]]
    for picture, expected in zip(follow(models, pictures), golden["landmarks"], strict=True):
        (face,) = picture.faces
        # A face of 100 px; 1 % of its width is what the lip's centre may be off.
        assert np.abs(face.landmarks - np.array(expected)).mean() < 0.25


def test_matching_equals_fractions() -> None:
    golden = json.loads((GOLDEN / "match.json").read_text(encoding="utf-8"))
    assert [match is None for match in golden["matches"]] == [False, True, False, True]
    for lost, match in zip(golden["lost"], golden["matches"], strict=True):
        assert match_lost(np.array(golden["box"], float), [np.array(box, float) for box in lost]) == match


def test_regions_by_hand() -> None:
    # 10 wide, moved by 3: 7 / 13 is over a half; by 4: 6 / 14 is not. Their turn does not count.
    assert is_same_region(Roi(5, 5, 10, 0.0), [Roi(50, 50, 10, 0.0), Roi(8, 5, 10, 1.0)])
    assert not is_same_region(Roi(5, 5, 10, 0.0), [Roi(9, 5, 10, 0.0)])
    assert not is_same_region(Roi(5, 5, 10, 0.0), [])


@pytest.mark.parametrize("count", [2, 3])
def test_each_face_keeps_its_track(models: FaceModels, count: int) -> None:
    places: dict[int, list[float]] = {}
    for picture in follow(models, crowd(40, count=count))[DETECT_EVERY:]:
        assert len(picture.faces) == count
        for face in picture.faces:
            places.setdefault(face.track_id, []).append(float(face.landmarks[:, 0].mean()) // 256)
    assert sorted(places) == list(range(count))
    assert sorted({tuple(set(columns)) for columns in places.values()}) == [(float(k),) for k in range(count)]


def test_no_more_than_max_faces(models: FaceModels) -> None:
    assert {len(picture.faces) for picture in follow(models, crowd(20, count=3), max_faces=2)} == {2}


def test_a_newcomer_is_found(models: FaceModels) -> None:
    pictures = list(crowd(40, count=2))
    for rgb in pictures[:15]:
        rgb[:, 256:] = 90
    counts = [len(picture.faces) for picture in follow(models, pictures)]
    assert set(counts[:15]) == {1}
    assert set(counts[15 + DETECT_EVERY :]) == {2}


@pytest.mark.parametrize(("away", "ids"), [(8, {0}), (20, {0, 1})])
def test_leaving_and_coming_back(models: FaceModels, away: int, ids: set[int]) -> None:
    pictures = list(synthetic_head(60))
    pictures[20 : 20 + away] = [hide_face(rgb) for rgb in pictures[20 : 20 + away]]
    followed = follow(models, pictures)
    assert {picture.scene for picture in followed} == {0}
    assert not any(picture.faces for picture in followed[20 : 20 + away])
    assert {face.track_id for picture in followed for face in picture.faces} == ids
    assert sum(bool(picture.faces) for picture in followed) == 60 - away


def test_a_cut_ends_tracks(models: FaceModels) -> None:
    heads = list(synthetic_head(20))
    dark = [(rgb // 3)[:, ::-1].copy() for rgb in heads]
    followed = follow(models, heads + dark)
    assert [picture.scene for picture in followed] == [0] * 20 + [1] * 20
    assert {f.track_id for picture in followed[:20] for f in picture.faces} == {0}
    assert {f.track_id for picture in followed[20:] for f in picture.faces} == {1}


def test_causal(models: FaceModels) -> None:
    # What comes later does not change what was said.
    whole = follow(models, synthetic_head(30))
    part = follow(models, islice(synthetic_head(30), 12))
    for a, b in zip(part, whole, strict=False):
        np.testing.assert_array_equal(a.faces[0].landmarks, b.faces[0].landmarks)


def test_nothing_in_empty_pictures(models: FaceModels) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.zeros((90, 160, 3), np.uint8), np.full((90, 160, 3), 255, np.uint8)]
    pictures += [rng.integers(0, 256, (90, 160, 3), np.uint8) for _ in range(10)]
    assert not any(picture.faces for picture in follow(models, pictures))


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (17, 33)])
def test_tiny_pictures(models: FaceModels, size: tuple[int, int]) -> None:
    """Nothing is seen in them, and a head that comes after them is found at once, as the first track."""
    tiny = [np.zeros((*size, 3), np.uint8)] * 3
    followed = follow(models, [*tiny, *islice(synthetic_head(20), 2)])
    assert [(len(picture.faces), picture.lost) for picture in followed[:3]] == [(0, ())] * 3
    assert [[face.track_id for face in picture.faces] for picture in followed[3:]] == [[0], [0]]
    # From black to a lit head: one cut, and none within the black.
    assert [picture.scene for picture in followed] == [0, 0, 0, 1, 1]
