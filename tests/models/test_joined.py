"""Networks of different streams joined into one whose margin is the sum of theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dfkit.errors import ShapeError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.joined import join_networks

WIDTHS: dict[str, Any] = {"gru_hidden": 12, "dense_dim": 8}


def make_network(*modalities: str, seed: int = 0, **fields: Any) -> MMMSBA:
    torch.manual_seed(seed)
    return MMMSBA(NetworkSpec(modalities=modalities, **{**WIDTHS, **fields})).eval()  # type: ignore[arg-type]


def test_margins_add_up() -> None:
    sound = make_network("audio", "motion", aligned=True)
    face = make_network("face", seed=1, face_trunk="efficientnet_lite0", face_blocks=1)
    joined = join_networks([sound, face], [0.5, 2.0])
    assert joined.spec.modalities == ("audio", "face", "motion") and joined.spec.aligned
    generator = torch.Generator().manual_seed(2)
    audio = torch.randn(2, 5, 40, generator=generator)
    motion = torch.randn(2, 5, sound.encoder("motion").gru.input_size, generator=generator)
    pictures = torch.rand(2, 5, 3, 32, 32, generator=generator)
    with torch.no_grad():
        heard = sound(audio, None, None, motion=motion)
        seen = face(None, pictures, None)
        both = joined(audio, pictures, None, motion=motion)
    for name in ("clip_logits", "frame_logits"):
        expected = 0.5 * getattr(heard, name) + 2.0 * getattr(seen, name)
        torch.testing.assert_close(getattr(both, name), expected, atol=1e-5, rtol=1e-5)


def test_a_stream_is_in_one_of_them_and_widths_agree() -> None:
    with pytest.raises(ShapeError, match="each stream may be in one"):
        join_networks([make_network("audio"), make_network("audio", "face")], [1.0, 1.0])
    with pytest.raises(ShapeError, match="different gru_hidden: \\[12, 16\\]"):
        join_networks([make_network("audio"), make_network("face", gru_hidden=16)], [1.0, 1.0])
