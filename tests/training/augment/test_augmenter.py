"""Augmentation: the same draw gives the same clip, and each step does what it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dfkit.clip import CLIP2S, UNIFORM50, ClipSpec, PictureSpec
from dfkit.config import AugmentConfig
from dfkit.data.samples import ClipRecord
from dfkit.errors import ConfigError
from dfkit.experiment import read_config
from dfkit.training.augment import Augmenter
from dfkit.training.augment.mirror import mirror_order
from dfkit.training.augment.pictures import color_matrix, face_share
from dfkit.training.augment.roundtrip import roundtrip_h264, roundtrip_sound
from dfkit.training.augment.sound import keep_band, mix_at_snr
from tests.data.makers import make_clip

FACE_PX, LIP_PX = 224, 96
SPEC = ClipSpec(picture=PictureSpec(face_px=FACE_PX, lip_px=LIP_PX))
CONFIGS = Path(__file__).resolve().parents[3] / "configs"
STEPS = tuple(AugmentConfig.model_fields)
ARRAYS = ("face", "lip", "landmarks", "waveform", "mfcc", "times_s", "interpolated", "frame_labels")


def make_record(*, label: int | None = 1, num_frames: int = 12, voice_hz: float = 440.0) -> ClipRecord:
    """A clip of smooth pictures with a face-like cloud of landmarks and a tone."""
    clip = make_clip(seed=3, spec=SPEC)
    times = np.arange(CLIP2S.num_samples) / 16000
    generator = np.random.default_rng(0)
    voice = 0.2 * np.sin(2 * np.pi * voice_hz * times) * (1 + 0.5 * np.sin(2 * np.pi * 3 * times))
    return ClipRecord(
        face=clip.face[:num_frames],
        lip=clip.lip[:num_frames],
        landmarks=generator.uniform(100, 400, (num_frames, 468, 2)).astype(np.float32),
        times_s=clip.times_s[:num_frames],
        interpolated=clip.interpolated[:num_frames],
        frame_labels=np.full(num_frames, label or 0, np.uint8),
        waveform=voice.astype(np.float32),
        mfcc=np.zeros((0, 40), np.float32),
        label=label,
        video="a.mp4",
        group=("g",),
        method=None,
        split=None,
        track_id=0,
        start_s=0.0,
        end_s=2.0,
        facts=None,
    )


def augmenter(seed: int = 0, **steps: Any) -> Augmenter:
    return Augmenter(AugmentConfig.model_validate(steps), seed)


def differing(first: ClipRecord, second: ClipRecord) -> set[str]:
    return {name for name in ARRAYS if not np.array_equal(getattr(first, name), getattr(second, name))}


def sure(name: str, **options: Any) -> Augmenter:
    return augmenter(**{name: {"prob": 1, **options}})


@pytest.mark.parametrize("name", STEPS)
def test_same_draw_same_clip_and_shapes_stay(name: str) -> None:
    record = make_record()
    before = {key: getattr(record, key).copy() for key in ARRAYS}
    first = sure(name).apply(record, epoch=4, index=7)
    again = sure(name).apply(record, epoch=4, index=7)
    assert differing(first, again) == set()
    assert differing(record, first), "the step did nothing"
    for key in ARRAYS:
        assert np.array_equal(getattr(record, key), before[key]), "the stored clip was changed"
        assert getattr(first, key).shape == before[key].shape
        assert getattr(first, key).dtype == before[key].dtype
    assert np.abs(first.waveform).max() <= 1


@pytest.mark.parametrize("name", [name for name in STEPS if name not in {"flip", "sound_band", "sound_codec"}])
def test_epoch_clip_and_seed_change_the_draw(name: str) -> None:
    record = make_record(num_frames=4)
    first = sure(name).apply(record, epoch=0, index=0)
    # Several of each: one of six rate factors may be drawn twice in a row.
    assert any(differing(first, sure(name).apply(record, epoch=epoch, index=0)) for epoch in (1, 2, 3))
    assert any(differing(first, sure(name).apply(record, epoch=0, index=index)) for index in (1, 2, 3))
    others = [augmenter(seed=seed, **{name: {"prob": 1}}) for seed in (1, 2, 3)]
    assert any(differing(first, other.apply(record, epoch=0, index=0)) for other in others)


def test_a_further_step_leaves_the_draws_of_others() -> None:
    record = make_record()
    alone = sure("noise").apply(record, epoch=0, index=0)
    both = augmenter(noise={"prob": 1}, sound_noise={"prob": 1}).apply(record, epoch=0, index=0)
    assert differing(alone, both) == {"waveform"}


def test_probability_is_kept() -> None:
    record = make_record(num_frames=1)
    half = augmenter(flip={"prob": 0.3})
    hits = sum(half.apply(record, epoch=0, index=index) is not record for index in range(1000))
    # Four standard deviations of a binomial: sqrt(1000 * 0.3 * 0.7) = 14.5.
    assert abs(hits - 300) < 58
    assert augmenter().apply(record, epoch=0, index=0) is record


@pytest.mark.parametrize(("only", "changed"), [("all", (0, 1, None)), ("real", (0,)), ("fake", (1,))])
def test_only_one_label(only: str, changed: tuple[int | None, ...]) -> None:
    for label in (0, 1, None):
        record = make_record(label=label, num_frames=1)
        done = sure("flip", only=only).apply(record, epoch=0, index=0)
        assert (done is not record) == (label in changed)


def test_flip_twice_is_identity() -> None:
    record = make_record()
    once = sure("flip").apply(record, epoch=0, index=0)
    twice = sure("flip").apply(once, epoch=0, index=0)
    assert np.array_equal(once.face, record.face[:, :, ::-1])
    assert np.array_equal(once.lip, record.lip[:, :, ::-1])
    assert differing(record, twice) <= {"landmarks"}
    # Two subtractions in float32 of values up to 500: an ulp is 3e-5.
    np.testing.assert_allclose(twice.landmarks, record.landmarks, atol=1e-4)


# Contours of MediaPipe's published mesh, going round: mirrored, each is itself the other way round.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
OUTER_LIPS = (0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 61, 185, 40, 39, 37)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)


def test_mirror_order_is_that_of_the_published_contours() -> None:
    order = mirror_order()
    assert np.array_equal(order[order], np.arange(468))
    for ring in (OVAL, OUTER_LIPS):
        mirrored = [ring[0], *reversed(ring[1:])]
        assert order[list(ring)].tolist() == mirrored
    assert order[list(RIGHT_EYE)].tolist() == list(LEFT_EYE)


def test_flip_puts_each_point_on_the_other_side() -> None:
    record = make_record(num_frames=2)
    flipped = sure("flip").apply(record, epoch=0, index=0)
    x = record.landmarks[..., 0]
    middle = (x.min() + x.max()) / 2
    # The right eye's corner (33) lies where the left one's (263) was mirrored to.
    np.testing.assert_allclose(flipped.landmarks[:, 33, 0], 2 * middle - record.landmarks[:, 263, 0], atol=1e-4)
    assert np.array_equal(flipped.landmarks[:, 33, 1], record.landmarks[:, 263, 1])


def test_rotation_is_one_similarity_for_pictures_and_landmarks() -> None:
    record = make_record(num_frames=2)
    dot = np.zeros((2, FACE_PX, FACE_PX, 3), np.uint8)
    dot[:, 110:115, 200:205] = 255
    turned = sure("rotate", max_degrees=20).apply(replace(record, face=dot), epoch=0, index=3)
    y, x = np.argwhere(turned.face[0, :, :, 0] > 100).mean(axis=0) - 111.5
    angle_rad = np.arctan2(y, x) - np.arctan2(112 - 111.5, 202 - 111.5)
    moved = turned.landmarks[0] - turned.landmarks[0].mean(axis=0)
    given = record.landmarks[0] - record.landmarks[0].mean(axis=0)
    expected = np.exp(1j * angle_rad) * (given[:, 0] + 1j * given[:, 1])
    assert abs(angle_rad) > np.radians(1)
    # The dot's middle is found to a fifth of a pixel: 0.2 / 90 of a radius of up to 220 px.
    np.testing.assert_allclose(moved[:, 0] + 1j * moved[:, 1], expected, atol=0.5)


def test_noise_has_the_strength_asked_for() -> None:
    grey = np.full((4, FACE_PX, FACE_PX, 3), 128, np.uint8)
    record = replace(make_record(num_frames=4), face=grey)
    noisy = sure("noise", std=(0.02, 0.02)).apply(record, epoch=0, index=0)
    # 0.02 * 255 = 5.1, and rounding adds 1/12 to the variance.
    assert np.std(noisy.face.astype(float)) == pytest.approx(np.hypot(5.1, 12**-0.5), rel=0.01)


def test_blur_and_resize_are_the_same_for_face_and_lips() -> None:
    edge = np.zeros((1, LIP_PX, LIP_PX, 3), np.uint8)
    edge[:, :, 48:] = 255
    record = replace(make_record(num_frames=1), face=edge, lip=edge.copy())
    for name in ("blur", "color_jitter", "h264", "rotate", "flip"):
        done = sure(name).apply(record, epoch=0, index=0)
        assert np.array_equal(done.face, done.lip), name


def test_color_map_by_hand() -> None:
    grey = np.array([100.0, 100.0, 100.0])
    # Grey has no colour to turn or to take away; only the gain shows.
    np.testing.assert_allclose(color_matrix(1.1, 0.3, 1.0) @ grey, 110.0, atol=0.2)
    # Without saturation red becomes its luma, 0.299 of it.
    np.testing.assert_allclose(color_matrix(1.0, 0.0, 0.5) @ [200.0, 0, 0], 0.299 * 200, atol=1e-6)
    np.testing.assert_allclose(color_matrix(1.0, 1.0, 0.0), np.eye(3), atol=1e-9)


def test_h264_loses_more_at_a_higher_crf() -> None:
    generator = np.random.default_rng(0)
    record = make_record()
    noise = generator.normal(0, 12, record.face.shape)
    busy = np.clip(record.face + noise, 0, 255).astype(np.uint8)
    errors = {
        crf: float(np.abs(roundtrip_h264(busy, crf=crf, fps=25.0).astype(float) - busy).mean()) for crf in (10, 23, 28)
    }
    assert 0 < errors[10] < errors[23] < errors[28]
    # Right matrix and range: flat colours come back to within the rounding of 8-bit YUV.
    flat = np.broadcast_to(np.uint8([200, 60, 90]), (3, 97, 95, 3))
    back = roundtrip_h264(np.ascontiguousarray(flat), crf=10, fps=29.97)
    assert back.shape == flat.shape
    assert np.abs(back.astype(int) - flat).max() <= 4


@pytest.mark.parametrize("snr_db", [-5.0, 15.0, 25.0])
def test_snr_is_the_one_asked_for(snr_db: float) -> None:
    record = make_record()
    done = sure("sound_noise", snr_db=(snr_db, snr_db)).apply(record, epoch=0, index=0)
    # A common gain is allowed for (it keeps loud mixtures in range): least-squares fit of the clean sound.
    clean, mixed = record.waveform.astype(np.float64), done.waveform.astype(np.float64)
    gain = 1.0 if np.abs(mixed).max() < 0.999 else np.dot(clean, mixed) / np.dot(clean, clean)
    noise = mixed / gain - clean
    measured = 10 * np.log10(np.mean(clean**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=0.1)


def test_silence_stays_silent() -> None:
    noise = np.ones(10, np.float32)
    assert not mix_at_snr(np.zeros(10, np.float32), noise, snr_db=20).any()


@pytest.mark.parametrize("codec", ["aac", "opus", "mp3"])
@pytest.mark.parametrize("num_samples", [33408, 16001])
def test_codec_leaves_the_sound_in_its_place(codec: str, num_samples: int) -> None:
    generator = np.random.default_rng(1)
    times = np.arange(num_samples) / 16000
    # A sweep with pauses: one lag alone fits it.
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 600 * times) * times) * (np.sin(2 * np.pi * 2.5 * times) > -0.3)
    given = (sweep + 0.005 * generator.standard_normal(num_samples)).astype(np.float32)
    back = roundtrip_sound(given, codec=codec, bitrate_kbps=32, sample_rate=16000)
    assert back.shape == given.shape
    lags = np.arange(-30, 31)
    likeness = [np.dot(np.roll(back, -lag)[64:-64], given[64:-64]) for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) <= 1
    assert np.corrcoef(back, given)[0, 1] > 0.9
    # The end is not lost in the encoder.
    assert np.corrcoef(back[-800:], given[-800:])[0, 1] > 0.8
    assert not np.array_equal(back, given)


def test_band_limits() -> None:
    times = np.arange(16000) / 16000
    kept = {}
    for hz in (100, 1000, 6000):
        tone = np.sin(2 * np.pi * hz * times).astype(np.float32) * 0.5
        limited = keep_band(tone, low_hz=300, high_hz=3400, sample_rate=16000)
        kept[hz] = float(np.std(limited[4000:12000]) / np.std(tone[4000:12000]))
        if hz == 1000:
            np.testing.assert_allclose(limited[4000:12000], tone[4000:12000], atol=2e-3)
    assert kept[100] < 0.01
    assert kept[6000] < 0.01


def test_erased_place_is_the_same_on_the_face() -> None:
    record = make_record(num_frames=2)
    points = np.zeros((2, 468, 2), np.float32)
    # All points in the box (0, 0, 100, 100) but the lips at its middle: face box 130 px, lip box 50 px, both
    # centred on (50, 50). So the lip crop is the middle 50 / 130 of the face crop.
    points[:, ::2] = 100
    points[:, [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]] = 50
    record = replace(record, landmarks=points)
    for index in range(12):
        done = sure("erase", area=(0.2, 0.3)).apply(record, epoch=0, index=index)
        hit = np.argwhere((done.face[0] != record.face[0]).any(axis=2))
        (top, left), (bottom, right) = hit.min(axis=0) / FACE_PX, (hit.max(axis=0) + 1) / FACE_PX
        expected = [(edge * 130 - 40) / 50 for edge in (top, left, bottom, right)]
        inside = [min(max(edge, 0), 1) for edge in expected]
        found = np.argwhere((done.lip[0] != record.lip[0]).any(axis=2))
        if inside[2] - inside[0] < 0.05 or inside[3] - inside[1] < 0.05:
            continue
        edges = [*(found.min(axis=0) / LIP_PX), *((found.max(axis=0) + 1) / LIP_PX)]
        # A face pixel is 1.1 lip pixels; equal colours may hide a row: two pixels.
        np.testing.assert_allclose(edges, inside, atol=3 / LIP_PX)


def test_time_mask_takes_pictures_and_sound_of_the_same_time() -> None:
    record = make_record(num_frames=50)
    done = sure("time_mask", of=["both"], share=(0.2, 0.2)).apply(record, epoch=0, index=0)
    black = np.flatnonzero(~done.face.any(axis=(1, 2, 3)))
    assert len(black) == 10
    assert np.array_equal(black, np.flatnonzero(~done.lip.any(axis=(1, 2, 3))))
    changed = np.flatnonzero(done.waveform != record.waveform)
    assert changed[0] == pytest.approx(1024 + black[0] * 640, abs=2)
    assert changed[-1] == pytest.approx(1024 + (black[-1] + 1) * 640, abs=2)
    held = done.landmarks[black]
    assert (held == held[0]).all()
    sound = sure("time_mask", of=["sound"]).apply(record, epoch=0, index=0)
    assert differing(record, sound) == {"waveform"}


def test_draws_of_the_preset_never_know_the_label() -> None:
    config = read_config(CONFIGS / "alike.yaml").train.augment
    assert {step.only for step in config.active().values()} == {"all"}
    alike = Augmenter(config, 5)
    for index in range(6):
        # A twin and its forgery, and a clip that nobody labelled, drawn at one place of one epoch.
        first, *others = (alike.apply(make_record(label=label), epoch=1, index=index) for label in (0, 1, None))
        assert all(differing(first, other) <= {"frame_labels"} for other in others)


def test_face_is_shrunk_to_the_width_asked_for() -> None:
    record = make_record(num_frames=2)
    # The cloud of landmarks is as wide as it is high: 1 / 1.3 of a crop.
    face_px = FACE_PX / 1.3
    assert face_share(record.landmarks, face_scale=1.3) == pytest.approx(1 / 1.3, rel=0.01)
    half = sure("face_size", face_px=[face_px / 2, face_px / 2]).apply(record, epoch=0, index=0)
    by_scale = sure("resize", scale=[0.5, 0.5]).apply(record, epoch=0, index=0)
    assert np.array_equal(half.face, by_scale.face) and np.array_equal(half.lip, by_scale.lip)
    larger = sure("face_size", face_px=[300, 300]).apply(record, epoch=0, index=0)
    assert differing(record, larger) == set()


def test_jpeg_loses_more_at_a_lower_quality() -> None:
    record = make_record(num_frames=2)
    errors = [
        np.abs(
            sure("jpeg", quality=[quality, quality]).apply(record, epoch=0, index=0).face.astype(int) - record.face
        ).mean()
        for quality in (95, 60, 20)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 20


def test_level_is_the_one_asked_for() -> None:
    record = make_record(num_frames=1)
    done = sure("loudness", level_db=[-30, -30]).apply(record, epoch=0, index=0)
    rms_db = 10 * np.log10(np.mean(np.square(done.waveform, dtype=np.float64)))
    assert rms_db == pytest.approx(-30, abs=0.01)
    silent = replace(record, waveform=np.zeros_like(record.waveform))
    assert differing(silent, sure("loudness").apply(silent, epoch=0, index=0)) == set()


@pytest.mark.parametrize("rate", [8000, 11_025])
def test_lower_rate_takes_what_lies_above_and_leaves_the_rest_in_place(rate: int) -> None:
    low, high = (make_record(num_frames=1, voice_hz=hz) for hz in (1000.0, 6000.0))
    step = sure("sound_rate", rates=[rate])
    assert np.abs(step.apply(low, epoch=0, index=0).waveform - low.waveform)[200:-200].max() < 1e-3
    assert np.abs(step.apply(high, epoch=0, index=0).waveform)[200:-200].max() < 1e-2


def test_uniform50_refuses_steps_that_need_the_waveform() -> None:
    record = replace(
        make_record(),
        landmarks=np.zeros((12, 0, 2), np.float32),
        waveform=np.zeros(0, np.float32),
        mfcc=np.ones((9, 40), np.float32),
    )
    for name in ("sound_noise", "sound_codec", "sound_band", "sound_rate", "loudness", "time_mask"):
        with pytest.raises(ConfigError, match=f"augment.{name}"):
            sure(name).apply(record, epoch=0, index=0)
        with pytest.raises(ConfigError, match=f"augment.{name}"):
            Augmenter(AugmentConfig.model_validate({name: {"prob": 1}}), 0, UNIFORM50)
    pictures = {name: {"prob": 1} for name in STEPS if not name.startswith(("sound", "loudness", "time"))}
    done = augmenter(**pictures, time_mask={"prob": 1, "of": ["pictures"]}).apply(record, epoch=0, index=0)
    assert differing(record, done) == {"face", "lip"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"h264": {"crf": [28, 23]}},
        {"h264": {"crf": [23, 60]}},
        {"noise": {"prob": 1.2}},
        {"sound_codec": {"codecs": []}},
        {"blurr": {"prob": 1}},
        {"resize": {"scale": [0.0, 0.5]}},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig.model_validate(wrong)
