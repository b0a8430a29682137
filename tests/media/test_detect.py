"""Anchors, decoding and merging of detections, against MediaPipe and by hand."""

from __future__ import annotations

import json

import numpy as np

from dfkit.media.detect import box_iou, decode_detections, detect_faces, detection_roi, make_anchors, merge_detections
from dfkit.media.faces import FaceModels

from .face_cases import GOLDEN as FACES
from .face_cases import synthetic_head

GOLDEN = FACES.parent / "media"


def test_anchors_by_hand() -> None:
    anchors = make_anchors()
    assert anchors.shape == (896, 2)
    # Cell (row 0, column 1) of the 16 x 16 grid, both anchors; the last cell; the first and last of 8 x 8.
    np.testing.assert_allclose(anchors[2:4], [[1.5 / 16, 0.5 / 16]] * 2)
    np.testing.assert_allclose(anchors[32], [0.5 / 16, 1.5 / 16])
    np.testing.assert_allclose(anchors[511], [15.5 / 16, 15.5 / 16])
    np.testing.assert_allclose(anchors[512:518], [[0.5 / 8, 0.5 / 8]] * 6)
    np.testing.assert_allclose(anchors[895], [7.5 / 8, 7.5 / 8])


def test_decoding_and_merging_equal_mediapipe() -> None:
    for case in json.loads((GOLDEN / "detections.json").read_text(encoding="utf-8"))["cases"]:
        raw_scores = np.full(896, -100, np.float32)
        raw_boxes = np.zeros((896, 16), np.float32)
        raw_scores[case["anchors"]] = case["raw_scores"]
        raw_boxes[case["anchors"]] = case["raw_boxes"]
        found = merge_detections(decode_detections(raw_boxes, raw_scores))
        assert len(found) == 1
        expected = np.array(case["detection"])
        assert abs(found[0, 0] - expected[0]) < 2e-3
        # MediaPipe's own picture warp differs by a grey level here and there.
        np.testing.assert_allclose(found[0, 1:] * case["picture_px"], expected[1:], atol=0.15)


def test_the_whole_detector_equals_mediapipe() -> None:
    expected = json.loads((FACES / "detections.json").read_text(encoding="utf-8"))["detections"]
    models = FaceModels()
    for rgb, detection in zip(list(synthetic_head(76))[::25], expected, strict=True):
        found = detect_faces(rgb, models)
        assert len(found) == 1
        np.testing.assert_allclose(found[0, 1:], detection[1:], atol=0.15)


def test_letterbox_keeps_places() -> None:
    # The same head in the right third of a wide picture: its box moves by exactly that.
    rgb = next(synthetic_head(1))
    wide = np.concatenate([np.zeros((256, 256, 3), np.uint8), rgb], axis=1)
    models = FaceModels()
    alone, beside = detect_faces(rgb, models)[0], detect_faces(wide, models)[0]
    # At half the resolution the box is a little less exact.
    np.testing.assert_allclose(beside[1:5], alone[1:5] + np.array([256, 0, 256, 0]), atol=6)


def test_merging_by_hand() -> None:
    def detection(score: float, left: float) -> list[float]:
        return [score, left, 0.0, left + 0.4, 0.4, *([left] * 12)]

    # 0.10 against 0.15: IoU 0.35 / 0.45; 0.6 stands alone.
    heap = np.array([detection(0.9, 0.10), detection(0.8, 0.6), detection(0.6, 0.15)], np.float32)
    merged = merge_detections(heap)
    assert merged.shape == (2, 17)
    assert np.isclose(merged[0, 0], 0.9)
    assert np.isclose(merged[0, 1], (0.9 * 0.10 + 0.6 * 0.15) / 1.5)
    assert np.isclose(merged[1, 1], 0.6)
    assert merge_detections(np.zeros((0, 17), np.float32)).shape == (0, 17)


def test_iou_by_hand() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(box_iou(boxes[0], boxes), [1, 1 / 3, 0, 0])
    assert box_iou(boxes[3], boxes[3:])[0] == 0


def test_region_by_hand() -> None:
    # Eyes on a line falling by 45 degrees; a box 10 wide and 20 high.
    points = [0, 0, 1, 1, *([0] * 8)]
    roi = detection_roi(np.array([1, 10, 20, 20, 40, *points], float))
    np.testing.assert_allclose(roi, (15, 30, 30, np.pi / 4))


def test_no_face_in_noise() -> None:
    rng = np.random.default_rng(0)
    assert len(detect_faces(rng.integers(0, 256, (120, 90, 3), np.uint8), FaceModels())) == 0
