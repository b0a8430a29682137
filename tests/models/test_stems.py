"""Stems of the CNNs: another first convolution, the same names and sizes behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.errors import CheckpointError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.original import infer_spec, refuse_foreign_network
from dfkit.training.checkpoints import save_checkpoint

SMALL = NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8)
PATCHED = SMALL.model_copy(update={"stem": "patch4"})


@pytest.mark.parametrize("side", [224, 160, 112, 96, 64, 48])
def test_maps_are_as_large_behind_either_stem(side: int) -> None:
    pictures = torch.rand(1, 3, side, side)
    sizes = [MMMSBA(spec).cnn("face")[:3](pictures).shape for spec in (SMALL, PATCHED)]
    assert sizes[0] == sizes[1] == (1, 8, side // 4, side // 4)


def test_a_checkpoint_says_its_stem(tmp_path: Path) -> None:
    network = MMMSBA(PATCHED)
    assert list(network.state_dict()) == list(MMMSBA(SMALL).state_dict())
    assert infer_spec(network.state_dict(), where="x") == PATCHED
    save_checkpoint(tmp_path / "x.pth", network, CLIP2S, kind="student", facts={})
    assert load_checkpoint(tmp_path / "x.pth").network.spec.stem == "patch4"
    with pytest.raises(CheckpointError, match="stem patch4 instead of conv3"):
        refuse_foreign_network(PATCHED)
