"""Phonemes against lips: alignment with the pictures, and made-up speakers whose lips follow by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.audit.baselines import _regressions
from dfkit.audit.findings import FoldedVideos
from dfkit.audit.lip_sync import FEATURES, SoundAndLips, SyncModel, lag_correlations, lip_distances, of_videos
from dfkit.audit.phonemes import PhonemeRecogniser
from dfkit.clip import CLIP2S
from dfkit.measures.metrics import auc
from dfkit.media.stream import read_clips
from tests.audit.test_hand_made import make_face, turn

T, TOKENS = CLIP2S.num_frames, 20
REGRESSIONS = _regressions(1.0)


@pytest.fixture(scope="module")
def recogniser() -> PhonemeRecogniser:
    return PhonemeRecogniser()


def vowel_at(picture: int) -> np.ndarray:
    """A tenth of a second of a buzz, centred on a picture, in faint noise that is part of the clip's time."""
    sound = np.random.default_rng(0).normal(0, 1e-3, CLIP2S.num_samples)
    centre, length = CLIP2S.lead_samples + picture * 640, 1600
    buzz = np.sign(np.sin(2 * np.pi * 120 * np.arange(length) / 16000)) * np.hanning(length)
    sound[centre - length // 2 : centre + length // 2] += 0.3 * buzz
    return sound.astype(np.float32)


@pytest.mark.parametrize("picture", [10, 25, 40])
def test_rows_belong_to_pictures(recogniser: PhonemeRecogniser, picture: int) -> None:
    quiet = recogniser.posteriors(
        np.random.default_rng(0).normal(0, 1e-3, CLIP2S.num_samples).astype(np.float32), CLIP2S
    )
    loud = recogniser.posteriors(vowel_at(picture), CLIP2S)
    assert quiet.shape == (2 * (T - 1) + 7, 191)
    np.testing.assert_allclose(loud.sum(axis=1), 1, atol=1e-4)
    # CTC puts a phoneme's peak somewhere within it: the buzz covers five rows.
    assert abs(int(np.abs(loud - quiet).sum(axis=1).argmax()) - (2 * picture + 3)) <= 2


def test_real_speech_is_read(recogniser: PhonemeRecogniser, shared: Path) -> None:
    """GRID sentence sbia1a, `set blue in a one again`: level and rate are as the network wants them."""
    from hama import ASRModel

    tokens = ASRModel().decoder_tokens
    clip = next(iter(read_clips(shared / "clips" / "lipnet-sbia1a.mpg", CLIP2S)))
    best = [tokens[place] for place in recogniser.posteriors(clip.waveform, CLIP2S).argmax(axis=1)]
    heard = [token for token, before in zip(best, ["", *best], strict=False) if token not in ("<blank>", before)]
    assert "".join(heard).replace("<wb>", " ").startswith("sɛt blu ɪn ")


def test_lips_are_free_of_the_heads_motion() -> None:
    still = make_face(1)[0].astype(np.float64)
    moving = np.stack([turn(still, 0.02 * n, 1 + 0.01 * n, (3 * n, -n)) for n in range(12)]).astype(np.float32)
    lips = lip_distances(moving)
    np.testing.assert_allclose(lips, np.broadcast_to(lips[0], (12, 3)), atol=1e-5)
    centred = still - still.mean(axis=0)
    radius = np.sqrt(np.square(centred).sum(axis=1).mean())
    expected = [np.linalg.norm(still[a] - still[b]) / radius for a, b in ((13, 14), (61, 291), (0, 17))]
    assert lips[0] == pytest.approx(expected, rel=1e-4)


def test_clips_are_put_together_by_video() -> None:
    lips = np.random.default_rng(0).normal(2, 3, (5, T, 3)).astype(np.float32)
    lips[:, :, 2] = 0.3
    arrays = {"posteriors": np.zeros((5, 105, 4), np.float16), "lips": lips, "videos": np.array([7, 7, 9, 9, 9])}
    videos = of_videos(arrays, [9, 7], 25.0)
    assert [len(each) for each in videos.lips] == [3, 2]
    np.testing.assert_allclose(videos.lips[0][..., :2].mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(videos.lips[0][..., :2].std(axis=(0, 1)), 1, atol=1e-5)
    # A distance that never changes is not scaled up.
    assert np.abs(videos.lips[0][..., 2]).max() < 1e-4


def speakers(*, follow_real: float, follow_fake: float, num: int = 24) -> tuple[SoundAndLips, FoldedVideos]:
    """Videos whose lips are a share of a fixed rule of their phonemes, and noise; odd ones are fakes, pairs a group."""
    rng = np.random.default_rng(3)
    rule = rng.normal(size=(TOKENS, 3))
    posteriors, lips = [], []
    for video in range(num):
        tokens = rng.integers(0, TOKENS, (3, 2 * (T - 1) + 7))
        sound = np.eye(TOKENS, dtype=np.float16)[tokens]
        share = follow_fake if video % 2 else follow_real
        # A picture's own step is row 2 t + 3.
        own = sound[:, 3 : 3 + 2 * T : 2].astype(np.float64) @ rule
        own /= own.std()
        mouth = share * own + np.sqrt(1 - share**2) * rng.normal(size=own.shape)
        posteriors.append(sound)
        lips.append(mouth.astype(np.float32))
    parts = tuple(np.arange(fold * 2, num, 8)[:, None] + np.arange(2) for fold in range(4))
    videos = FoldedVideos(
        positions=tuple(range(num)),
        labels=np.arange(num) % 2,
        groups=tuple(f"g{video // 2}" for video in range(num)),
        test_parts=tuple(part.ravel() for part in parts),
        seed=0,
        repeats=50,
    )
    return SoundAndLips(tuple(posteriors), tuple(lips), 25.0), videos


@pytest.mark.parametrize(("real", "fake"), [(0.8, 0.3), (0.5, 0.9)], ids=["fakes follow less", "fakes follow more"])
def test_the_direction_is_learned(real: float, fake: float) -> None:
    sound_and_lips, videos = speakers(follow_real=real, follow_fake=fake)
    p_fake = videos.out_of_fold(lambda: SyncModel(sound_and_lips, REGRESSIONS()))
    assert auc(videos.labels, p_fake) > 0.95


class Remembers:
    """A classifier that keeps what it was fitted on."""

    def fit(self, values: np.ndarray, labels: np.ndarray) -> None:
        self.values, self.labels = values, labels

    def predict_proba(self, values: np.ndarray) -> Any:
        raise AssertionError


def test_the_classifier_sees_reals_by_a_fit_that_lacks_them() -> None:
    """In-sample fits of pure noise correlate; the classifier would learn that reals do."""
    sound_and_lips, videos = speakers(follow_real=0.0, follow_fake=0.0)
    remembers = Remembers()
    _, model = next(iter(videos.fitted(lambda: SyncModel(sound_and_lips, remembers))))
    training = np.setdiff1d(np.arange(24), videos.test_parts[0])
    reals = training[videos.labels[training] == 0]
    column = FEATURES.index("correlation")
    assert abs(remembers.values[remembers.labels == 0, column].mean()) < 0.1
    # The final fit has seen these, and shows it.
    assert model.features(reals)[:, column].mean() > 0.2


def test_lag_and_mismatch_are_seen() -> None:
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(2, T, 3))
    lips = np.concatenate([np.zeros((2, 5, 3)), expected[:, :-5]], axis=1).astype(np.float32)
    lags = lag_correlations(expected, lips, 12)
    assert len(lags) == 25 and int(lags.argmax()) == 12 + 5 and lags[17] == pytest.approx(1.0)
    sound_and_lips, videos = speakers(follow_real=0.9, follow_fake=0.9)
    test, model = next(iter(videos.fitted(lambda: SyncModel(sound_and_lips, REGRESSIONS()))))
    row, other = int(test[0]), int(test[2])
    assert model.agreement(row, row)[0] > 0.8
    in_time, late = model.agreement(row, row, late_s=0.4)
    assert in_time > 0.8 and abs(late) < 0.3
    assert abs(model.agreement(row, other)[0]) < 0.3
    lag, correlation = FEATURES.index("best_lag_s"), FEATURES.index("correlation")
    assert model.features(np.array([row]))[0, lag] == 0.0
    # The mouth five pictures later: the same fit finds it at 0.2 s.
    moved = tuple(np.roll(each, 5, axis=1) for each in sound_and_lips.lips)
    model.videos = SoundAndLips(sound_and_lips.posteriors, moved, 25.0)
    features = model.features(np.array([row]))[0]
    assert features[lag] == pytest.approx(0.2) and features[correlation] < 0.3


def test_still_lips_have_no_score() -> None:
    sound_and_lips, videos = speakers(follow_real=0.9, follow_fake=0.9)
    still = tuple(np.zeros_like(each) if row == 1 else each for row, each in enumerate(sound_and_lips.lips))
    changed = SoundAndLips(sound_and_lips.posteriors, still, 25.0)
    models = list(videos.fitted(lambda: SyncModel(changed, REGRESSIONS())))
    for test, model in models:
        assert [bool(np.isnan(row).all()) for row in model.features(test)] == (test == 1).tolist()
    assert changed.missing.tolist() == (np.arange(24) == 1).tolist()
    assert np.isfinite(videos.gather((test, model.p_fake(test)) for test, model in models)).all()
