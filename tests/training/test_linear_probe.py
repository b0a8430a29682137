"""A regression on a trunk's features, as a fit on made features and as the face stream of a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfkit.config.augment import AugmentConfig
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.linear_probe import LinearProbe, fit_probe, probe_features, set_probe
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data

NETWORK = NetworkSpec(
    modalities=("audio", "face"), face_trunk="efficientnet_lite0", face_blocks=1, gru_hidden=8, dense_dim=6
)


def make_network() -> MMMSBA:
    torch.manual_seed(0)
    return MMMSBA(NETWORK, gru_dropout=0.0, dense_dropout=0.0).eval()


def test_a_shift_of_one_feature_is_found_whatever_its_scale() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    features = rng.standard_normal((400, 3)).astype(np.float32) * (100, 1, 0.01) + 5
    features[labels == 1, 2] += 0.03
    probe = fit_probe(features.astype(np.float32), labels, strength=1.0)
    margins = probe.margin(features.astype(np.float32))
    # Three deviations apart: 93 % are told apart by the one feature.
    assert ((margins > 0) == (labels == 1)).mean() > 0.9
    assert abs(probe.weight[2] * 0.01) > 5 * max(abs(probe.weight[0] * 100), abs(probe.weight[1]))


def test_the_face_stream_answers_as_the_probe() -> None:
    network = make_network()
    faces = torch.rand(3, 4, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = network.frame_features("face", faces).numpy()
    rng = np.random.default_rng(2)
    weight = rng.standard_normal(features.shape[-1])
    weight /= (features @ weight).std()
    probe = LinearProbe(weight, -float((features @ weight).mean()))
    set_probe(network, probe)
    audio = torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        output = network(audio, faces, None)
    frames = (output.frame_logits[..., 1] - output.frame_logits[..., 0]).numpy()
    expected = probe.margin(features)
    small = np.abs(expected) < 1
    assert small.sum() > 4
    np.testing.assert_allclose(frames[small], expected[small], rtol=0.06, atol=5e-3)
    assert np.corrcoef(np.argsort(frames.ravel()), np.argsort(expected.ravel()))[0, 1] == pytest.approx(1)
    with torch.no_grad():
        other_sound = network(audio + 1, faces, None)
    torch.testing.assert_close(other_sound.frame_logits, output.frame_logits)


def test_features_of_clips_and_their_copies(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("data")
    data = PreparedData(make_synthetic_data(folder / "x", num_videos=6, clips_per_video=1, spec=SPEC))
    clips = split_clips(data, tiny_config().split)["train"]
    flip = AugmentConfig.model_validate({"flip": {"prob": 1.0}})
    features, labels = probe_features(make_network(), data, clips, flip, copies=1)
    assert features.shape == (2 * len(clips), 32) and list(labels[: len(clips)]) == list(labels[len(clips) :])
    assert not np.allclose(features[: len(clips)], features[len(clips) :])
