"""Data loaders of the three splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from dfkit.config import DistillConfig, TrainConfig
from dfkit.data.datasets import ClipDataset, RecordAugmenter, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.training.objective import Batch
from dfkit.training.samplers import EpochOrder, FixedOrder


@dataclass(frozen=True)
class Loaders:
    """Data loaders of the three splits, with the clips in them."""

    train: DataLoader[Batch]
    val: DataLoader[Batch]
    test: DataLoader[Batch]
    indices: dict[str, list[int]]
    """Clip indices of each split."""
    seen: DataLoader[Batch] | None = None
    """Held-out fakes of families that are trained on; of folds that leave a family out alone."""


def make_loaders(
    data: PreparedData,
    indices: dict[str, list[int]],
    config: TrainConfig | DistillConfig,
    *,
    keep_videos: bool = False,
    pictures: bool = True,
) -> Loaders:
    """Makes the data loaders; only the training clips are shuffled, sampled and augmented.

    Args:
        data: Prepared data.
        indices: Clip indices of each split.
        config: Batch size, sampling and augmentation are used.
        keep_videos: Whether the clips of a video are drawn together; see `EpochOrder`.
        pictures: Whether the network takes pictures; else they are decoded for augmentation alone.
    """
    training_clips = [data.clips[index] for index in indices["train"]]
    order = EpochOrder(
        [clip.video_index for clip in training_clips],
        seed=config.seed,
        keep_videos=keep_videos,
        labels=[clip.label or 0 for clip in training_clips],
        sampling=config.sampling,
    )
    augmenter: RecordAugmenter | None = None
    if config.augment.active():
        from dfkit.training.augment import Augmenter

        augmenter = Augmenter(config.augment, config.seed, data.spec)
    mismatch: RecordAugmenter | None = None
    if config.mismatch.share:
        from dfkit.training.augment.mismatch import Mismatch

        mismatch = Mismatch(data, indices["train"], config.mismatch, config.seed)
    train = ClipDataset(
        data,
        indices["train"],
        augmenter=augmenter,
        mismatch=mismatch,
        pictures=pictures or augmenter is not None,
    )
    val = ClipDataset(data, indices["val"], pictures=pictures)
    test = ClipDataset(data, indices["test"], pictures=pictures)
    seen = ClipDataset(data, indices.get("seen", []), pictures=pictures)
    return Loaders(
        clip_loader(train, config, order),
        clip_loader(val, config, FixedOrder(len(val))),
        clip_loader(test, config, FixedOrder(len(test))),
        indices,
        clip_loader(seen, config, FixedOrder(len(seen))) if "seen" in indices else None,
    )


def clip_loader(clips: ClipDataset, config: TrainConfig | DistillConfig, order: Sampler[Any]) -> DataLoader[Batch]:
    """Data loader of some clips.

    Args:
        clips: The clips.
        config: Batch size, number of loader processes and device are used.
        order: Sampler of their positions.
    """
    return DataLoader(
        clips,
        batch_size=config.batch_size,
        sampler=order,
        collate_fn=collate_padded if clips.prepared.spec.preset == "uniform50" else None,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        multiprocessing_context="spawn" if config.num_workers else None,
        pin_memory=config.accelerator == "auto" and torch.cuda.is_available(),
    )
