"""Samplers: an epoch's order depends on seed and epoch alone, so that a resumed run sees the same batches.

An epoch's clips are drawn for all processes at once and then divided among them. A sampler yields the epoch with each
position: this is how augmentation in a loader's processes knows the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from dfkit.config import SamplingConfig
from dfkit.data.datasets import EpochKey

UNSEEN_HARDNESS = 0.5
"""Hardness of a clip that was not trained on yet."""


def rank_share(positions: list[int]) -> list[int]:
    """This process's share of an epoch: consecutive positions, equally many for every process.

    With one process all of them. Where they cannot be divided evenly, the last process continues at the front: every
    process has to make the same number of steps.
    """
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not is_distributed or not positions:
        return positions
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    share = math.ceil(len(positions) / size)
    return [positions[place % len(positions)] for place in range(rank * share, (rank + 1) * share)]


def gather_rows(module: lightning.LightningModule, rows: Tensor) -> Tensor:
    """Concatenates rows of all processes, in every one of them.

    Args:
        module: Attached to the trainer.
        rows: (N, ...) of this process; N is the same in all.
    Returns:
        (processes * N, ...).
    """
    if module.trainer.world_size == 1:
        return rows
    gathered = module.all_gather(rows)
    assert isinstance(gathered, Tensor)
    return gathered.flatten(0, 1)


class FixedOrder(Sampler[int]):
    """Positions in rising order; each process gets its share."""

    def __init__(self, num: int) -> None:
        self.num = num

    def __len__(self) -> int:
        return len(rank_share(list(range(self.num))))

    def __iter__(self) -> Iterator[int]:
        yield from rank_share(list(range(self.num)))


def evenly_drawn(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws each item as often as its share says, by chance rounded up or down (systematic sampling).

    Args:
        shares: (N,) expected number of draws; their sum is N.
        rng: Of the rounding.
    Returns:
        (N,) items.
    """
    order = rng.permutation(len(shares))
    ends = np.cumsum(shares[order])
    places = np.searchsorted(ends, np.arange(len(shares)) + rng.random(), side="right")
    return order[np.minimum(places, len(shares) - 1)]


