"""Features of a frozen face trunk, computed without gradients, and once a clip where its pictures are never changed."""

from __future__ import annotations

import torch
from torch import Tensor

from dfkit.config import DistillConfig, TrainConfig
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.pictures import to_unit_range
from dfkit.training.objective import Batch

MAX_CLIPS = 20_000
"""Clips whose features are kept, 10 kB each at the usual widths; those of further ones are computed anew."""
KEPT = "face_features"


class KeptFeatures:
    """Gives batches the features of their faces."""

    def __init__(self, network: MMMSBA, *, changed: bool) -> None:
        """Nothing is computed yet.

        Args:
            network: Its trunk does not change.
            changed: Whether training shows other pictures of a clip in every epoch.
        """
        self._network, self._changed = network, changed
        self._found: dict[int, Tensor] = {}

    @classmethod
    def for_run(cls, network: MMMSBA, config: TrainConfig | DistillConfig) -> KeptFeatures | None:
        """For a run whose trunk is frozen; else None."""
        frozen = bool(network.trunk_parameters()) and not config.trunk_rate
        changed = bool(config.augment.active()) or bool(config.modality_dropout)
        return cls(network, changed=changed) if frozen else None

    @torch.no_grad()
    def add_to(self, batch: Batch, *, training: bool) -> Batch:
        """The batch with `face_features`, (B, T, C), beside its pictures.

        Args:
            batch: With `index` and `face`.
            training: Whether it is one of the training's, or one of validation, whose pictures are as they are.
        """
        keep = not (training and self._changed)
        rows = [self._of(int(index), faces, keep) for index, faces in zip(batch["index"], batch["face"], strict=True)]
        return {**batch, KEPT: torch.stack(rows).to(batch["face"].device)}

    def _of(self, index: int, faces: Tensor, keep: bool) -> Tensor:
        if keep and (known := self._found.get(index)) is not None:
            return known
        # Clip by clip, so that a resumed run adds up the same sums whatever its batches are.
        made = self._network.frame_features("face", to_unit_range(faces[None]))[0].cpu()
        if keep and len(self._found) < MAX_CLIPS:
            self._found[index] = made
        return made
