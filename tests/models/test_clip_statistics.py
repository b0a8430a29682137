"""What a clip is like on the whole: ramps between quantiles, motion's own values, and the network around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.config import TrainConfig
from dfkit.distill.prune import prune
from dfkit.errors import CheckpointError, ConfigError
from dfkit.export.graph import ScoreGraph
from dfkit.export.straight import StraightScore
from dfkit.models.clip_statistics import NUM_RAMPS, ClipStatistics
from dfkit.models.joined import join_networks
from dfkit.models.mmms_ba import DEVIATION, MMMSBA, PARTS, SMALLEST_DEVIATION, NetworkSpec, clip_values, log_deviation
from dfkit.models.motion import (
    EYES,
    INNER_LIPS,
    MOTION_DIM,
    NUM_STATISTICS,
    OUTER_LIPS,
    SMALLEST_MOTION,
    motion_statistics,
)
from dfkit.models.original import refuse_foreign_network
from dfkit.training.train import network_spec

SPEC = NetworkSpec(
    modalities=("audio", "face", "lip", "motion"),
    lip_channels=(8, 8, 8),
    gru_hidden=16,
    dense_dim=12,
    face_trunk="efficientnet_lite0",
    face_blocks=1,
    clip_statistics=True,
    sound_deviation=True,
)
STILL = SPEC.model_copy(update={"motion_over_time": False})
"""Motion counts by its statistics alone."""


def made_network(spec: NetworkSpec = SPEC, seed: int = 0) -> MMMSBA:
    torch.manual_seed(seed)
    network = MMMSBA(spec).eval()
    with torch.no_grad():
        for part in network.statistics.children():
            part.linear.weight.normal_(std=0.05)  # type: ignore[union-attr]
            part.linear.bias.normal_()  # type: ignore[union-attr]
    return network


def steps_of(spec: NetworkSpec = SPEC, *, num_sound: int = 6, num_frames: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = {"audio": num_sound}
    return {
        m: torch.randn(2, lengths.get(m, num_frames), spec.feature_dim(m), generator=generator) for m in spec.modalities
    }


def test_ramps_rise_between_quantiles_and_bound_what_lies_beyond() -> None:
    part = ClipStatistics(2)
    values = torch.stack([torch.linspace(0, 100, 101), torch.full((101,), 3.0)], dim=1)
    part.set_edges(values)
    torch.testing.assert_close(part.edges[0], torch.tensor([2.0, 21.2, 40.4, 59.6, 78.8, 98.0]), atol=1e-4, rtol=0)
    # A hundredth of the largest edge, 98, a quarter of which is ramps.
    torch.testing.assert_close(part.edges[1, [0, -1]], torch.tensor([3 - 0.1225, 3 + 0.1225]), atol=1e-4, rtol=0)
    with torch.no_grad():
        # A tent: 21.2 is most real, both ends are most fake. No line does that.
        part.linear.weight[1, :NUM_RAMPS] = torch.tensor([-1.0, 1, 0, 0, 0])
        told = part(torch.tensor([[-1e6, 3.0], [2, 3], [21.2, 3], [30.8, 3], [40.4, 3], [1e6, 3]]))
    torch.testing.assert_close(told[:, 1], torch.tensor([0, 0, -1, -0.5, 0, 0]), atol=1e-4, rtol=0)
    assert bool((told[:, 0] == 0).all())


def test_a_value_that_never_changes_is_finite() -> None:
    part = ClipStatistics(1)
    part.set_edges(torch.full((5, 1), 2.0))
    torch.nn.init.ones_(part.linear.weight)
    assert bool(part(torch.tensor([[1.0], [2.0], [3.0]])).isfinite().all())


def test_motion_is_told_by_speed_unevenness_and_spread() -> None:
    """One point around the lips goes to and fro by 20 a picture, one of the eyes goes on at 10; the rest is still."""
    steps = torch.zeros(1, 5, MOTION_DIM)
    eye = 2 * (len(OUTER_LIPS) + len(INNER_LIPS))
    half = MOTION_DIM // 2
    steps[0, :, 1] = torch.tensor([10.0, -10, 10, -10, 10])
    steps[0, 1:, half + 1] = torch.tensor([-20.0, 20, -20, 20])
    steps[0, :, eye] = torch.tensor([-20.0, -10, 0, 10, 20])
    steps[0, 1:, half + eye] = 10
    values = torch.exp(motion_statistics(steps)[0]) - SMALLEST_MOTION
    assert values.shape == (NUM_STATISTICS,)
    lips, around = len(OUTER_LIPS), values[:3]
    torch.testing.assert_close(around, torch.tensor([20, 40, 10 * lips**0.5]) / lips, atol=0.02, rtol=0)
    eyes = values[6:9] * len(EYES)
    np.testing.assert_allclose(eyes[0], 10, atol=0.1)
    np.testing.assert_allclose(eyes[1], 0, atol=0.1)
    np.testing.assert_allclose(eyes[2], (200 * len(EYES)) ** 0.5, atol=0.1)
    assert float(values[3:6].abs().max()) < 0.02 and float(values[9:].abs().max()) < 0.02


def test_deviation_is_of_the_valid_steps_and_bounded_in_silence() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = 5 + 3 * torch.randn(2, 9, 4, generator=generator)
    mask = torch.arange(9)[None] < torch.tensor([[9], [6]])
    found = log_deviation(steps, mask)
    for clip, length in zip(range(2), (9, 6), strict=True):
        variance = steps[clip, :length].var(0, correction=0)
        torch.testing.assert_close(found[clip], 0.5 * torch.log(variance + SMALLEST_DEVIATION**2))
    torch.testing.assert_close(log_deviation(steps, None)[0], found[0])
    silence = log_deviation(torch.full((1, 9, 4), -300.0), None)
    torch.testing.assert_close(silence, torch.zeros(1, 4))


def test_the_original_is_as_it_was() -> None:
    assert not NetworkSpec().statistics and not len(MMMSBA(NetworkSpec(gru_hidden=8)).statistics)
    with pytest.raises(CheckpointError, match="clip statistics"):
        refuse_foreign_network(NetworkSpec(clip_statistics=True))


def test_streams_of_a_cnn_of_their_own_have_none() -> None:
    assert SPEC.statistics == {"audio": 40, DEVIATION: 40, "face": 32, "motion": NUM_STATISTICS}
    own = SPEC.model_copy(update={"face_trunk": "mmms_ba", "modalities": ("audio", "face", "lip")})
    assert own.statistics == {"audio": 40, DEVIATION: 40}
    before = own.model_copy(update={"sound_deviation": False})
    assert before.statistics == {"audio": 40}


def test_motion_that_is_no_stream_has_its_statistics_alone() -> None:
    assert STILL.streams == ("audio", "face", "lip") and STILL.statistics == SPEC.statistics
    assert STILL.blocks == SPEC.model_copy(update={"modalities": STILL.streams}).blocks
    network, steps = made_network(STILL), steps_of(STILL)
    assert not [name for name in network.state_dict() if name.startswith("motion")]
    with torch.no_grad():
        before = network.fuse(steps).features[PARTS]
        after = network.fuse({**steps, "motion": 3 * steps["motion"]}).features[PARTS]
    moved = (after - before).abs().amax(dim=(0, 2))
    assert float(moved[-1]) > 0.01 and not moved[:-1].any()
    with pytest.raises(ConfigError, match="motion_over_time False: the teacher has True"):
        prune(made_network(), STILL.model_copy(update={"gru_hidden": 8}))


@pytest.mark.parametrize("fields", [{"modalities": ("motion",)}, {"clip_statistics": False}])
def test_motion_has_to_count_somehow(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="motion counts by its clip statistics alone"):
        NetworkSpec.model_validate({**STILL.model_dump(), **fields})
    with pytest.raises(ValueError, match="name another modality beside motion"):
        TrainConfig.model_validate({"motion_over_time": False, **fields})


@pytest.mark.parametrize(
    ("fields", "over_time"),
    [
        ({}, False),
        ({"clip_statistics": False}, True),
        ({"motion_over_time": True}, True),
        ({"modalities": ("audio", "motion")}, True),
        ({"modalities": ("audio", "motion"), "motion_over_time": False}, False),
    ],
)
def test_motion_runs_over_time_where_nothing_else_shows_the_face(fields: dict[str, Any], over_time: bool) -> None:
    spec = network_spec(TrainConfig.model_validate(fields), CLIP2S)
    assert "motion" in spec.modalities and ("motion" in spec.streams) == over_time


def test_all_frames_get_what_the_clip_gets() -> None:
    network, steps = made_network(), steps_of()
    with torch.no_grad():
        output = network.fuse(steps)
        expected = torch.zeros(2, 2)
        for name, part in network.statistics.items():
            values = clip_values(name, steps, dict.fromkeys(steps))
            expected += part(values)
            part.linear.weight.zero_()  # type: ignore[union-attr,operator]
            part.linear.bias.zero_()  # type: ignore[union-attr,operator]
        without = network.fuse(steps)
    assert float(expected.abs().min()) > 0.01
    torch.testing.assert_close(output.clip_logits - without.clip_logits, expected, atol=1e-5, rtol=1e-5)
    moved = output.frame_logits - without.frame_logits
    torch.testing.assert_close(moved, expected[:, None].expand_as(moved), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.clip_logits, output.frame_logits.mean(1), atol=1e-5, rtol=1e-5)
    parts = output.features[PARTS]
    assert parts.shape == (2, 1 + len(SPEC.statistics), 2)
    torch.testing.assert_close(parts[:, 0], without.clip_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.sum(1), output.clip_logits, atol=1e-5, rtol=1e-5)


def test_padding_changes_no_answer() -> None:
    """Of a clip of four pictures and five steps of sound beside one of six and nine; motion has no padding."""
    spec = SPEC.model_copy(update={"modalities": ("audio", "face", "lip")})
    network, steps = made_network(spec), steps_of(spec, num_sound=9)
    masks = [torch.arange(count)[None] < torch.tensor([[count], [short]]) for count, short in ((9, 5), (6, 4))]
    both = network.fuse(steps, *masks)
    short = {m: value[1:, : 5 if m == "audio" else 4] for m, value in steps.items()}
    alone = network.fuse(short, masks[0][1:, :5], masks[1][1:, :4])
    torch.testing.assert_close(both.clip_logits[1:], alone.clip_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["bi_modal", "self", "none"])
@pytest.mark.parametrize("spec", [SPEC, STILL])
def test_the_exported_graph_is_the_network(spec: NetworkSpec, attention: str) -> None:
    network = made_network(spec.model_copy(update={"attention": attention}))
    short = CLIP2S.model_copy(update={"num_frames": 6})
    generator = torch.Generator().manual_seed(0)
    sizes: dict[str, tuple[int, ...]] = {"audio": (1, short.num_samples), "motion": (6, 468, 2)}
    inputs = [torch.rand(sizes.get(m, (6, SPEC.feature_dim(m))), generator=generator) for m in SPEC.modalities]
    with torch.no_grad():
        graph, straight = ScoreGraph(network, short)(*inputs), StraightScore(network, short)(*inputs)
    for got, expected in zip(graph, straight, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_student_keeps_them_but_those_of_a_face_that_it_sees_by_its_own_cnn() -> None:
    teacher = made_network()
    student = prune(teacher, SPEC.model_copy(update={"gru_hidden": 8}))
    for name, part in teacher.statistics.items():
        for key, value in part.state_dict().items():
            assert torch.equal(student.statistics.state_dict()[f"{name}.{key}"], value)
    own = prune(teacher, SPEC.model_copy(update={"face_trunk": "mmms_ba", "face_channels": (8, 8, 8)}))
    assert set(own.statistics) == {"audio", DEVIATION, "motion"}
    with pytest.raises(ConfigError, match="clip_statistics False: the teacher has True"):
        prune(teacher, SPEC.model_copy(update={"clip_statistics": False}))


def test_joined_they_add_up_in_their_shares() -> None:
    widths: dict[str, Any] = {"gru_hidden": 12, "dense_dim": 8}
    sound = made_network(
        NetworkSpec(modalities=("audio", "motion"), clip_statistics=True, sound_deviation=True, **widths)
    )
    face = made_network(NetworkSpec(modalities=("face",), face_channels=(8, 8, 8), **widths), seed=1)
    joined = join_networks([sound, face], [0.5, 2.0])
    steps = steps_of(joined.spec)
    with torch.no_grad():
        expected = 0.5 * sound.fuse({m: steps[m] for m in ("audio", "motion")}).clip_logits
        expected = expected + 2.0 * face.fuse({"face": steps["face"]}).clip_logits
        torch.testing.assert_close(joined.fuse(steps).clip_logits, expected, atol=1e-5, rtol=1e-5)
