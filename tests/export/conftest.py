"""The riskiest part, converted once: the original checkpoint with stressed weights, pruned to GRU-128."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dfkit.clip import CLIP2S
from dfkit.export import export, golden, tflite
from dfkit.export.export import Graph, convert_all
from dfkit.export.parity import ParityClip, worst_cases
from dfkit.models import MMMSBA, NetworkSpec, load_teacher
from dfkit.models.checkpoint import Checkpoint
from tests.models import teacher_cases

SPEC = CLIP2S.resized(224, 96)
"""Of the original's golden tensors."""
STUDENT = NetworkSpec(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)


@dataclass(frozen=True)
class Converted:
    """A student and all its stages."""

    checkpoint: Checkpoint
    plain: bytes
    """The float32 .tflite as the converter leaves it, tensor names and all."""
    stages: dict[str, Graph]
    clip: ParityClip

    @property
    def student(self) -> MMMSBA:
        return self.checkpoint.network


def stressed_student(shared: Path) -> MMMSBA:
    from dfkit.distill.prune import prune

    teacher = load_teacher(shared / "teacher" / "fold4.pth")
    teacher_cases.stress(teacher)
    return prune(teacher, STUDENT)


@pytest.fixture(scope="session")
def converted(shared: Path) -> Converted:
    student = stressed_student(shared)
    face, lip, pcm = teacher_cases.golden_clip(teacher_cases.golden(shared))
    checkpoint = Checkpoint(student, SPEC, "student", Path("student.pth"))
    # Worst cases are calibrated, too: here the formats are tested, not a trained model's ranges.
    clips = [{"face": face, "lip": lip, "pcm": pcm}, *(c.arrays for c in worst_cases(SPEC))]
    calibration = [{**c, "face": c["face"][::10], "lip": c["lip"][::10]} for c in clips]
    plain: list[bytes] = []
    original = tflite.convert
    with pytest.MonkeyPatch.context() as patch:
        # Conversion takes half a minute: what `convert_all` got is kept for the other tests.
        patch.setattr(tflite, "convert", lambda *args: plain.append(original(*args)) or plain[-1])
        stages = convert_all(checkpoint, ("tflite", "onnx"), "mixed_int8", calibration)
    return Converted(checkpoint, plain[0], stages, ParityClip("golden", "real", {"face": face, "lip": lip, "pcm": pcm}))


@pytest.fixture(scope="module")
def converted_once() -> Iterator[None]:
    """Lets `export_student` convert a network once in a file of tests, which look around its float graphs."""
    kept: dict[tuple[object, ...], dict[str, Graph]] = {}

    def convert(checkpoint: Checkpoint, formats: Any, recipe: str, *rest: Any) -> dict[str, Graph]:
        assert recipe == "fp32", "what is quantized depends on the calibration, too"
        weights = tuple(value.numpy().tobytes() for value in checkpoint.network.state_dict().values())
        key = (weights, checkpoint.clip_spec, tuple(formats))
        if key not in kept:
            kept[key] = convert_all(checkpoint, formats, recipe, *rest)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (export, golden):
            patch.setattr(module, "convert_all", convert)
        yield
