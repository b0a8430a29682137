"""Parts fade in and out, blends over themselves keep their fine detail, sounds meet without a dip or a click."""

from __future__ import annotations

import numpy as np
import pytest

from dfkit.forge import ForgeConfig, blend, geometry, sound
from dfkit.forge.footage import Footage
from dfkit.forge.manipulate import fade_shares, manipulate
from dfkit.forge.plan import Task
from dfkit.forge.self_blend import detail_gain, draw_self_blend, lay_face_over, lay_mouth_over, paste_with_detail
from dfkit.forge.sound import Span

RATE = 16_000


def test_a_part_comes_and_goes_slowly() -> None:
    np.testing.assert_allclose(fade_shares(8, 2, at_start=True, at_end=True), [1 / 3, 2 / 3, 1, 1, 1, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(fade_shares(8, 9, at_start=False, at_end=True), [1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3])
    assert fade_shares(3, 5, at_start=True, at_end=True).tolist() == [1, 1, 1]


@pytest.mark.parametrize("method", ["self_blend", "lip_blend"])
def test_a_gated_blend_is_weaker_at_its_ends(method: str, footages: list[Footage]) -> None:
    config = ForgeConfig(fade_s=(0.159, 0.161))
    forgery = manipulate(Task(method, None, True, 1, 11), footages[0], None, config)
    start, end = forgery.start_frame, forgery.end_frame
    assert config.part_s[0] <= (end - start) / config.fps <= config.part_s[1]
    assert 0 < start < end < len(footages[0].frames), "the seed has a part in the middle"
    assert forgery.parameters["fade_frames"] == 4
    change = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(forgery.frames, footages[0].frames, strict=True)]
    count = min(4, (end - start) // 4)
    middle = float(np.mean(change[start + count : end - count]))
    assert change[start] < 0.5 * middle and change[end - 1] < 0.5 * middle
    assert change[start - 1] == change[end] == 0


def detail(rgb: np.ndarray, width: float) -> np.ndarray:
    import cv2

    return rgb - cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), max(0.8, 0.007 * width))


@pytest.mark.parametrize("lay_over", [lay_face_over, lay_mouth_over])
@pytest.mark.parametrize("seed", range(4))
def test_fine_detail_is_what_was_drawn(lay_over: object, seed: int, footages: list[Footage]) -> None:
    blending = draw_self_blend(np.random.default_rng(seed))
    footage, samples = footages[0], []
    for index in range(0, len(footage.frames), 12):
        frame, landmarks = footage.frames[index], footage.landmarks[index]
        over: blend.Overlay = lay_over(frame, landmarks, blending)  # type: ignore[operator]
        samples.append((frame, over, geometry.face_width(landmarks)))
    gain = detail_gain(samples, share=blending.detail)
    before = after = 0.0
    for frame, over, width in samples:
        made = paste_with_detail(frame, over, width, gain)
        weight = (over.mask / over.mask.max())[..., None]
        before += float((weight * detail(frame[over.box.slices].astype(np.float32), width) ** 2).sum())
        after += float((weight * detail(made[over.box.slices].astype(np.float32), width) ** 2).sum())
    # The mask's own slope and rounding to grey levels add a little.
    assert np.sqrt(after / before) == pytest.approx(blending.detail, rel=0.1)


def test_detail_is_as_often_more_as_less() -> None:
    drawn = np.log([draw_self_blend(np.random.default_rng(seed)).detail for seed in range(400)])
    # Four standard deviations of 400 fair draws.
    assert abs((drawn > 0).mean() - 0.5) < 0.1
    assert np.abs(drawn).min() >= 0.1 and np.abs(drawn).max() <= 0.35


@pytest.mark.parametrize("seam", [round(0.02 * RATE), round(0.05 * RATE)])
def test_power_does_not_dip_where_two_sounds_meet(seam: int) -> None:
    rng = np.random.default_rng(1)
    power = np.zeros(seam)
    plain = np.zeros(seam)
    ramp = (np.arange(seam) + 0.5) / seam
    for _ in range(200):
        own, other = rng.standard_normal((2, 8000))
        made = sound.blend_spectra(own, other, 3000, seam)
        power += made**2 / 200
        plain += (own[3000 : 3000 + seam] * (1 - ramp) + other[3000 : 3000 + seam] * ramp) ** 2 / 200
    middle = slice(seam * 2 // 5, seam * 3 // 5)
    # Half of the power is missing in the middle of two waves added; between two spectra of noise on a logarithmic scale
    # (pi / 4)^2 of it at most, and overlapping pieces of one length add a little less.
    assert plain[middle].mean() < 0.6
    assert 10 * np.log10(power[middle].mean()) > -2.2 > 10 * np.log10(plain[middle].mean())


def test_nothing_clicks_and_nothing_else_changes() -> None:
    times = np.arange(RATE) / RATE
    own, other = (np.sin(2 * np.pi * hz * times).astype(np.float32) for hz in (300.0, 470.0))
    span = Span(5000, 11_000, seam=480)
    made = sound.insert(own, other, span, match_level=False)
    np.testing.assert_array_equal(made[: span.start], own[: span.start])
    np.testing.assert_array_equal(made[span.end :], own[span.end :])
    np.testing.assert_allclose(made[5480:10_520], other[5480:10_520], atol=1e-6)
    # A tone of 470 Hz moves by 0.185 a sample at most; a click would be a step of up to 2.
    assert np.abs(np.diff(made)).max() < 0.25
    # The same sound on both sides comes back.
    np.testing.assert_allclose(sound.insert(own, own, span, match_level=True), own, atol=1e-5)
