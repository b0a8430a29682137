"""In which order clips are trained on: by seed and epoch alone, so that a resumed run sees the same batches.

An epoch's clips are chosen for all processes at once and then shared out; the epoch's number travels to the
loader's processes together with the clip's place, which is how augmentation there knows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from dfkit.config import SamplingConfig
from dfkit.data.datasets import EpochKey

UNSEEN = 0.5
"""Chance of the wrong class of a clip that was not trained on yet."""


def rank_share(positions: list[int]) -> list[int]:
    """This process's part of an epoch: a run of neighbours, as long for every process.

    With one process all of it. Where they do not come out even, the last ones begin again at the front: every
    process has to make the same number of steps.
    """
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not group or not positions:
        return positions
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    each = -(-len(positions) // size)
    return [positions[place % len(positions)] for place in range(rank * each, (rank + 1) * each)]


def gather_rows(module: lightning.LightningModule, rows: Tensor) -> Tensor:
    """Rows of all processes, (processes * N, ...), in every one of them; each must bring as many.

    Args:
        module: Of the run.
        rows: (N, ...).
    """
    if module.trainer.world_size == 1:
        return rows
    gathered = module.all_gather(rows)
    assert isinstance(gathered, Tensor)
    return gathered.flatten(0, 1)


class FixedOrder(Sampler[int]):
    """All positions as they stand; each process takes its share."""

    def __init__(self, num: int) -> None:
        self.num = num

    def __len__(self) -> int:
        return len(rank_share(list(range(self.num))))

    def __iter__(self) -> Iterator[int]:
        yield from rank_share(list(range(self.num)))


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
        """Prepares the order.

        Args:
            video_of: Video of each position.
            seed: Of the order.
            keep_videos: Draw videos, keeping the clips of one together: distillation at video level takes
                the mean over a video's clips, which must meet in a batch.
            labels: 0 or 1 of each position; needed for any sampling but the plain one.
            sampling: Which clips an epoch is made of; each once where left out.
        """
        self.seed, self.epoch = seed, 0
        self.sampling = sampling or SamplingConfig()
        self.num = len(video_of)
        members: dict[int, list[int]] = {}
        for place, owner in enumerate(video_of):
            members.setdefault(owner if keep_videos else place, []).append(place)
        self.units = [members[key] for key in sorted(members)]
        """What is drawn as a whole: a clip, or a video's clips."""
        known = [0] * self.num if labels is None else list(labels)
        self.unit_labels = np.array([max(known[place] for place in unit) for unit in self.units], dtype=int)
        self.wrongness: np.ndarray | None = None
        """(positions,) chance of the wrong class when last trained on; None before the first epoch's end."""

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(rank_share(list(range(self.num))))

    def __iter__(self) -> Iterator[EpochKey]:
        yield from ((self.epoch, place) for place in rank_share(self.positions()))

    def positions(self) -> list[int]:
        """The epoch's positions over all processes; always as many as there are clips."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.sampling.type == "weighted":
            drawn = rng.choice(len(self.units), size=len(self.units), p=self.draw_shares())
        else:
            drawn = rng.permutation(len(self.units))
        if self.sampling.hard_share and self.wrongness is not None:
            drawn = self.with_hard_ones(drawn, self.wrongness)
        places = [place for unit in drawn.tolist() for place in self.units[unit]]
        # Videos differ in length: a draw of as many videos may hold fewer clips than there are, or more.
        return [places[n % len(places)] for n in range(self.num)]

    def draw_shares(self) -> np.ndarray:
        """Chance of each unit in a weighted draw, (units,): both classes have one half."""
        counts = np.bincount(self.unit_labels, minlength=2)
        shares = 1.0 / np.maximum(counts, 1)[self.unit_labels]
        return np.asarray(shares / shares.sum())

    def with_hard_ones(self, drawn: np.ndarray, wrongness: np.ndarray) -> np.ndarray:
        """Puts the hardest units in place of the easiest draws, class by class.

        Args:
            drawn: (units,) the epoch's draw.
            wrongness: (positions,) chance of the wrong class.
        Returns:
            A draw of the same length and the same number of each class.
        """
        hardness = np.array([wrongness[unit].mean() for unit in self.units])
        drawn = drawn.copy()
        for label in np.unique(self.unit_labels):
            places = np.flatnonzero(self.unit_labels[drawn] == label)
            count = int(self.sampling.hard_share * len(places))
            # Stable sorts: equal clips stay in their order, and a resumed run chooses the same.
            easiest = places[np.argsort(hardness[drawn[places]], kind="stable")][:count]
            of_class = np.flatnonzero(self.unit_labels == label)
            hardest = of_class[np.argsort(-hardness[of_class], kind="stable")]
            drawn[easiest] = np.resize(hardest[: max(count, 1)], count)
        return drawn


class HardMining(lightning.Callback):
    """Remembers how wrong the network was on each clip, for the next epoch's order; part of the checkpoint."""

    def __init__(self, order: EpochOrder, place_of: Mapping[int, int]) -> None:
        """Watches a run.

        Args:
            order: Told at the end of every epoch.
            place_of: Position of each clip index.
        """
        self.order, self.place_of = order, dict(place_of)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Keeps a batch's answers, on the device they are on."""
        self.seen.append((batch["index"], outputs["wrongness"]))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tells the order; a clip that was drawn several times counts as it was last."""
        index, wrongness = (gather_rows(pl_module, torch.cat(parts)) for parts in zip(*self.seen, strict=True))
        self.seen = []
        if self.order.wrongness is None:
            self.order.wrongness = np.full(self.order.num, UNSEEN)
        for clip, value in zip(index.tolist(), wrongness.tolist(), strict=True):
            self.order.wrongness[self.place_of[clip]] = value

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        known = self.order.wrongness
        return {"wrongness": None if known is None else torch.from_numpy(known.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        known = state_dict["wrongness"]
        self.order.wrongness = None if known is None else known.numpy().copy()
