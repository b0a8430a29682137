"""Cuts by hand and on joined clips."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np

from dfkit.media.cut import is_cut, sample_luma
from dfkit.media.video import read_frames

from .face_cases import CLIPS
from .face_cases import GOLDEN as FACES


def test_luma_equals_hand_arithmetic() -> None:
    golden = json.loads((FACES.parent / "media" / "cut.json").read_text(encoding="utf-8"))
    for colour, luma in zip(golden["colours"], golden["luma"], strict=True):
        assert (sample_luma(np.full((10, 200, 3), colour, np.uint8)) == luma).all()


def test_samples_lie_in_the_middle_of_their_cells() -> None:
    picture = np.zeros((128, 64, 3), np.uint8)
    picture[1::2] = 255  # row (2 i + 1) 128 / 128 = 2 i + 1
    assert (sample_luma(picture) >= 254).all()


def test_rule_by_hand() -> None:
    black, white = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    assert is_cut(black, white)
    assert not is_cut(black, black)
    # Mirrored halves: every pixel changes by 40 or 50, the histogram does not change.
    for step, cut in ((40, False), (50, True)):
        half = np.where(np.arange(64) < 32, 100, 100 + step).astype(np.uint8)[None].repeat(64, axis=0)
        assert is_cut(half, half[:, ::-1]) == cut
    # 13 of 64 rows change their bin: 0.203, and 22.3 levels in the mean; 12 of 64 are 0.1875.
    for share, expected in ((13 / 64, True), (12 / 64, False)):
        before = np.full((64, 64), 20, np.uint8)
        after = before.copy()
        after[: int(share * 64)] = 130
        assert is_cut(before, after) == expected
    # All one bin brighter: the histogram changes wholly, the pixels by 16 levels only.
    assert not is_cut(np.full((64, 64), 100, np.uint8), np.full((64, 64), 116, np.uint8))


def test_no_cut_within_real_clips(shared: Path) -> None:
    for name in CLIPS:
        lumas = [sample_luma(rgb) for _, _, rgb in islice(read_frames(shared / "clips" / name, 25.0), 100)]
        assert not any(is_cut(a, b) for a, b in pairwise(lumas)), name


def test_cuts_between_real_clips(shared: Path) -> None:
    firsts = []
    for name in CLIPS:
        _, _, rgb = next(iter(read_frames(shared / "clips" / name, 25.0)))
        firsts.append(sample_luma(cv2.resize(rgb, (256, 256), interpolation=cv2.INTER_AREA)))
    pairs = [(a, b) for i, a in enumerate(firsts) for b in firsts[i + 1 :]]
    found = np.mean([is_cut(a, b) for a, b in pairs])
    # Pairs of one studio or one portrait are alike and stay one scene.
    assert found >= 0.97
