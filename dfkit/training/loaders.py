"""Data loaders of the three splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import ConcatDataset, DataLoader, Sampler

from dfkit.config import DistillConfig, TrainConfig
from dfkit.data.datasets import ClipDataset, RecordAugmenter, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.measures.spacing import evenly_spaced
from dfkit.training.objective import Batch
from dfkit.training.samplers import EpochOrder, FixedOrder

NUM_PLAIN = 512
"""Training clips that are looked at as they are."""


@dataclass(frozen=True)
class Loaders:
    """Data loaders of the three splits, with the clips in them."""

    train: DataLoader[Batch]
    val: DataLoader[Batch]
    test: DataLoader[Batch]
    indices: dict[str, list[int]]
    """Clip indices of each split."""
    watched: DataLoader[Batch]
    """What every epoch is judged by: the validation clips, and where training gives clips other sound, a copy of each
    that has some, the same in every epoch."""
    plain: DataLoader[Batch]
    """At most NUM_PLAIN training clips, spread over all, as they are: neither shuffled nor augmented."""
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
        pictures: Whether the network takes pictures; else they are not decoded, and steps for them alone left out.
    """
    data.keep_decoded(config.keep_decoded_gb)
    trained = learnt_clips(data, indices["train"], config)
    training_clips = [data.clips[index] for index in trained]
    order = EpochOrder(
        [clip.video_index for clip in training_clips],
        seed=config.seed,
        keep_videos=keep_videos,
        labels=[clip.label or 0 for clip in training_clips],
        sampling=config.sampling,
    )
    augment = config.augment if pictures else config.augment.without_pixels()
    augmenter: RecordAugmenter | None = None
    if augment.active():
        from dfkit.training.augment import Augmenter

        augmenter = Augmenter(augment, config.seed, data.spec)
    train = ClipDataset(
        data,
        trained,
        augmenter=augmenter,
        mismatch=_mismatch(data, trained, config),
        pictures=pictures,
    )
    spread = [trained[place] for place in evenly_spaced(len(trained), NUM_PLAIN)] if trained else []
    plain = ClipDataset(data, spread, pictures=pictures)
    val = ClipDataset(data, indices["val"], pictures=pictures)
    test = ClipDataset(data, indices["test"], pictures=pictures)
    seen = ClipDataset(data, indices.get("seen", []), pictures=pictures)
    return Loaders(
        clip_loader(train, config, order),
        clip_loader(val, config, FixedOrder(len(val))),
        clip_loader(test, config, FixedOrder(len(test))),
        indices,
        _watched_loader(val, config),
        clip_loader(plain, config, FixedOrder(len(plain))),
        clip_loader(seen, config, FixedOrder(len(seen))) if "seen" in indices else None,
    )


def learnt_clips(data: PreparedData, clips: list[int], config: TrainConfig | DistillConfig) -> list[int]:
    """Those of some clips that a network learns from: all, or the real ones where `mismatch` says so."""
    return [index for index in clips if config.mismatch.of == "all" or data.clips[index].label == 0]


def _mismatch(
    data: PreparedData, clips: list[int], config: TrainConfig | DistillConfig, *, always: bool = False
) -> RecordAugmenter | None:
    """What gives some clips other sound; None where training does not."""
    if not config.mismatch.share:
        return None
    from dfkit.training.augment.mismatch import Mismatch

    return Mismatch(data, clips, config.mismatch, config.seed, always=always)


def _watched_loader(val: ClipDataset, config: TrainConfig | DistillConfig) -> DataLoader[Batch]:
    clips = learnt_clips(val.prepared, val.indices, config)
    mismatch = _mismatch(val.prepared, clips, config, always=True)
    if mismatch is None:
        return clip_loader(val, config, FixedOrder(len(val)))
    parts = [ClipDataset(val.prepared, clips, mismatch=each, pictures=val.pictures) for each in (None, mismatch)]
    both: ConcatDataset[Any] = ConcatDataset(parts)
    # Only data under clip2s has sound to exchange, and their clips are all of one length.
    return DataLoader(both, batch_size=config.batch_size, sampler=FixedOrder(len(both)))


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
