"""Products of sound and pictures at the same moment: what lets the head tell sound that is late."""

from __future__ import annotations

import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.distill.prune import prune
from dfkit.errors import CheckpointError, ConfigError
from dfkit.export.graph import ScoreGraph
from dfkit.export.straight import StraightScore
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec, resample_steps
from dfkit.models.original import refuse_foreign_network

WIDTHS = {"face_channels": (8, 8, 8), "lip_channels": (8, 8, 8), "gru_hidden": 16, "dense_dim": 12}
SPEC = NetworkSpec(**WIDTHS, aligned=True)


def steps_of(spec: NetworkSpec, *, num_sound: int = 6, num_frames: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = {"audio": num_sound}
    return {
        m: torch.randn(2, lengths.get(m, num_frames), spec.feature_dim(m), generator=generator) for m in spec.modalities
    }


def test_the_original_is_as_it_was() -> None:
    assert NetworkSpec().head_dim == 900 and not NetworkSpec().aligned
    assert NetworkSpec(aligned=True).head_dim == 900 + 2 * 100
    with pytest.raises(CheckpointError, match="aligned products"):
        refuse_foreign_network(NetworkSpec(aligned=True))


def test_without_sound_there_is_nothing_to_align() -> None:
    assert NetworkSpec(modalities=("face", "lip"), aligned=True).aligned_blocks == {}


def test_products_are_of_the_same_moment_in_the_order_of_the_blocks() -> None:
    network = MMMSBA(SPEC).eval()
    output = network.fuse(steps_of(SPEC))
    features = output.features
    for name in ("face", "lip"):
        product = features["audio_dense"] * features[f"{name}_dense"]
        assert torch.equal(features[f"{name}_audio_aligned"], product)
    # Between the attention's blocks and the streams: 3 pairs of 2 D, 2 products of D.
    place = 6 * SPEC.dense_dim
    shown = features["frame_merged"][..., place : place + SPEC.dense_dim]
    assert torch.equal(shown, features["face_audio_aligned"])
    assert torch.allclose(output.clip_logits, output.frame_logits.mean(1), atol=1e-6)


def test_sound_of_another_length_is_brought_to_the_pictures() -> None:
    network = MMMSBA(SPEC, frame_resampling="padded").eval()
    features = network.fuse(steps_of(SPEC, num_sound=9)).features
    expected = resample_steps(features["audio_dense"], 6) * features["lip_dense"]
    assert torch.allclose(features["lip_audio_aligned"], expected)


def test_padding_changes_no_answer() -> None:
    """Of a clip of four pictures and five steps of sound beside one of six and nine."""
    network = MMMSBA(SPEC).eval()
    steps = steps_of(SPEC, num_sound=9)
    masks = [torch.arange(count)[None] < torch.tensor([[count], [short]]) for count, short in ((9, 5), (6, 4))]
    both = network.fuse(steps, *masks)
    short = {m: value[1:, : 5 if m == "audio" else 4] for m, value in steps.items()}
    alone = network.fuse(short, masks[0][1:, :5], masks[1][1:, :4])
    assert torch.allclose(both.clip_logits[1:], alone.clip_logits, atol=1e-5)
    assert torch.allclose(both.frame_logits[1:, :4], alone.frame_logits, atol=1e-5)


def test_late_sound_changes_the_products_where_attention_sees_nothing() -> None:
    """The bi-modal block of a picture is a sum over all sound: in whatever order that comes, it is the same."""
    network = MMMSBA(SPEC.model_copy(update={"modalities": ("audio", "lip")})).eval()
    generator = torch.Generator().manual_seed(1)
    lip, sound = (torch.randn(1, 6, SPEC.dense_dim, generator=generator) for _ in range(2))
    blocks = [
        network.join_blocks({"audio": each, "lip": lip}, dict.fromkeys(("audio", "lip")))[0]
        for each in (sound, sound.roll(2, dims=1))
    ]
    in_time, late = ({name: block.mean(1) for name, block in each.items()} for each in blocks)
    width = SPEC.dense_dim
    assert torch.allclose(in_time["lip_audio"][:, width:], late["lip_audio"][:, width:], atol=1e-5)
    assert not torch.allclose(in_time["lip_audio_aligned"], late["lip_audio_aligned"], atol=1e-2)


@pytest.mark.parametrize("attention", ["bi_modal", "self", "none"])
def test_the_exported_graph_is_the_network(attention: str) -> None:
    spec = NetworkSpec(**WIDTHS, aligned=True, attention=attention)  # type: ignore[arg-type]
    network = MMMSBA(spec).eval()
    short = CLIP2S.model_copy(update={"num_frames": 6})
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(1, short.num_samples, generator=generator) * 0.1, torch.randn(6, 8), torch.randn(6, 8))
    with torch.no_grad():
        graph = ScoreGraph(network, short)(*inputs)
        straight = StraightScore(network, short)(*inputs)
    for got, expected in zip(graph, straight, strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


def test_a_student_keeps_the_teachers_products() -> None:
    teacher = MMMSBA(SPEC).eval()
    student = prune(teacher, SPEC.model_copy(update={"gru_hidden": 8}))
    assert student.spec.aligned and torch.equal(student.classifier[0].weight, teacher.classifier[0].weight)
    with pytest.raises(ConfigError, match="aligned False: the teacher has True"):
        prune(teacher, SPEC.model_copy(update={"gru_hidden": 8, "aligned": False}))
