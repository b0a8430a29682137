"""Memory layout, bf16 and fp32 agree; the original teacher fits a small GPU. The GPU's half runs with `-m gpu`."""

from __future__ import annotations

import copy

import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.config import TrainConfig
from dfkit.distill.taylor import minibatch_gradients
from dfkit.models import MMMSBA, NetworkOutput, NetworkSpec
from dfkit.training.objective import Batch, label_loss
from dfkit.training.task import ClipNetwork, ClipTask
from tests.training.tiny import SPEC, WIDTHS

# Sums of up to 1,152 products in another order, in float32 (relative rounding 6e-8).
LAYOUT_ATOL = 1e-5
# bf16 keeps 8 bits, 4e-3 relative; through three convolutions, a GRU over 50 steps and the attention.
BF16_P_FAKE_ATOL = 0.02
BF16_GRADIENT_COSINE = 0.99
# GPU sums run in other blocks; TF32 is off by default for matrix products.
GPU_ATOL = 1e-4
GPU_MEMORY_BYTES = 8 * 1024**3


def make_batch(size: int, *, face_px: int, lip_px: int, device: str = "cpu") -> Batch:
    generator = torch.Generator().manual_seed(0)
    steps = CLIP2S.num_frames

    def pictures(side: int) -> torch.Tensor:
        return torch.randint(256, (size, steps, side, side, 3), generator=generator, dtype=torch.uint8)

    batch = {
        "face": pictures(face_px),
        "lip": pictures(lip_px),
        "waveform": torch.rand(size, CLIP2S.num_samples, generator=generator) - 0.5,
        "label": torch.arange(size) % 2,
        "frame_labels": (torch.arange(size) % 2)[:, None].expand(size, steps),
        "index": torch.arange(size),
        "video_index": torch.arange(size),
    }
    return {name: value.to(device) for name, value in batch.items()}


def make_task(precision: str, device: str = "cpu", *, spec: NetworkSpec | None = None) -> ClipTask:
    torch.manual_seed(0)
    network = MMMSBA(spec or NetworkSpec(**WIDTHS), gru_dropout=0.0, dense_dropout=0.0)
    config = TrainConfig.model_validate({"precision": precision})
    return ClipTask(ClipNetwork(network, SPEC), config=config, class_weights=None).to(device)


def answer(task: ClipTask, batch: Batch) -> tuple[NetworkOutput, torch.Tensor]:
    """Logits and the gradient of the training loss, as one vector; products as Lightning's plugin has them."""
    kind = next(task.parameters()).device.type
    task.zero_grad()
    with torch.autocast(kind, torch.bfloat16, enabled=task.config.precision == "bf16"):
        output = task.score(batch)
        loss = label_loss(output, batch, task.config.loss, None)
    loss.backward()
    return output, torch.cat([p.grad.flatten().cpu() for p in task.model.network.parameters() if p.grad is not None])


def compare_layouts(device: str) -> None:
    network = MMMSBA(NetworkSpec(**WIDTHS)).to(device).eval()
    batch = make_batch(2, face_px=48, lip_px=32, device=device)
    pictures = batch["face"].permute(0, 1, 4, 2, 3).float() / 255
    plain = pictures.contiguous()
    extractor = network.cnn("face")
    expected = extractor(plain.flatten(0, 1)).view(2, -1, 16)
    assert plain.stride() != pictures.stride()
    for layout in (plain, pictures):
        torch.testing.assert_close(network.frame_features("face", layout), expected, atol=LAYOUT_ATOL, rtol=0)


def compare_precisions(device: str) -> None:
    batch = make_batch(4, face_px=48, lip_px=32, device=device)
    exact, exact_gradient = answer(make_task("fp32", device), batch)
    rough, rough_gradient = answer(make_task("bf16", device), batch)
    assert rough.clip_logits.dtype == torch.float32
    assert not torch.equal(rough.clip_logits, exact.clip_logits)
    for name in ("clip_logits", "frame_logits"):
        ours, theirs = (getattr(output, name).softmax(-1) for output in (rough, exact))
        torch.testing.assert_close(ours, theirs, atol=BF16_P_FAKE_ATOL, rtol=0)
    cosine = torch.nn.functional.cosine_similarity(rough_gradient, exact_gradient, dim=0)
    assert float(cosine) > BF16_GRADIENT_COSINE


