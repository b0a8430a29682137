"""Faces drawn anew: what a rendering does to contrast and detail, and what a still that is moved keeps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dfkit.forge import ForgeConfig, geometry
from dfkit.forge.footage import Footage
from dfkit.forge.manipulate import Forgery, manipulate
from dfkit.forge.plan import Task
from dfkit.forge.render import draw_face_rendering, draw_lip_rendering, render

SEEDS = range(4)


def made(method: str, footage: Footage, seed: int) -> Forgery:
    return manipulate(Task(method, None, False, 1, seed), footage, None, ForgeConfig())


def detail(frame: np.ndarray, footage: Footage, index: int, points: tuple[int, ...]) -> float:
    """RMS of what is finer than a pixel and a half, within the hull of some landmarks."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    corners = cv2.convexHull(footage.landmarks[index][list(points)].astype(np.int32))
    inside = cv2.fillPoly(np.zeros(luma.shape, np.uint8), [corners], 1).astype(bool)
    return float((luma - cv2.GaussianBlur(luma, (0, 0), 1.5))[inside].std())


@pytest.mark.parametrize("method", ["face_render", "still_drive"])
def test_a_portrait_has_more_detail_than_the_camera_gave(method: str, footages: list[Footage]) -> None:
    ratios = []
    for seed in SEEDS:
        forgery = made(method, footages[0], seed)
        for index in (5, 25, 45):
            own, new = (detail(f.frames[index], footages[0], index, geometry.EYES) for f in (footages[0], forgery))
            ratios.append(new / own)
    assert np.median(ratios) > 1.1


def test_a_drawn_mouth_has_less_detail_and_the_eyes_keep_theirs(footages: list[Footage]) -> None:
    lips, eyes = [], []
    for seed in SEEDS:
        forgery = made("lip_render", footages[0], seed)
        for index in (5, 25, 45):
            both = (footages[0].frames[index], forgery.frames[index])
            own, new = (detail(frame, footages[0], index, geometry.OUTER_LIP) for frame in both)
            lips.append(new / own)
            own, new = (detail(frame, footages[0], index, geometry.EYES) for frame in both)
            eyes.append(new / own)
    assert np.median(lips) < 0.9
    np.testing.assert_array_equal(eyes, 1.0)


def test_a_driven_still_is_one_picture_moved_onto_the_landmarks(footages: list[Footage]) -> None:
    """Carried back onto the still, all its pictures agree; those of the camera keep their noise, blinks and words."""
    footage = footages[0]
    forgery = made("still_drive", footage, 1)
    still = int(forgery.parameters["still_frame"])
    points = list(geometry.WHOLE_FACE)
    box = geometry.face_box(footage.landmarks[still], footage.frames[still].shape, margin=-0.2)

    def spread(frames: list[np.ndarray]) -> float:
        back = [
            geometry.warp_into(frames[i], box, footage.landmarks[still][points], footage.landmarks[i][points])
            for i in range(0, len(frames), 6)
        ]
        return float(np.stack(back).std(axis=0).mean())

    # A rendering raises contrast, and with it every difference: still it is the still that varies less.
    assert spread(forgery.frames) < 0.8 * spread(footage.frames)


def test_renderings_are_drawn_within_their_ranges_and_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.uniform(60, 200, (80, 80, 3)).astype(np.float32)
    mask = np.ones((80, 80), np.float32)
    for _ in range(20):
        face, lips = draw_face_rendering(rng), draw_lip_rendering(rng)
        assert face.contrast >= 1 and face.detail > 0 and face.across_px == 0
        assert lips.contrast == 1 and lips.detail == 0 and lips.across_px > 0
        assert render(rgb, mask, 100.0, lips).std() < rgb.std()
    graded = draw_face_rendering(rng)
    drawn = render(rgb, mask, 80.0, graded)
    assert drawn.shape == rgb.shape and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() <= 255
