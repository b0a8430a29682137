"""The teacher against the original implementation's golden tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.errors import CheckpointError, ShapeError
from dfkit.models import MMMSBA, NetworkSpec, load_teacher
from tests.models import teacher_cases

# GOLDEN.md, "Suggested atol for a float32 implementation".
PLAIN_ATOL, STRESS_ATOL = 1e-6, 5e-5
FEATURES = {
    "visual_features": "face_cnn",
    "lip_features": "lip_cnn",
    "audio_dense": "audio_dense",
    "visual_dense": "face_dense",
    "lip_dense": "lip_dense",
    "vl_att": "face_lip",
    "av_att": "audio_face",
    "la_att": "lip_audio",
    "merged": "merged",
}
MAPS = {
    "vl_attn_xy": "face_lip",
    "vl_attn_yx": "lip_face",
    "av_attn_xy": "audio_face",
    "av_attn_yx": "face_audio",
    "la_attn_xy": "lip_audio",
    "la_attn_yx": "audio_lip",
}


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, np.ndarray]:
    return teacher_cases.golden(shared)


@pytest.mark.parametrize("stressed", [False, True])
@pytest.mark.parametrize("case", teacher_cases.CASES)
def test_equals_the_original(shared: Path, arrays: dict[str, np.ndarray], case: str, stressed: bool) -> None:
    teacher = load_teacher(shared / "teacher" / "fold4.pth")
    if stressed:
        teacher_cases.stress(teacher)
    prefix, atol = (f"{case}_stress_", STRESS_ATOL) if stressed else (f"{case}_", PLAIN_ATOL)
    with torch.no_grad():
        output = teacher(*teacher_cases.inputs(arrays, case))
    np.testing.assert_allclose(output.clip_logits, arrays[f"{prefix}video_logits"], atol=atol, rtol=0)
    np.testing.assert_allclose(output.frame_logits, arrays[f"{prefix}frame_logits"], atol=atol, rtol=0)
    compared = 0
    for theirs, ours in FEATURES.items():
        if f"{prefix}{theirs}" in arrays:
            # Features are larger than logits: the same relative room as GOLDEN.md leaves for logits.
            np.testing.assert_allclose(output.features[ours], arrays[f"{prefix}{theirs}"], atol=10 * atol, rtol=1e-5)
            compared += 1
    for theirs, ours in MAPS.items():
        if f"{prefix}{theirs}" in arrays:
            np.testing.assert_allclose(output.attention[ours], arrays[f"{prefix}{theirs}"], atol=10 * atol, rtol=0)
            compared += 1
    assert compared == (0 if case in "EF" else len(FEATURES) + len(MAPS))


def test_has_the_original_size_and_names(original_checkpoint: Path) -> None:
    teacher = load_teacher(original_checkpoint)
    assert sum(p.numel() for p in teacher.parameters()) == 3_040_166
    stored = torch.load(original_checkpoint, weights_only=True)["model_state_dict"]
    assert list(teacher.state_dict()) == list(stored)


def test_valid_resampling_makes_a_clip_independent_of_its_neighbours(
    shared: Path, arrays: dict[str, np.ndarray]
) -> None:
    """TEACHER, section 5, point 3: the original's frame logits change with the batch's padding; dfkit's own do not."""
    audio, frames, lips, audio_mask, frame_mask = teacher_cases.inputs(arrays, "B")
    row, steps, pictures = 1, int(audio_mask[1].sum()), int(frame_mask[1].sum())
    change = {}
    for resampling in ("padded", "valid"):
        teacher = load_teacher(shared / "teacher" / "fold4.pth", frame_resampling=resampling)
        teacher_cases.stress(teacher)
        with torch.no_grad():
            batch = teacher(audio, frames, lips, audio_mask, frame_mask)
            alone = teacher(audio[1:, :steps], frames[1:, :pictures], lips[1:, :pictures])
        change[resampling] = (batch.frame_logits[row, :pictures] - alone.frame_logits[0]).abs().max().item()
        assert (batch.clip_logits[row] - alone.clip_logits[0]).abs().max() < STRESS_ATOL
    assert change["padded"] > 1.0  # GOLDEN.md, "Properties measured": 1.157
    assert change["valid"] < STRESS_ATOL


@pytest.mark.parametrize("lengths", [[3, 2], [4, 0]])
def test_masks_may_be_short_or_empty(lengths: list[int]) -> None:
    """TEACHER, section 5, point 4: a longest row below T, or an empty row, broke the original."""
    torch.manual_seed(0)
    network = MMMSBA(NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8)).eval()
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        output = network(torch.randn(2, 5, 40), torch.rand(2, 5, 3, 32, 32), torch.rand(2, 5, 3, 32, 32), mask, mask)
    assert torch.isfinite(output.clip_logits).all()
    assert torch.isfinite(output.frame_logits).all()
    assert output.frame_logits.shape == (2, 5, 2)