class EpochOrder(Sampler[EpochKey]):
    """Training positions in an order that depends on (seed, epoch) and, with mining, on the epoch before."""

    def __init__(
        self,
        video_of: Sequence[int],
        *,
        seed: int,
        keep_videos: bool = False,
        labels: Sequence[int] | None = None,
        sampling: SamplingConfig | None = None,
    ) -> None:
        """Groups positions into the blocks that are drawn together.

        Args:
            video_of: Video index of each position.
            seed: Of the draws.
            keep_videos: Whether the clips of a video are drawn together: distillation by video takes the mean
                over a video's clips, which must be in one batch.
            labels: 0 or 1 of each position; needed for weighted sampling and hard mining.
            sampling: Which clips an epoch is made of; each once where left out.
        """
        self.seed, self.epoch = seed, 0
        self.sampling = sampling or SamplingConfig(type="shuffled")
        self.num = len(video_of)
        positions_of_block: dict[int, list[int]] = {}
        for position, video in enumerate(video_of):
            positions_of_block.setdefault(video if keep_videos else position, []).append(position)
        self.blocks = [positions_of_block[key] for key in sorted(positions_of_block)]
        """Positions that are drawn together: one clip, or all clips of a video."""
        self.block_videos = np.unique([video_of[block[0]] for block in self.blocks], return_inverse=True)[1]
        """(blocks,) number of the video that each is of."""
        position_labels = [0] * self.num if labels is None else list(labels)
        self.block_labels = np.array(
            [max(position_labels[position] for position in block) for block in self.blocks], dtype=int
        )
        """(blocks,) 1 where any clip of a block is fake."""
        self.hardness: np.ndarray | None = None
        """(positions,) probability of the wrong class when last trained on; None before the end of the first epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch to draw; Lightning calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(rank_share(list(range(self.num))))

    def __iter__(self) -> Iterator[EpochKey]:
        for position in rank_share(self.positions()):
            yield self.epoch, position

    def positions(self) -> list[int]:
        """The epoch's positions over all processes; always as many as there are clips."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.sampling.type == "weighted":
            drawn = rng.choice(len(self.blocks), size=len(self.blocks), p=self.block_probabilities())
        elif self.sampling.type == "per_video":
            drawn = rng.permutation(evenly_drawn(self.video_shares(), rng))
        else:
            drawn = rng.permutation(len(self.blocks))
        if self.sampling.hard_share and self.hardness is not None:
            drawn = self.replace_easy_with_hard(drawn, self.hardness)
        positions: list[int] = []
        for block in drawn.tolist():
            positions += self.blocks[block]
        # Videos differ in length: a draw of as many videos may hold fewer clips than there are, or more.
        return [positions[number % len(positions)] for number in range(self.num)]

    def block_probabilities(self) -> np.ndarray:
        """Probability of each block in a weighted draw, (blocks,): each class has one half."""
        counts = np.bincount(self.block_labels, minlength=2)
        weights = 1.0 / np.maximum(counts, 1)[self.block_labels]
        return np.asarray(weights / weights.sum())

    def video_shares(self) -> np.ndarray:
        """How often each block is drawn in an epoch of as many draws, (blocks,): the videos of a class alike."""
        shares = 1.0 / np.bincount(self.block_videos)[self.block_videos]
        for label in np.unique(self.block_labels):
            own = self.block_labels == label
            shares[own] *= own.sum() / shares[own].sum()
        return shares

    def replace_easy_with_hard(self, drawn: np.ndarray, hardness: np.ndarray) -> np.ndarray:
        """Replaces the easiest draws by the hardest blocks, class by class.

        Args:
            drawn: (blocks,) the epoch's draw.
            hardness: (positions,) probability of the wrong class.
        Returns:
            A draw of the same length and the same number of each class.
        """
        block_hardness = np.array([hardness[block].mean() for block in self.blocks])
        drawn = drawn.copy()
        for label in np.unique(self.block_labels):
            places = np.flatnonzero(self.block_labels[drawn] == label)
            count = int(self.sampling.hard_share * len(places))
            # Stable sorts: equal clips stay in their order, and a resumed run chooses the same.
            easiest = places[np.argsort(block_hardness[drawn[places]], kind="stable")][:count]
            of_class = np.flatnonzero(self.block_labels == label)
            hardest = of_class[np.argsort(-block_hardness[of_class], kind="stable")]
            drawn[easiest] = np.resize(hardest[: max(count, 1)], count)
        return drawn


class HardMining(lightning.Callback):
    """Records each clip's hardness in an epoch, for the order of the next one; its state is part of the checkpoint."""

    def __init__(self, order: EpochOrder, position_of: Mapping[int, int]) -> None:
        """Connects a sampler to a run.

        Args:
            order: Gets the hardness at the end of every epoch.
            position_of: Position of each clip index.
        """
        self.order, self.position_of = order, dict(position_of)
        self.batch_hardness: list[tuple[Tensor, Tensor]] = []
        """Clip indices and hardness of each batch of the epoch so far."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Keeps a batch's hardness, on its device."""
        self.batch_hardness.append((batch["index"], outputs["hardness"]))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Gives the epoch's hardness to the sampler; of a clip that was drawn several times the last one."""
        clips = gather_rows(pl_module, torch.cat([index for index, _ in self.batch_hardness]))
        hardness = gather_rows(pl_module, torch.cat([values for _, values in self.batch_hardness]))
        self.batch_hardness = []
        if self.order.hardness is None:
            self.order.hardness = np.full(self.order.num, UNSEEN_HARDNESS)
        for clip, value in zip(clips.tolist(), hardness.tolist(), strict=True):
            self.order.hardness[self.position_of[clip]] = value

    def state_dict(self) -> dict[str, Any]:
        """Hardness of all clips, for a resumed run."""
        hardness = self.order.hardness
        return {"hardness": None if hardness is None else torch.from_numpy(hardness.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the hardness of a resumed run."""
        # Runs that were started by an older dfkit call it `wrongness`.
        key = "wrongness" if "wrongness" in state_dict else "hardness"
        hardness = state_dict[key]
        self.order.hardness = None if hardness is None else hardness.numpy().copy()