def test_layouts_agree() -> None:
    compare_layouts("cpu")


def test_precisions_agree() -> None:
    compare_precisions("cpu")


def test_sound_front_end_stays_fp32_under_bf16() -> None:
    waveform = make_batch(1, face_px=8, lip_px=8)["waveform"]
    plain, kept = make_task("fp32").model, make_task("bf16").model
    assert plain.front_end is not None and kept.front_end is not None
    expected = plain.front_end(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(kept.front_end(waveform), expected)
        # And it matters: the 8 bits of bf16 move coefficients by tenths of a decibel.
        assert (plain.front_end(waveform).float() - expected).abs().max() > 0.1


def gradients_of(network: MMMSBA, batches: list[Batch], device: str) -> tuple[dict[str, torch.Tensor], ...]:
    return minibatch_gradients(network, SPEC, batches, device=torch.device(device), num_batches=2)


def test_gradients_are_those_of_each_minibatch_alone() -> None:
    """They were summed over the minibatches: what is wanted in one and unwanted in the next cancelled."""
    network = make_task("fp32").model.network.eval()
    batches = [make_batch(size, face_px=48, lip_px=32) for size in (2, 3, 1)]
    got = gradients_of(network, batches, "cpu")
    assert len(got) == 2
    for batch, own in zip(batches, got, strict=False):
        model = ClipNetwork(copy.deepcopy(network), SPEC)
        torch.nn.functional.cross_entropy(model(batch).clip_logits, batch["label"]).backward()
        for name, parameter in model.network.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(own[name], parameter.grad, atol=1e-7, rtol=1e-4)
    assert all(p.grad is None for p in network.parameters())


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.gpu
@needs_gpu
def test_layouts_agree_on_the_gpu() -> None:
    torch.backends.cudnn.allow_tf32 = False
    compare_layouts("cuda")


@pytest.mark.gpu
@needs_gpu
def test_precisions_agree_on_the_gpu() -> None:
    torch.backends.cudnn.allow_tf32 = False
    compare_precisions("cuda")
    batch = make_batch(4, face_px=48, lip_px=32)
    here, _ = answer(make_task("fp32"), batch)
    there, _ = answer(make_task("fp32", "cuda"), {name: value.to("cuda") for name, value in batch.items()})
    torch.testing.assert_close(there.clip_logits.cpu(), here.clip_logits, atol=GPU_ATOL, rtol=0)


@pytest.mark.gpu
@needs_gpu
def test_minibatch_gradients_on_the_gpu_in_eval_mode() -> None:
    """cuDNN refuses the backward pass of a GRU in eval mode."""
    network = make_task("fp32").model.network.eval()
    batches = [make_batch(2, face_px=48, lip_px=32) for _ in range(2)]
    here, there = (gradients_of(network, batches, device) for device in ("cpu", "cuda"))
    for ours, theirs in zip(here, there, strict=True):
        for name, value in ours.items():
            assert theirs[name].device.type == "cpu"
            torch.testing.assert_close(theirs[name], value, atol=GPU_ATOL, rtol=1e-2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_original_teacher_fits_8_gb_at_batch_8(precision: str) -> None:
    torch.cuda.reset_peak_memory_stats()
    task = make_task(precision, "cuda", spec=NetworkSpec())
    batch = make_batch(8, face_px=CLIP2S.picture.face_px, lip_px=CLIP2S.picture.lip_px, device="cuda")
    optimizer = torch.optim.AdamW(task.parameters())
    for _ in range(2):
        answer(task, batch)
        optimizer.step()
    assert torch.cuda.max_memory_allocated() < GPU_MEMORY_BYTES
