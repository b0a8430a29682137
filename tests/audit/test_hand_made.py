"""Hand-made features against hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from dfkit.audit.motion import EYE_RATIO_POINTS, align, eye_ratio, motion_features
from dfkit.audit.sound_lip import correlation_at, loudness_db, sound_lip_features
from dfkit.audit.spectrum import radial_bands, spectrum_features
from dfkit.clip import CLIP2S
from dfkit.training.augment.mirror import mirror_order


def make_face(num_frames: int = 50, *, seed: int = 0) -> np.ndarray:
    """A face-like cloud that moves as a whole and a little in itself, (T, 468, 2)."""
    generator = np.random.default_rng(seed)
    shape = generator.normal(0, 60, (1, 468, 2))
    inner = np.cumsum(generator.normal(0, 0.2, (num_frames, 468, 2)), axis=0)
    return (shape + inner + 300).astype(np.float32)


def turn(points: np.ndarray, angle_rad: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return points @ (scale * np.array([[cos, -sin], [sin, cos]])).T + shift


def test_alignment_takes_out_exactly_the_head() -> None:
    still = make_face(1)[0].astype(np.float64)
    angles = 0.3 * np.sin(np.arange(20) / 3)
    scales = np.exp(0.1 * np.cos(np.arange(20) / 5))
    moving = np.stack([turn(still, a, s, (3 * i, -i)) for i, (a, s) in enumerate(zip(angles, scales, strict=True))])
    aligned = align(moving.astype(np.float32))
    # float32 pixels of some hundreds, radius about 85 px: 3e-5 / 85.
    np.testing.assert_allclose(np.abs(aligned.shape - aligned.shape[0]), 0, atol=2e-6)
    np.testing.assert_allclose(np.diff(aligned.turn_rad), np.diff(angles), atol=1e-6)
    np.testing.assert_allclose(np.diff(aligned.log_size), np.diff(np.log(scales)), atol=1e-6)
    features = motion_features(moving.astype(np.float32), fps=25)
    assert max(features[f"{name}_speed"] for name in ("mouth", "eyes", "nose", "contour")) < 1e-4
    assert features["head_roll_speed"] == pytest.approx(np.abs(np.diff(angles)).mean() * 25, abs=1e-4)


def test_size_place_and_mirror_of_the_picture_do_not_matter() -> None:
    face = make_face()
    features = motion_features(face, fps=25)
    moved = motion_features(turn(face.astype(np.float64), 0.0, 2.5, (40, -70)).astype(np.float32), fps=25)
    mirrored = face[:, mirror_order()] * np.float32([-1, 1])
    for other in (moved, motion_features(mirrored, fps=25)):
        assert other == pytest.approx(features, rel=1e-3, abs=1e-4)


def test_region_features_by_hand() -> None:
    face = np.repeat(make_face(1), 40, axis=0)
    # Two pictures up, two down, 1 px either way: speeds 0, 2, 0, 2, ...; the spread is 1 px.
    sway = np.tile([1.0, 1.0, -1.0, -1.0], 10).astype(np.float32)
    face[:, [1, 2, 4, 5, 6, 19, 94, 98, 168, 195, 197, 327], 1] += sway[:, None]
    points = face[0].astype(np.float64)
    radius = np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    features = motion_features(face, fps=25)
    # 12 of 468 points pull the fit by a fortieth of a pixel.
    assert features["nose_spread"] * radius == pytest.approx(1.0, rel=0.05)
    assert features["nose_speed"] * radius == pytest.approx(2 * 19 / 39 * 25, rel=0.05)
    assert features["nose_jitter"] * radius == pytest.approx(2 * 25**2, rel=0.05)
    assert features["nose_speed"] > 10 * features["contour_speed"]


def test_eye_ratio_and_blinks_by_hand() -> None:
    face = np.repeat(make_face(1), 50, axis=0)
    for corner, other, *lids in EYE_RATIO_POINTS:
        face[:, corner], face[:, other] = (100, 50), (140, 50)
        for upper, lower, x in ((lids[0], lids[1], 110), (lids[2], lids[3], 130)):
            face[:, upper], face[:, lower] = (x, 44), (x, 56)
    assert eye_ratio(face, EYE_RATIO_POINTS[0]) == pytest.approx(12 / 40)
    for start in (10, 30):
        for _, _, *lids in EYE_RATIO_POINTS:
            face[start : start + 3, lids, 1] = 50
    features = motion_features(face, fps=25)
    assert features["blinks_per_s"] == 1.0
    assert features["eyes_apart"] == 0.0


def test_loudness_belongs_to_its_picture() -> None:
    waveform = np.zeros(CLIP2S.num_samples, np.float32)
    # Picture 7 is sample 1,024 + 7 * 640; its window reaches half a hop to either side.
    middle = 1024 + 7 * 640
    waveform[middle - 320 : middle + 320] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(640) / 16000)
    level = loudness_db(waveform, 50, CLIP2S)
    # A sine of amplitude 0.5 has 20 log10(0.5 / sqrt 2) = -9.03 dB.
    assert level[7] == pytest.approx(-9.03, abs=0.01)
    assert (np.delete(level, 7) == -100).all()


def test_lag_is_found_with_its_sign() -> None:
    generator = np.random.default_rng(2)
    voice = np.convolve(generator.uniform(0, 1, 70), np.ones(3) / 3, mode="same")
    opening = voice[10:60]
    for lag in (-4, 3):
        # What is heard now is seen `lag` pictures later.
        level = voice[10 + lag : 60 + lag]
        assert correlation_at(opening, level, lag) == pytest.approx(1.0)
        assert correlation_at(opening, level, -lag) < 0.9
    assert correlation_at(opening, voice[:50], 0) == pytest.approx(np.corrcoef(opening, voice[:50])[0, 1])


def test_mouth_behind_the_sound_has_a_positive_lag() -> None:
    generator = np.random.default_rng(5)
    strength = np.convolve(generator.uniform(0.05, 1, 80), np.ones(3) / 3, mode="same")
    face = np.repeat(make_face(1), 50, axis=0)
    face[:, 13], face[:, 10], face[:, 152] = (200, 200), (200, 100), (200, 300)
    # The mouth shows 5 pictures later what is heard; dB are not the opening itself, so 0.9 is enough.
    face[:, 14] = np.stack([np.full(50, 200), 200 + 20 * strength[15:65]], axis=1)
    level = np.repeat(strength[20:72], 640)
    tone = np.sin(2 * np.pi * 1000 * np.arange(len(level)) / 16000)
    waveform = np.zeros(CLIP2S.num_samples, np.float32)
    waveform[1024 - 320 :] = (0.5 * level * tone)[: CLIP2S.num_samples - 704]
    features = sound_lip_features(face, waveform, CLIP2S)
    assert features["mouth_loudness_lag_s"] == pytest.approx(0.2)
    assert features["mouth_loudness_best"] > 0.9
    silent = sound_lip_features(face, np.zeros_like(waveform), CLIP2S)
    assert np.isnan(silent["mouth_loudness_correlation"])


def test_a_wave_lies_in_its_ring() -> None:
    x = np.arange(160)
    edges = np.geomspace(1 / 64, 1 / 2, 7)
    for band in range(6):
        frequency = np.sqrt(edges[band] * edges[band + 1])
        bands = radial_bands(np.tile(0.5 + 0.1 * np.sin(2 * np.pi * frequency * x), (160, 1)))
        assert int(bands.argmax()) == band
        # The Hann window spreads a line over two bins to either side: of the narrowest ring half is kept.
        assert bands[band] > np.log10(0.5)


def test_residual_of_noise() -> None:
    noise = np.random.default_rng(0).normal(128, 10, (5, 224, 224)).clip(0, 255).astype(np.uint8)
    face = np.repeat(noise[..., None], 3, axis=3)
    features = spectrum_features(face)
    # What a Gaussian of sigma 1.5 leaves of white noise: 1 - 2 g(0) + sum g^2, g(0) = 1 / (2 pi 1.5^2).
    left = 1 - 2 / (2 * np.pi * 1.5**2) + 1 / (4 * np.pi * 1.5**2)
    assert features["residual_std"] == pytest.approx(10 / 255 * np.sqrt(left), rel=0.02)
    # Gaussian: kurtosis 3.
    assert features["residual_kurtosis"] == pytest.approx(np.log(3), abs=0.05)
