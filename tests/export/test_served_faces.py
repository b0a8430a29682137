"""Which face models an exported bundle names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.clip import CLIP2S
from dfkit.export.export import default_faces
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import Checkpoint


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        (("audio", "face", "lip"), "int8"),
        (("face",), "int8"),
        (("audio", "motion"), "float16"),
        (("motion",), "float16"),
    ],
)
def test_landmarks_as_an_input_stay_those_of_training(modalities: tuple[str, ...], expected: str) -> None:
    spec = NetworkSpec(
        modalities=modalities, face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=8
    )
    assert default_faces(Checkpoint(MMMSBA(spec), CLIP2S, "student", Path("student.pth"))) == expected
