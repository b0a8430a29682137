"""The first blocks of EfficientNet-Lite0 as the face trunk of an MMMS-BA network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.distill.prune import prune
from dfkit.errors import ConfigError, ShapeError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.efficientnet_lite import FaceTexture
from dfkit.training.checkpoints import save_checkpoint

SPEC = NetworkSpec(lip_channels=(8, 8, 16), gru_hidden=16, face_trunk="efficientnet_lite0", face_blocks=2)


def make_network(spec: NetworkSpec = SPEC) -> MMMSBA:
    torch.manual_seed(0)
    return MMMSBA(spec, gru_dropout=0.0, dense_dropout=0.0).eval()


def make_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 4, 40, generator=generator),
        torch.rand(2, 4, 3, 32, 32, generator=generator),
        torch.rand(2, 4, 3, 32, 32, generator=generator),
    )


def test_texture_is_mean_and_deviation_over_space() -> None:
    texture = FaceTexture(2).eval()
    pictures = make_inputs()[1][0]
    maps = texture.trunk((pictures * 255 - 127) / 128)
    # Strides of stem and two blocks: 2, 1, 2.
    assert maps.shape == (4, 24, 8, 8)
    found = texture(pictures)
    torch.testing.assert_close(found[:, :24], maps.mean((2, 3)), atol=1e-5, rtol=1e-5)
    expected = maps.detach().double().flatten(2).numpy().std(axis=2)
    torch.testing.assert_close(found[:, 24:].detach().double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-4)


def test_the_network_sees_the_trunk_and_trains_it() -> None:
    network = make_network()
    audio, face, lip = make_inputs()
    output = network(audio, face, lip)
    assert output.features["face_cnn"].shape == (2, 4, 48)
    brighter = network(audio, face.flip(1), lip)
    assert not torch.allclose(output.frame_logits, brighter.frame_logits)
    output.clip_logits.sum().backward()
    trunk = dict(network.picture_network("face").named_parameters())
    assert trunk and all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trunk.values())


def test_statistics_of_the_weights_stay_in_training() -> None:
    network = make_network().train()
    norms = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    network(*make_inputs())
    assert norms and all(torch.equal(value, network.state_dict()[name]) for name, value in norms.items())


def test_pruning_keeps_the_trunk_and_cuts_the_rest() -> None:
    teacher = make_network()
    student = prune(teacher, SPEC.model_copy(update={"gru_hidden": 8, "lip_channels": (8, 8, 8)}))
    kept = student.picture_network("face").state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in teacher.picture_network("face").state_dict().items())
    assert student(*make_inputs()).clip_logits.shape == (2, 2)
    with pytest.raises(ConfigError, match="face_trunk efficientnet_lite0: the teacher has mmms_ba"):
        prune(MMMSBA(SPEC.model_copy(update={"face_trunk": "mmms_ba"})), SPEC)


def test_a_student_may_have_the_three_layers_of_its_own() -> None:
    teacher = make_network()
    spec = SPEC.model_copy(update={"face_trunk": "mmms_ba", "gru_hidden": 8, "face_channels": (8, 8, 16)})
    student = prune(teacher, spec)
    same = prune(teacher, SPEC.model_copy(update={"gru_hidden": 8})).state_dict()
    names = [name for name in student.state_dict() if not name.startswith("visual_")]
    assert names and all(torch.equal(student.state_dict()[name], same[name]) for name in names)
    assert student(*make_inputs()).clip_logits.shape == (2, 2)


def test_pruning_at_the_teachers_widths_changes_nothing() -> None:
    teacher = make_network()
    same = prune(teacher, SPEC)
    torch.testing.assert_close(same(*make_inputs()).frame_logits, teacher(*make_inputs()).frame_logits, atol=0, rtol=0)


def test_layers_of_another_trunk_are_not_handed_out() -> None:
    with pytest.raises(ShapeError, match="efficientnet_lite0"):
        make_network().cnn("face")
    assert len(make_network().cnn("lip")) == 10


def test_a_checkpoint_remembers_the_trunk(tmp_path: Path) -> None:
    network = make_network()
    save_checkpoint(tmp_path / "best.pth", network, CLIP2S, kind="teacher", facts={})
    found = load_checkpoint(tmp_path / "best.pth").network.eval()
    assert found.spec == SPEC
    torch.testing.assert_close(found(*make_inputs()).clip_logits, network(*make_inputs()).clip_logits, atol=0, rtol=0)
