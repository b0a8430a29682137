"""Prepared clips as torch data sets. The only module of `dfkit.data` that imports torch at its top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData

UNKNOWN_LABEL = -1
EpochKey = tuple[int, int]
"""Epoch and position: the epoch's number reaches the loader's processes together with the clip asked for."""


class RecordAugmenter(Protocol):
    """Signature of an augmentation of training clips; must be safe to pickle, for the loader's processes."""

    def apply(self, record: ClipRecord, *, epoch: int, index: int) -> ClipRecord:
        """A changed copy of a clip; equal epoch and clip index give equal changes."""


def label_or_unknown(label: int | None) -> Tensor:
    """A label as a tensor, -1 where there is none."""
    return torch.tensor(UNKNOWN_LABEL if label is None else label)


class ClipDataset(Dataset[dict[str, Any]]):
    """Map-style view of some clips of prepared data; works with any number of loader workers."""

    def __init__(
        self,
        prepared: PreparedData,
        indices: Sequence[int] | None = None,
        *,
        augmenter: RecordAugmenter | None = None,
        mismatch: RecordAugmenter | None = None,
        pictures: bool = True,
    ) -> None:
        """Chooses clips.

        Args:
            prepared: Either preset.
            indices: Clips to show, in this order; all when left out.
            augmenter: Changes each clip; for training alone.
            mismatch: Gives clips other sound before that; likewise.
            pictures: Whether `face` and `lip` are decoded; a network on sound and motion trains without.
        """
        self.prepared, self.pictures = prepared, pictures
        self.changes = [each for each in (mismatch, augmenter) if each is not None]
        self.indices = list(range(len(prepared)) if indices is None else indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: int | EpochKey) -> dict[str, Any]:
        """Decodes, augments and converts one clip.

        Args:
            key: Position, or epoch and position.
        Returns:
            `face` uint8 (T, 112, 112, 3), `lip` uint8 (T, 48, 48, 3), `waveform` float32 (33408,),
            `landmarks` float32 (T, 468, 2), `interpolated` bool (T,), `label` int64 (-1 unknown),
            `frame_labels` uint8 (T,), `index` int64 (clip in `prepared`), `video_index`, `video_label` and
            `track_id` int64; `mismatched` bool, whether it was given other sound.
            Under `uniform50` `mfcc` float32 (T_a, 40) in place of `waveform` and `landmarks`.
        """
        epoch, position = key if isinstance(key, tuple) else (0, key)
        index = self.indices[position]
        record = self.prepared.record(index, pictures=self.pictures)
        for change in self.changes:
            record = change.apply(record, epoch=epoch, index=index)
        video_index = self.prepared.clips[index].video_index
        crops = {"face": record.face, "lip": record.lip} if self.pictures else {}
        sample = {name: torch.from_numpy(crop) for name, crop in crops.items()}
        sample |= {
            "interpolated": torch.from_numpy(record.interpolated),
            "frame_labels": torch.from_numpy(record.frame_labels),
            "label": label_or_unknown(record.label),
            "mismatched": torch.tensor(record.mismatched),
            "index": torch.tensor(index),
            "video_index": torch.tensor(video_index),
            "video_label": label_or_unknown(self.prepared.videos[video_index].label),
            "track_id": torch.tensor(self.prepared.clips[index].track_id),
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
