"""Further videos beside prepared data, under labels that they are given, read as one data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dfkit.data.catalog import VideoRow, group_names
from dfkit.data.label_words import FAKE
from dfkit.data.samples import ClipRecord
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError


@dataclass(frozen=True)
class AddedVideos:
    """Videos of other prepared data, and the labels that they are given."""

    data: PreparedData
    labels: Mapping[int, int]
    """0 or 1 by video index in `data`; videos without one are not added."""


class JoinedData(PreparedData):
    """Prepared data and further videos behind them: clips and videos of the first keep their places."""

    def __init__(self, base: PreparedData, added: Sequence[AddedVideos]) -> None:
        """Joins; no picture is read.

        Args:
            base: Gives path, contract and facts; its labels stand.
            added: Their own labels, methods and intervals are not looked at.
        Raises:
            ConfigError: Added videos were prepared under another clip contract.
        """
        for each in added:
            require_same_contract(each.data, base)
        self.base = base
        self.path, self.endpoint_url = base.path, base.endpoint_url
        known = base.groups_known and all(each.data.groups_known for each in added)
        self.info = replace(base.info, groups_known=known)
        self._owners: list[tuple[PreparedData, int]] = [(base, index) for index in range(len(base))]
        self.videos = list(base.videos)
        for each in added:
            for video in sorted(each.labels):
                self.videos.append(relabelled(each.data.videos[video], each.labels[video]))
                self._owners += [(each.data, index) for index in each.data.clip_indices([video])]
        self.groups = [*base.groups, *self._added_groups()]
        self.clips = list(self._keys())

    @property
    def added_clips(self) -> list[int]:
        """Indices of the clips of all added videos."""
        return list(range(len(self.base), len(self)))

    def _added_groups(self) -> list[str]:
        """Groups of the added videos; one that joins a group of the first keeps the name that it has there."""
        names = group_names(self.videos)
        first_names: dict[str, str] = {}
        for joined, own in zip(names, self.base.groups, strict=False):
            first_names.setdefault(joined, own)
        return [first_names.get(name, name) for name in names[len(self.base.videos) :]]

    def record(self, index: int, *, pictures: bool = True) -> ClipRecord:
        """Decodes one clip; of an added video under the label it was given."""
        if not 0 <= index < len(self.clips):
            raise IndexError(index)
        owner, place = self._owners[index]
        record = owner.record(place, pictures=pictures)
        if owner is self.base:
            return record
        label = self.clips[index].label
        return replace(record, label=label, frame_labels=np.full_like(record.frame_labels, label))

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)


def relabelled(row: VideoRow, label: int) -> VideoRow:
    """A video that is real, or fake from its first frame to its last, by a label it was given; by which method is not
    known."""
    clips = tuple(replace(clip, fake_frames=clip.num_frames if label == FAKE else 0) for clip in row.clips)
    return replace(row, label=label, method=None, intervals=(), clips=clips)


def require_same_contract(added: PreparedData, base: PreparedData) -> None:
    """Refuses videos that were prepared under another clip contract.

    Raises:
        ConfigError: Names the fields that differ.
    """
    if different := base.spec.different_fields(added.spec):
        raise ConfigError(
            f"{added.path} was prepared under another clip contract than {base.path} (different: {different})",
            fix="prepare its videos again with the --config and --preset of the other",
        )
