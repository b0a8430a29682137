"""Loaders: augmentation reaches the training clips alone, with the epoch's number, in the loader's processes too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from dfkit.config import DistillConfig, TrainConfig
from dfkit.config.augment import PIXEL_STEPS, AugmentConfig
from dfkit.config.training import DEGRADED_ALIKE
from dfkit.data.datasets import ClipDataset
from dfkit.data.samples import ClipRecord
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.training.augment import Augmenter
from dfkit.training.loaders import clip_loader, make_loaders
from dfkit.training.samplers import EpochOrder
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("data") / "x"
    return PreparedData(make_synthetic_data(folder, num_videos=6, clips_per_video=1, spec=SPEC))


@dataclass(frozen=True)
class Mark:
    """Writes epoch and clip into the sound."""

    def apply(self, record: ClipRecord, *, epoch: int, index: int) -> ClipRecord:
        waveform = np.zeros_like(record.waveform)
        waveform[:2] = epoch, index
        return replace(record, waveform=waveform)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_epoch_reaches_the_augmenter(data: PreparedData, num_workers: int) -> None:
    clips = ClipDataset(data, [4, 1, 3, 0], augmenter=Mark())
    order = EpochOrder([data.clips[i].video_index for i in clips.indices], seed=0)
    loader = clip_loader(clips, tiny_config(num_workers=num_workers).train, order)
    # Twice: a loader's processes live on from one epoch to the next.
    for epoch in (3, 4):
        order.set_epoch(epoch)
        (batch,) = list(loader)
        assert batch["waveform"][:, 0].tolist() == [epoch] * 4
        assert batch["waveform"][:, 1].tolist() == batch["index"].tolist()
        assert batch["index"].tolist() == [clips.indices[place] for place in order.positions()]


def test_only_training_clips_are_augmented(data: PreparedData) -> None:
    config = tiny_config(augment={"noise": {"prob": 1.0}}).train
    indices = split_clips(data, tiny_config().split)
    loaders = make_loaders(data, indices, config)
    for name in ("train", "val", "test"):
        loader = getattr(loaders, name)
        (batch,) = list(loader)
        changed = [
            not torch.equal(face, torch.from_numpy(data[int(index)].face))
            for face, index in zip(batch["face"], batch["index"], strict=True)
        ]
        assert changed == [name == "train"] * len(changed)


@pytest.mark.parametrize("step", AugmentConfig.model_fields)
def test_no_step_changes_a_clip_that_is_kept(data: PreparedData, step: str) -> None:
    record = data[0]
    for value in vars(record).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    changed = Augmenter(AugmentConfig.model_validate({step: {"prob": 1.0}}), 0, SPEC).apply(record, epoch=1, index=0)
    assert changed.face.shape == record.face.shape


def test_training_on_kept_clips_is_the_same(data: PreparedData) -> None:
    def batches(keep_decoded_gb: float) -> list[torch.Tensor]:
        config = tiny_config(augment={"noise": {"prob": 1.0}}, keep_decoded_gb=keep_decoded_gb).train
        loader = make_loaders(data, split_clips(data, tiny_config().split), config).train
        return [batch["face"] for epoch in range(3) if loader.sampler.set_epoch(epoch) is None for batch in loader]

    kept, plain = batches(1.0), batches(0.0)
    assert len(kept) == len(plain) == 3
    assert all(torch.equal(a, b) for a, b in zip(kept, plain, strict=True))


def test_augmented_clips_are_the_same_for_the_same_seed_and_epoch(data: PreparedData) -> None:
    def faces(seed: int, epoch: int) -> dict[int, torch.Tensor]:
        config = tiny_config(augment={"noise": {"prob": 1.0}}, seed=seed).train
        loader = make_loaders(data, {"train": [0, 1], "val": [2], "test": [3]}, config).train
        loader.sampler.set_epoch(epoch)
        (batch,) = list(loader)
        return dict(zip(batch["index"].tolist(), batch["face"], strict=True))

    first, again = faces(0, 0), faces(0, 0)
    assert all(torch.equal(first[clip], again[clip]) for clip in (0, 1))
    for other in (faces(0, 1), faces(1, 0)):
        assert not any(torch.equal(first[clip], other[clip]) for clip in (0, 1))


def test_a_network_without_pictures_decodes_none_and_leaves_their_steps_out(data: PreparedData) -> None:
    steps = {name: {"prob": 1.0} for name in (*PIXEL_STEPS, "flip", "rotate", "time_mask")}
    section = tiny_config(augment=steps).train
    assert set(section.augment.without_pixels().active()) == {"flip", "rotate", "time_mask"}
    parts = split_clips(data, tiny_config().split)
    (batch,) = list(make_loaders(data, parts, section, pictures=False).train)
    assert "face" not in batch and "lip" not in batch
    plain = {int(index): data[int(index)].landmarks for index in batch["index"]}
    for index, landmarks in zip(batch["index"], batch["landmarks"], strict=True):
        assert not np.allclose(landmarks.numpy(), plain[int(index)])


def test_training_degrades_pictures_unless_it_is_told_otherwise() -> None:
    assert TrainConfig().augment == DEGRADED_ALIKE and not DistillConfig().augment.active()
    assert all(step.only == "all" for step in DEGRADED_ALIKE.active().values())
    assert not TrainConfig.model_validate({"augment": {}}).augment.active()
