"""Bytes and back: pictures, landmarks, sound."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from dfkit.data import codec
from dfkit.data.samples import PictureCache, VideoLabels, decode_sample, encode_clip
from dfkit.errors import DataError
from tests.data.makers import make_clip

LABELS = VideoLabels("v.mp4", "ab" * 32, 1, ("p1",), "swap", "train", ((0.5, 1.0),), {"duration_s": 2.0})


def test_picture_is_close_and_sharp_in_colour() -> None:
    clip = make_clip()
    jpeg, stated_db = codec.encode_picture(clip.face[0])
    (decoded,) = codec.decode_pictures([jpeg], clip.face.shape[1:])
    measured_db = peak_signal_noise_ratio(clip.face[0], decoded, data_range=255)
    assert measured_db >= 40
    # scikit-image averages in float64 over all channels, OpenCV the same: 0.01 dB is rounding.
    assert stated_db == pytest.approx(measured_db, abs=0.01)


def test_fine_colour_stripes_survive() -> None:
    """Red and blue columns one pixel wide: 4:2:0 would mix them (about 11 dB)."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    _, reached_db = codec.encode_picture(stripes)
    assert reached_db >= 40


def test_noise_raises_the_quality_until_40_db() -> None:
    generator = np.random.default_rng(0)
    smooth = make_clip().face[0].astype(np.float64)
    noisy = np.clip(smooth + generator.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    lowest = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, codec.QUALITIES[0]])[1]
    jpeg, reached_db = codec.encode_picture(noisy)
    assert reached_db >= 40
    assert len(jpeg) > len(lowest)


def test_blobs_round_trip_and_cuts_are_noticed() -> None:
    blobs = [b"", b"abc", b"\x00" * 1000]
    packed = codec.pack_blobs(blobs)
    assert [bytes(blob) for blob in codec.unpack_blobs(packed)] == blobs
    assert codec.unpack_blobs(codec.pack_blobs([])) == []
    for cut in (0, 3, 10, len(packed) - 1):
        with pytest.raises(DataError, match="cut off"):
            codec.unpack_blobs(packed[:cut])


@pytest.mark.parametrize(("reach_px", "limit_px"), [(300.0, 1 / 128), (1000.0, 1 / 64), (5000.0, 1 / 128)])
def test_landmark_error(reach_px: float, limit_px: float) -> None:
    """Half a step of the fixed-point code, for faces of 600, 2,000 and 10,000 px."""
    generator = np.random.default_rng(1)
    landmarks = (3000 + generator.uniform(-reach_px, reach_px, (50, 468, 2))).astype(np.float32)
    decoded = codec.decode_landmarks(codec.encode_landmarks(landmarks))
    # float32 itself resolves 1/2048 px at 8,000.
    assert np.abs(decoded - landmarks).max() <= limit_px + 1 / 1024
    assert decoded.shape == (50, 468, 2)


def test_landmarks_that_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match="not finite"):
        codec.encode_landmarks(np.full((1, 2, 2), np.nan, np.float32))


def test_sample_round_trip() -> None:
    clip = make_clip()
    sample = encode_clip(clip, LABELS, PictureCache())
    record = decode_sample(dict(sample), n_mfcc=40)
    assert np.array_equal(record.waveform, clip.waveform)
    assert np.array_equal(record.times_s, clip.times_s)
    assert np.array_equal(record.interpolated, clip.interpolated)
    assert np.abs(record.landmarks - clip.landmarks).max() <= 1 / 64
    assert peak_signal_noise_ratio(clip.face, record.face, data_range=255) >= 40
    assert peak_signal_noise_ratio(clip.lip, record.lip, data_range=255) >= 40
    # 25 fps: the frames from 0.5 s up to but not at 1.0 s.
    assert record.frame_labels.tolist() == [int(12 < i < 25) for i in range(50)]
    assert (record.label, record.group, record.method, record.split) == (1, ("p1",), "swap", "train")
    assert record.facts == {"duration_s": 2.0}
    assert sum(map(len, sample.values())) <= 2_000_000


def test_clip_of_a_fake_outside_of_its_intervals_is_real() -> None:
    sample = encode_clip(make_clip(start_index=25), LABELS, PictureCache())
    record = decode_sample(dict(sample), n_mfcc=40)
    assert record.label == 0
    assert not record.frame_labels.any()


def test_overlapping_clips_share_encoded_pictures_and_forget_the_old() -> None:
    cache = PictureCache()
    first = encode_clip(make_clip(start_index=0), LABELS, cache)
    second = encode_clip(make_clip(start_index=25), LABELS, cache)
    jpegs = [[bytes(b) for b in codec.unpack_blobs(sample["face"])] for sample in (first, second)]
    assert jpegs[0][25:] == jpegs[1][:25]
    assert len(cache._encoded) == 2 * 50
    # A long video has many tracks: those that ended are not kept.
    encode_clip(make_clip(start_index=500, track_id=9), LABELS, cache)
    assert len(cache._encoded) == 2 * 50


def test_unknown_label_stays_unknown() -> None:
    labels = VideoLabels("v.mp4", "", None, (), None, None, (), None)
    record = decode_sample(dict(encode_clip(make_clip(), labels, PictureCache())), n_mfcc=40)
    assert record.label is None
