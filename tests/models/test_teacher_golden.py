"""The teacher against the original's golden tensors that the repository holds: tests/golden/teacher/README.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.models import MMMSBA, load_teacher
from tests.models import teacher_cases
from tests.models.original_weights import original_weights
from tests.models.test_teacher import FEATURES, MAPS, PLAIN_ATOL, STRESS_ATOL

GOLDEN = Path(__file__).parents[1] / "golden" / "teacher" / "golden.npz"


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN, allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture
def stressed(original_checkpoint: Path) -> MMMSBA:
    teacher = load_teacher(original_checkpoint)
    teacher_cases.stress(teacher)
    return teacher


def test_pictures_and_sound_to_logits(original_checkpoint: Path, arrays: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        output = load_teacher(original_checkpoint)(*teacher_cases.inputs(arrays, "C"))
    np.testing.assert_allclose(output.clip_logits, arrays["C_video_logits"], atol=PLAIN_ATOL, rtol=0)
    np.testing.assert_allclose(output.frame_logits, arrays["C_frame_logits"], atol=PLAIN_ATOL, rtol=0)


def test_every_part_with_stressed_weights(stressed: MMMSBA, arrays: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        output = stressed(*teacher_cases.inputs(arrays, "C"))
    np.testing.assert_allclose(output.clip_logits, arrays["C_stress_video_logits"], atol=STRESS_ATOL, rtol=0)
    np.testing.assert_allclose(output.frame_logits, arrays["C_stress_frame_logits"], atol=STRESS_ATOL, rtol=0)
    # Features are larger than logits: ten times the room.
    for theirs, ours in FEATURES.items():
        expected = arrays[f"C_stress_{theirs}"]
        np.testing.assert_allclose(output.features[ours], expected, atol=10 * STRESS_ATOL, rtol=1e-5, err_msg=theirs)
    for theirs, ours in MAPS.items():
        expected = arrays[f"C_stress_{theirs}"]
        np.testing.assert_allclose(output.attention[ours], expected, atol=10 * STRESS_ATOL, rtol=0, err_msg=theirs)


@pytest.mark.parametrize("case", ["A", "B", "E"])
def test_features_and_sound_to_logits(stressed: MMMSBA, arrays: dict[str, np.ndarray], case: str) -> None:
    """Equal lengths, padding with masks, and sound that is resampled up; the CNNs are left out."""
    pictures = teacher_cases.FRAMES_OF.get(case, case)
    steps = {
        "audio": torch.from_numpy(arrays[f"{case}_audio_f16"].astype(np.float32)),
        "face": torch.from_numpy(arrays[f"{pictures}_stress_visual_features"]),
        "lip": torch.from_numpy(arrays[f"{pictures}_stress_lip_features"]),
    }
    masks = [torch.from_numpy(arrays[name]) for name in (f"{case}_audio_mask", f"{case}_frames_mask") if name in arrays]
    assert len(masks) == (2 if case == "B" else 0)
    with torch.no_grad():
        output = stressed.fuse(steps, *masks)
    np.testing.assert_allclose(output.clip_logits, arrays[f"{case}_stress_video_logits"], atol=STRESS_ATOL, rtol=0)
    np.testing.assert_allclose(output.frame_logits, arrays[f"{case}_stress_frame_logits"], atol=STRESS_ATOL, rtol=0)
    if case != "E":
        merged = output.features["merged"]
        np.testing.assert_allclose(merged, arrays[f"{case}_stress_merged"], atol=10 * STRESS_ATOL, rtol=1e-5)


def test_the_copy_and_the_weights_are_the_originals(shared: Path, arrays: dict[str, np.ndarray]) -> None:
    whole = teacher_cases.golden(shared)
    for name, value in arrays.items():
        assert value.dtype == whole[name].dtype, name
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
    stored = torch.load(shared / "teacher" / "fold4.pth", weights_only=True)["model_state_dict"]
    drawn = original_weights()
    assert list(drawn) == list(stored)
    assert all(torch.equal(drawn[name], value) for name, value in stored.items())
