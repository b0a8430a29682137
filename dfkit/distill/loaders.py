"""Which clips go into which split, and the batches made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from dfkit.config import DistillConfig, SplitConfig, TrainConfig
from dfkit.data.datasets import ClipDataset, RecordAugmenter, collate_padded
from dfkit.data.splits import make_folds, make_split
from dfkit.data.storage import PreparedData
from dfkit.distill.objective import Batch
from dfkit.distill.samplers import EpochOrder, FixedOrder
from dfkit.errors import ConfigError


@dataclass(frozen=True)
class Loaders:
    """Batches of the three splits."""

    train: DataLoader[Batch]
    val: DataLoader[Batch]
    test: DataLoader[Batch]
    indices: dict[str, list[int]]
    """Clip indices of each split."""


def split_clips(data: PreparedData, config: SplitConfig) -> dict[str, list[int]]:
    """Clip indices of train, val and test, split by group and checked for leaks.

    Raises:
        DataError: A class is missing somewhere, or a group or file stands on both sides.
        ConfigError: `folds` without the fold that is meant.
    """
    shared: dict[str, Any] = {"val_share": config.val_share, "seed": config.seed, "duration_bins": config.duration_bins}
    if config.folds is None:
        split = make_split(data, test_share=config.test_share, use_given=config.use_given, **shared)
    elif config.fold is None:
        raise ConfigError(
            f"split.folds is {config.folds}, and one split is needed here",
            fix=f"name one with split.fold (1 to {config.folds}), or leave split.folds out",
        )
    else:
        split = make_folds(data, folds=config.folds, **shared)[config.fold - 1]
    return {name: data.clip_indices(list(videos)) for name, videos in split.parts().items()}


def make_loaders(
    data: PreparedData,
    indices: dict[str, list[int]],
    config: TrainConfig | DistillConfig,
    *,
    keep_videos: bool = False,
    pictures: bool = True,
) -> Loaders:
    """Batches of the three splits; only the training clips are shuffled, sampled and augmented.

    Args:
        data: Prepared data.
        indices: Clip indices of each split.
        config: Batch size, sampling, augmentation.
        keep_videos: See `EpochOrder`.
        pictures: Whether the network sees any; without, nothing is decoded but for augmentation.
    """
    labels = {clip: key.label or 0 for clip, key in enumerate(data.clips)}
    order = EpochOrder(
        [data.clips[i].video_index for i in indices["train"]],
        seed=config.seed,
        keep_videos=keep_videos,
        labels=[labels[i] for i in indices["train"]],
        sampling=config.sampling,
    )
    augmenter: RecordAugmenter | None = None
    if config.augment.active():
        from dfkit.data.augment import Augmenter

        augmenter = Augmenter(config.augment, config.seed, data.spec)
    train = ClipDataset(data, indices["train"], augmenter=augmenter, pictures=pictures or augmenter is not None)
    val, test = (ClipDataset(data, indices[name], pictures=pictures) for name in ("val", "test"))
    return Loaders(
        clip_loader(train, config, order),
        clip_loader(val, config, FixedOrder(len(val))),
        clip_loader(test, config, FixedOrder(len(test))),
        indices,
    )


def clip_loader(clips: ClipDataset, config: TrainConfig | DistillConfig, order: Sampler[Any]) -> DataLoader[Batch]:
    """Batches of clips in an order, read by as many processes as the configuration says."""
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
