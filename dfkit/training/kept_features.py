"""Features of a frozen face trunk, computed once a clip: no epoch gives others where no picture is changed."""

from __future__ import annotations

import torch
from torch import Tensor

from dfkit.config import DistillConfig, TrainConfig
from dfkit.models.mmms_ba import MMMSBA
from dfkit.training.objective import Batch

MAX_CLIPS = 20_000
"""Clips whose features are kept, 10 kB each at the usual widths; those of further ones are computed anew."""
KEPT = "face_features"


class KeptFeatures:
    """Gives batches the features of their faces."""

    def __init__(self, network: MMMSBA) -> None:
        """Nothing is computed yet.

        Args:
            network: Its trunk does not change.
        """
        self._network = network
        self._found: dict[int, Tensor] = {}

    @classmethod
    def for_run(cls, network: MMMSBA, config: TrainConfig | DistillConfig) -> KeptFeatures | None:
        """For a run whose trunk is frozen and whose pictures are never changed; else None."""
        frozen = bool(network.trunk_parameters()) and not config.trunk_rate
        changed = bool(config.augment.active()) or bool(config.modality_dropout)
        return cls(network) if frozen and not changed else None

    @torch.no_grad()
    def add_to(self, batch: Batch) -> Batch:
        """The batch with `face_features`, (B, T, C), beside its pictures."""
        rows = [self._of(int(index), faces) for index, faces in zip(batch["index"], batch["face"], strict=True)]
        return {**batch, KEPT: torch.stack(rows).to(batch["face"].device)}

    def _of(self, index: int, faces: Tensor) -> Tensor:
        if (known := self._found.get(index)) is not None:
            return known
        # Clip by clip, so that a resumed run adds up the same sums whatever its batches are.
        pictures = faces.permute(0, 3, 1, 2).float()[None] / 255
        made = self._network.frame_features("face", pictures)[0].cpu()
        if len(self._found) < MAX_CLIPS:
            self._found[index] = made
        return made