def test_padding_never_changes_a_clip() -> None:
    torch.manual_seed(1)
    network = MMMSBA(NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8)).eval()
    audio, pictures = torch.randn(1, 6, 40), torch.rand(1, 6, 3, 32, 32)
    mask = torch.arange(6)[None] < 4
    with torch.no_grad():
        short = network(audio[:, :4], pictures[:, :4], pictures[:, :4])
        padded = network(audio, pictures, pictures, mask, mask)
    torch.testing.assert_close(padded.clip_logits, short.clip_logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(padded.frame_logits[:, :4], short.frame_logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("attention", "width"), [("bi_modal", 900), ("self", 600), ("none", 300)])
def test_attention_variants(attention: str, width: int) -> None:
    torch.manual_seed(0)
    spec = NetworkSpec(attention=attention, face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8)
    network = MMMSBA(spec).eval()
    assert network.classifier[0].in_features == width
    pictures = torch.rand(1, 6, 3, 32, 32)
    with torch.no_grad():
        output = network(torch.randn(1, 6, 40), pictures, pictures)
    # Equal lengths and no padding: the mean of the frame logits is the clip logits (TEACHER, section 1).
    torch.testing.assert_close(output.frame_logits.mean(1), output.clip_logits, atol=1e-6, rtol=0)


def test_swapped_attention_arguments_swap_the_halves() -> None:
    from dfkit.models.mmms_ba import bi_modal_attention

    torch.manual_seed(0)
    x, y = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    fused, x_to_y, y_to_x = bi_modal_attention(x, y)
    swapped, a, b = bi_modal_attention(y, x)
    torch.testing.assert_close((x_to_y, y_to_x), (b, a))
    torch.testing.assert_close(swapped[..., :6], (y_to_x @ x) * y)
    torch.testing.assert_close(fused[..., 6:], x_to_y @ swapped[..., :6])


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = MMMSBA(NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8))
    pictures = torch.rand(2, 5, 3, 32, 32)
    output = network(torch.randn(2, 5, 40), pictures, pictures)
    (output.clip_logits.square().sum() + output.frame_logits.square().sum()).backward()
    lacking = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert lacking == []


def test_module_prefix_is_taken_off(tmp_path: Path, original_checkpoint: Path) -> None:
    content = torch.load(original_checkpoint, weights_only=True)
    content["model_state_dict"] = {f"module.{name}": value for name, value in content["model_state_dict"].items()}
    torch.save(content, tmp_path / "gpu.pth")
    plain, prefixed = load_teacher(original_checkpoint), load_teacher(tmp_path / "gpu.pth")
    for name, value in plain.state_dict().items():
        assert torch.equal(value, prefixed.state_dict()[name])


def test_unfit_tensors_are_named(tmp_path: Path, original_checkpoint: Path) -> None:
    content = torch.load(original_checkpoint, weights_only=True)
    weights = content["model_state_dict"]
    weights["extra.weight"] = torch.zeros(3)
    weights["lip_dense.1.bias"] = torch.zeros(7)
    del weights["visual_dense.1.bias"]
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError) as caught:
        load_teacher(tmp_path / "bad.pth")
    for part in ("missing visual_dense.1.bias", "unknown extra.weight", "lip_dense.1.bias has shape (7,)", "(100,)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "foreign", "pickle"])
def test_unusable_files_are_refused(tmp_path: Path, original_checkpoint: Path, kind: str) -> None:
    path = tmp_path / "fold.pth"
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "truncated":
        path.write_bytes(original_checkpoint.read_bytes()[:100_000])
    elif kind == "foreign":
        torch.save({"model_state_dict": {"layer.weight": torch.zeros(2)}}, path)
    elif kind == "pickle":
        torch.save({"model_state_dict": {}, "run": Path}, path)
    with pytest.raises(CheckpointError) as caught:
        load_teacher(path)
    assert str(path) in str(caught.value)


def test_wrong_inputs_are_named() -> None:
    network = MMMSBA(NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8))
    pictures = torch.rand(1, 5, 3, 32, 32)
    with pytest.raises(ShapeError, match="'audio'"):
        network(torch.rand(1, 5, 39), pictures, pictures)
    with pytest.raises(ShapeError, match="needs 'lip'"):
        network(torch.rand(1, 5, 40), pictures, None)
    with pytest.raises(ShapeError, match="uint8"):
        network(torch.rand(1, 5, 40), (pictures * 255).to(torch.uint8), pictures)
