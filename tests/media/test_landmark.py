"""Regions and their maps against OpenCV; landmarks against MediaPipe."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfkit.clip import PictureSpec
from dfkit.errors import DfkitError
from dfkit.media.crop import make_boxes
from dfkit.media.detect import box_iou
from dfkit.media.faces import MODEL_FOLDER, MODEL_SHA256, FaceModels, load_model
from dfkit.media.landmark import OUTER_LIP, landmark_box, landmark_roi, project_landmarks
from dfkit.media.track import FaceTracker
from dfkit.media.warp import Roi, roi_matrix, warp_roi

from .face_cases import GOLDEN as FACES
from .face_cases import FaceCase, decode_golden, list_cases

GOLDEN = FACES.parent / "media"
MIN_MEAN_IOU, MIN_IOU, MAX_LIP_ERROR = 0.97, 0.92, 0.01


def test_projection_equals_opencv() -> None:
    golden = json.loads((GOLDEN / "roi.json").read_text(encoding="utf-8"))
    for case in golden["cases"]:
        roi = Roi(*case["roi"])
        points = np.array(case["points"])
        expected = np.array(case["projected"])
        np.testing.assert_allclose(project_landmarks(points, roi), expected, atol=2e-3)
        matrix = roi_matrix(roi, golden["out_px"])
        np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], expected, atol=2e-3)


def test_boxes_equal_plain_python() -> None:
    golden = json.loads((GOLDEN / "boxes.json").read_text(encoding="utf-8"))
    landmarks = np.array(json.loads((GOLDEN / "track.json").read_text(encoding="utf-8"))["landmarks"][0], np.float32)
    assert landmark_roi(landmarks) == pytest.approx(golden["roi"], abs=1e-4)
    spec = PictureSpec(face_scale=golden["face_scale"], lip_scale=golden["lip_scale"])
    face, lip = make_boxes(landmarks, spec)
    assert face == pytest.approx(golden["face"], abs=1e-4)
    assert lip == pytest.approx(golden["lip"], abs=1e-4)


def test_warp_equals_scipy() -> None:
    golden = json.loads((GOLDEN / "warp.json").read_text(encoding="utf-8"))
    picture = np.array(golden["picture"], np.uint8)
    for case in golden["cases"]:
        made = warp_roi(picture, Roi(*case["roi"]), golden["out_px"], replicate=case["replicate"])
        assert np.abs(made - np.array(case["warped"])).max() <= golden["tolerance"]


@pytest.mark.parametrize("replicate", [True, False])
def test_warp_equals_plain_bilinear(replicate: bool) -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 1.5)
    roi = Roi(30.3, 31.7, 70.0, 0.4)
    mine = warp_roi(picture, roi, 48, replicate=replicate)
    expected = _bilinear(picture, roi, 48, replicate=replicate)
    # OpenCV rounds positions to 1/32 pixel.
    assert np.abs(mine.astype(float) - expected).max() <= 3.0
    assert np.abs(mine.astype(float) - expected).mean() <= 0.5


def _bilinear(picture: np.ndarray, roi: Roi, out_px: int, *, replicate: bool) -> np.ndarray:
    height, width = picture.shape[:2]

    def pixel(row: int, column: int) -> np.ndarray:
        inside = 0 <= row < height and 0 <= column < width
        if not inside and not replicate:
            return np.zeros(3)
        return picture[min(max(row, 0), height - 1), min(max(column, 0), width - 1)].astype(float)

    result = np.zeros((out_px, out_px, 3))
    for v in range(out_px):
        for u in range(out_px):
            dx, dy = (u / out_px - 0.5) * roi.side, (v / out_px - 0.5) * roi.side
            x = roi.x + dx * np.cos(roi.angle_rad) - dy * np.sin(roi.angle_rad)
            y = roi.y + dx * np.sin(roi.angle_rad) + dy * np.cos(roi.angle_rad)
            column, row = int(np.floor(x)), int(np.floor(y))
            fx, fy = x - column, y - row
            above = pixel(row, column) * (1 - fx) + pixel(row, column + 1) * fx
            below = pixel(row + 1, column) * (1 - fx) + pixel(row + 1, column + 1) * fx
            result[v, u] = above * (1 - fy) + below * fy
    return result


def test_region_turns_with_the_face() -> None:
    rng = np.random.default_rng(2)
    landmarks = rng.uniform(0, 100, (468, 2)).astype(np.float32)
    landmarks[33], landmarks[263] = (40, 50), (60, 50)
    assert landmark_roi(landmarks).angle_rad == pytest.approx(0.0)
    landmarks[263] = (40, 70)
    assert landmark_roi(landmarks).angle_rad == pytest.approx(np.pi / 2)
    left, top, right, bottom = landmark_box(landmarks)
    assert landmark_roi(landmarks).side == pytest.approx(1.5 * max(right - left, bottom - top), rel=1e-6)


def compare(case: FaceCase, models: FaceModels) -> tuple[list[float], list[float], int, set[int]]:
    """IoU and lip distance of each face MediaPipe saw, pictures with another number of faces, and track ids."""
    golden = decode_golden(np.load(FACES / f"{case.name}.npz")["landmarks"])
    tracker = FaceTracker(models, max_faces=case.max_faces)
    overlaps, distances, mismatches, ids = [], [], 0, set()
    for rgb, expected in zip(case.frames(), golden, strict=True):
        found = tracker.update(rgb).faces
        ids |= {face.track_id for face in found}
        seen = [landmarks for landmarks in expected if not np.isnan(landmarks[0, 0])]
        mismatches += len(seen) != len(found)
        for landmarks in seen if found else []:
            boxes = np.stack([landmark_box(face.landmarks) for face in found])
            overlap = box_iou(landmark_box(landmarks), boxes)
            nearest = found[int(np.argmax(overlap))].landmarks
            overlaps.append(float(overlap.max()))
            lips = landmarks[list(OUTER_LIP)].mean(axis=0) - nearest[list(OUTER_LIP)].mean(axis=0)
            distances.append(float(np.linalg.norm(lips) / np.ptp(landmarks[:, 0])))
    return overlaps, distances, mismatches, ids


def test_real_clips_equal_mediapipe(shared: Path) -> None:
    models = FaceModels()
    overlaps, distances = [], []
    cases = list_cases(shared)
    assert sum(case.needs_shared for case in cases) >= 20
    for case in cases:
        iou, lip, mismatches, ids = compare(case, models)
        assert mismatches <= 1, f"{case.name}: {mismatches} pictures with another number of faces"
        # The face that leaves for more than half a second comes back as another track.
        assert len(ids) == {"two-people": 2, "leaves-and-returns": 2}.get(case.name, 1), case.name
        assert len(iou) >= 40, case.name
        overlaps += iou
        distances += lip
        assert min(iou) >= MIN_IOU, case.name
        assert np.percentile(lip, 95) <= MAX_LIP_ERROR, case.name
    assert np.mean(overlaps) >= MIN_MEAN_IOU
    assert np.percentile(distances, 95) <= MAX_LIP_ERROR


def test_synthetic_head_equals_mediapipe() -> None:
    case = next(case for case in list_cases(Path()) if not case.needs_shared)
    overlaps, distances, mismatches, ids = compare(case, FaceModels())
    assert (mismatches, ids, len(overlaps)) == (0, {0}, 75)
    assert np.mean(overlaps) >= MIN_MEAN_IOU
    assert min(overlaps) >= MIN_IOU
    assert np.percentile(distances, 95) <= MAX_LIP_ERROR


def test_comparison_can_fail() -> None:
    # The same numbers against the head turned the other way round.
    case = next(case for case in list_cases(Path()) if not case.needs_shared)
    wrong = FaceCase(case.name, 1, lambda: (np.ascontiguousarray(rgb[:, ::-1]) for rgb in case.frames()))
    overlaps, distances, _, _ = compare(wrong, FaceModels())
    assert np.mean(overlaps) < MIN_MEAN_IOU
    assert np.percentile(distances, 95) > MAX_LIP_ERROR


def test_golden_files_are_small() -> None:
    sizes = [path.stat().st_size for path in FACES.iterdir()]
    assert len(sizes) >= 25
    assert sum(sizes) <= 5_000_000


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    for name in MODEL_SHA256:
        content = bytearray((MODEL_FOLDER / name).read_bytes())
        content[1000] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DfkitError, match=r"SHA-256(.|\n)*Fix:"):
            load_model(name, folder=tmp_path)
    with pytest.raises(DfkitError, match="missing"):
        load_model("face_landmark.tflite", folder=tmp_path / "none")


def test_following_starts_from_the_last_landmarks() -> None:
    # A head that moves by a fifth of its size per picture is followed without the detector.
    case = next(case for case in list_cases(Path()) if not case.needs_shared)
    tracker = FaceTracker(FaceModels(), max_faces=1)
    ids = [face.track_id for rgb in islice(case.frames(), 0, 60, 3) for face in tracker.update(rgb).faces]
    assert ids == [0] * 20
