"""Crops against scikit-image and SciPy, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dfkit.clip import PictureSpec
from dfkit.media.crop import SquareBox, crop_square, make_boxes
from dfkit.media.landmark import OUTER_LIP

from .face_cases import GOLDEN as FACES

GOLDEN = FACES.parent / "media"


def test_equals_the_golden_vectors() -> None:
    golden = json.loads((GOLDEN / "crop.json").read_text(encoding="utf-8"))
    picture = np.array(golden["picture"], np.uint8)
    assert {int(case["box"][2] / case["out_px"]) for case in golden["cases"]} >= {1, 2, 3}
    for case in golden["cases"]:
        crop = crop_square(picture, SquareBox(*case["box"]), case["out_px"])
        assert crop.dtype == np.uint8
        # Of which it is made up stands in make_golden.make_crop; the vectors are rounded to 0.001.
        assert np.abs(crop - np.array(case["crop"])).max() <= case["tolerance"] + 0.0005


def test_a_ramp_stays_a_ramp() -> None:
    # Value = 2 x at the pixel's centre: bilinear sampling gives exactly 2 (position - 0.5).
    picture = np.repeat(np.broadcast_to(np.arange(100, dtype=np.uint8) * 2, (80, 100))[..., None], 3, axis=2)
    box = SquareBox(50.0, 40.0, 33.0)
    expected = 2 * (50 - 16.5 + (np.arange(64) + 0.5) * 33 / 64 - 0.5)
    # Half a level is rounded, and positions by 1 / 64 pixel, here 1 / 32 of a level.
    np.testing.assert_allclose(crop_square(picture, box, 64)[10, :, 0], expected, atol=0.5 + 1 / 32 + 1e-3)


@pytest.mark.parametrize("shrink", [2, 3, 5])
def test_shrinking_averages(shrink: int) -> None:
    # A fine chequerboard has no business in a small crop but its mean.
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[::2, ::2] = picture[1::2, 1::2] = 200
    crop = crop_square(picture, SquareBox(150.3, 149.6, 40.0 * shrink), 40)
    assert np.abs(crop.astype(int) - 100).max() <= (1 if shrink % 2 == 0 else 100 // shrink)


def test_the_edge_goes_on() -> None:
    picture = np.full((10, 10, 3), 50, np.uint8)
    picture[:, 0] = 200
    crop = crop_square(picture, SquareBox(-20.0, 5.0, 10.0), 8)
    assert (crop == 200).all()
    assert (crop_square(picture, SquareBox(500.0, 5.0, 100.0), 8) == 50).all()


def test_identity() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    np.testing.assert_array_equal(crop_square(picture, SquareBox(15.0, 15.0, 10.0), 10), picture[10:20, 10:20])


def test_boxes_by_hand() -> None:
    landmarks = np.full((468, 2), 50, np.float32)
    landmarks[0], landmarks[1] = (10, 20), (90, 120)
    landmarks[list(OUTER_LIP)] = (48, 80)
    face, lip = make_boxes(landmarks, PictureSpec(face_scale=1.3, lip_scale=0.5))
    # The box runs from 48 or less to 90 across and from 50 or less to 120 down; point 0 is one of the lip's.
    assert face == pytest.approx(((48 + 90) / 2, (50 + 120) / 2, 1.3 * 70))
    assert lip == pytest.approx((48, 80, 0.5 * 70))


def test_nonsense_landmarks_make_a_bounded_box() -> None:
    landmarks = np.random.default_rng(0).uniform(-1e6, 1e6, (468, 2)).astype(np.float32)
    face, _ = make_boxes(landmarks, PictureSpec())
    assert face.side <= 1.3 * 32768
    flat, _ = make_boxes(np.zeros((468, 2), np.float32), PictureSpec())
    assert flat.side > 0
