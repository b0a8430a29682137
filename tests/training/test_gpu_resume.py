"""Resuming is exact, on the GPU too where `-m gpu` can ask it: the weights equal those of an unbroken run bit for bit.

Needs torch, lightning, numpy, pydantic and OpenCV alone: clips are made in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dfkit.config import Config
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training import fit as fit_module
from dfkit.training.fit import compute_device, deterministic_algorithms, fit
from dfkit.training.samplers import EpochOrder
from dfkit.training.task import ClipNetwork, ClipTask
from tests.training.tiny import SPEC, WIDTHS, tiny_config

NUM_CLIPS = 6
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
Accelerator = Literal["auto", "cpu"]
DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param("auto", id="gpu", marks=[pytest.mark.gpu, needs_gpu]),
]


class MadeClips(Dataset[dict[str, Tensor]]):
    """Noise, of which every second clip is fake from its tenth picture on; asked for as `ClipDataset` is."""

    def __len__(self) -> int:
        return NUM_CLIPS

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Tensor]:
        index = item if isinstance(item, int) else item[0]
        generator = torch.Generator().manual_seed(index)

        def pictures(side: int) -> Tensor:
            return torch.randint(256, (SPEC.num_frames, side, side, 3), generator=generator, dtype=torch.uint8)

        label = index % 2
        frame_labels = torch.zeros(SPEC.num_frames, dtype=torch.uint8)
        frame_labels[10:] = label
        return {
            "face": pictures(SPEC.picture.face_px),
            "lip": pictures(SPEC.picture.lip_px),
            "waveform": torch.rand(SPEC.num_samples, generator=generator) - 0.5,
            "label": torch.tensor(label),
            "frame_labels": frame_labels,
            "mismatched": torch.tensor(False),
            "index": torch.tensor(index),
            "video_index": torch.tensor(index),
            "video_label": torch.tensor(label),
            "track_id": torch.tensor(0),
        }


class StoppedError(Exception):
    """What stands for a kill."""


class StopBefore(lightning.Callback):
    """Ends a run at the beginning of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise StoppedError


def train(run_dir: Path, config: Config, *, resume: bool = False, stop_before: int | None = None) -> dict[str, Tensor]:
    """Weights after the last epoch."""
    run_dir.mkdir(exist_ok=True)
    section = config.train
    lightning.seed_everything(section.seed, verbose=False)
    task = ClipTask(ClipNetwork(MMMSBA(NetworkSpec(**WIDTHS)), SPEC), config=section, class_weights=None)
    order = EpochOrder(list(range(NUM_CLIPS)), seed=section.seed)
    train_loader = DataLoader(MadeClips(), batch_size=section.batch_size, sampler=order)
    hooks = [] if stop_before is None else [StopBefore(stop_before)]
    fit(
        task,
        train_loader,
        DataLoader(MadeClips(), batch_size=section.batch_size),
        kind="teacher",
        run_dir=run_dir,
        config=config,
        facts={},
        resume=resume,
        on_trainer=lambda trainer: trainer.callbacks.extend(hooks),  # type: ignore[attr-defined]
    )
    weights: dict[str, Tensor] = torch.load(run_dir / "last.pth", weights_only=True)["model_state_dict"]
    return weights


@pytest.mark.parametrize("accelerator", DEVICES)
def test_resume_is_exact(accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it was claimed, with algorithms whose sums differ from run to run, and never tried."""
    # TensorBoard need not be installed where this runs.
    monkeypatch.setattr(fit_module, "tensorboard_logger", lambda run_dir: False)
    config = tiny_config(epochs=3, batch_size=2, accelerator=accelerator, modality_dropout=0.3)
    unbroken = train(tmp_path / "unbroken", config)
    with pytest.raises(StoppedError):
        train(tmp_path / "broken", config, stop_before=2)
    assert torch.load(tmp_path / "broken" / "last.ckpt", weights_only=True)["epoch"] == 1
    resumed = train(tmp_path / "broken", config, resume=True)
    for name, value in unbroken.items():
        assert torch.equal(resumed[name], value), name
    first = train(
        tmp_path / "short", config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})
    )
    assert any(not torch.equal(first[name], value) for name, value in unbroken.items()), "the last epoch did nothing"


@pytest.mark.gpu
@needs_gpu
def test_deterministic_algorithms_are_on_while_training_alone() -> None:
    device = compute_device(tiny_config(accelerator="auto").train)
    torch.backends.cudnn.benchmark = True
    with deterministic_algorithms(device):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False


def test_the_cpu_needs_no_other_algorithms() -> None:
    with deterministic_algorithms(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
