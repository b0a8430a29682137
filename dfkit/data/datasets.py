"""Prepared clips as torch data sets. The only module of `dfkit.data` that imports torch at its top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfkit.data.storage import PreparedData

UNKNOWN_LABEL = -1


class ClipDataset(Dataset[dict[str, Any]]):
    """Map-style view of some clips of prepared data; works with any number of loader workers."""

    def __init__(self, prepared: PreparedData, indices: Sequence[int] | None = None) -> None:
        """Chooses clips.

        Args:
            prepared: Either preset.
            indices: Clips to show, in this order; all when left out.
        """
        self.prepared = prepared
        self.indices = list(range(len(prepared)) if indices is None else indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One clip.

        Returns:
            `face` uint8 (T, 224, 224, 3), `lip` uint8 (T, 96, 96, 3), `waveform` float32 (33408,),
            `landmarks` float32 (T, 468, 2), `interpolated` bool (T,), `label` int64 (-1 unknown),
            `frame_labels` uint8 (T,), `index` int64 (clip in `prepared`), `video_index` int64.
            Under `uniform50` `mfcc` float32 (T_a, 40) in place of `waveform` and `landmarks`.
        """
        index = self.indices[position]
        record = self.prepared[index]
        sample = {
            "face": torch.from_numpy(record.face),
            "lip": torch.from_numpy(record.lip),
            "interpolated": torch.from_numpy(record.interpolated),
            "frame_labels": torch.from_numpy(record.frame_labels),
            "label": torch.tensor(UNKNOWN_LABEL if record.label is None else record.label),
            "index": torch.tensor(index),
            "video_index": torch.tensor(self.prepared.clips[index].video_index),
        }
        if self.prepared.spec.preset == "uniform50":
            return {**sample, "mfcc": torch.from_numpy(record.mfcc)}
        arrays = {"waveform": record.waveform, "landmarks": record.landmarks}
        return sample | {name: torch.from_numpy(array) for name, array in arrays.items()}


SEQUENCE_MASKS = {
    "face": "frame_mask",
    "lip": None,
    "interpolated": None,
    "frame_labels": None,
    "mfcc": "audio_mask",
}


def collate_padded(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Batches `uniform50` samples of different length.

    Args:
        samples: From `ClipDataset`.
    Returns:
        Tensors (B, ...), zero-padded on the right, with `frame_mask` (B, T) and `audio_mask` (B, T_a), bool,
        True = valid.
    """
    batch: dict[str, Tensor] = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if name not in SEQUENCE_MASKS:
            batch[name] = torch.stack(values)
            continue
        batch[name] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
        mask_name = SEQUENCE_MASKS[name]
        if mask_name is not None:
            lengths = torch.tensor(np.asarray([len(value) for value in values]))
            batch[mask_name] = torch.arange(batch[name].shape[1])[None, :] < lengths[:, None]
    return batch
