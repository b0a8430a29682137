"""Which clips go into which split, and the batches made of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch.utils.data import DataLoader

from dfkit.config import DistillConfig, SplitConfig, TrainConfig
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.splits import check_leaks, make_split
from dfkit.data.storage import PreparedData
from dfkit.distill.fit import EpochOrder
from dfkit.distill.task import Batch


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
    """
    data.require_labels()
    split = make_split(data, val_share=config.val_share, test_share=config.test_share, seed=config.seed)
    check_leaks(split, data.videos, groups_known=data.groups_known)
    return {name: data.clip_indices(list(videos)) for name, videos in split.parts().items()}


def make_loaders(
    data: PreparedData,
    indices: dict[str, list[int]],
    config: TrainConfig | DistillConfig,
    *,
    keep_videos: bool = False,
) -> Loaders:
    """Batches of the three splits; only the training clips are shuffled."""

    def loader(name: str, *, shuffled: bool) -> DataLoader[Batch]:
        dataset = ClipDataset(data, indices[name])
        owners = [data.clips[i].video_index for i in indices[name]]
        order = EpochOrder(owners, seed=config.seed, keep_videos=keep_videos) if shuffled else None
        return DataLoader(
            dataset,
            batch_size=config.batch_size,
            sampler=order,
            collate_fn=collate_padded if data.spec.preset == "uniform50" else None,
            num_workers=config.num_workers,
            persistent_workers=config.num_workers > 0,
            multiprocessing_context="spawn" if config.num_workers else None,
        )

    return Loaders(
        loader("train", shuffled=True), loader("val", shuffled=False), loader("test", shuffled=False), indices
    )
