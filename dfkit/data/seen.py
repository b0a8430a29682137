"""What tells a part's videos and persons apart, so that they are found again in other prepared data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dfkit.data.catalog import HASH_LENGTH
from dfkit.data.groups import CONTENT_PREFIX
from dfkit.data.storage import PreparedData


@dataclass(frozen=True)
class Seen:
    """What can be told of a part's videos."""

    files: frozenset[str]
    """Beginnings of the SHA-256 of the files and of those that they were made of."""
    groups: frozenset[str]
    """Names of their groups, and of the persons, sources and sounds that a group joins."""

    @staticmethod
    def from_names(names: Iterable[str], hashes: Iterable[str]) -> Seen:
        """Out of group names and ids, of which some are contents of files, and of the files' own hashes."""
        known = frozenset(names)
        contents = frozenset(name for name in known if name.startswith(CONTENT_PREFIX))
        files = [*hashes, *(name.removeprefix(CONTENT_PREFIX) for name in contents)]
        return Seen(frozenset(each[:HASH_LENGTH] for each in files), known - contents)

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Seen:
        """Out of what training stored of a part; older checkpoints and bundles hold groups alone."""
        names = [*facts.get("groups", ()), *facts.get("group_ids", ())]
        return Seen.from_names(names, facts.get("file_hashes", ()))

    @staticmethod
    def from_videos(data: PreparedData, videos: Collection[int]) -> Seen:
        """Out of prepared data; ids count whether or not they name every person."""
        names = [name for video in videos for name in (str(data.groups[video]), *data.videos[video].groups)]
        return Seen.from_names(names, [data.videos[video].sha256 for video in videos])

    def shares(self, other: Seen) -> bool:
        """Whether any file or group stands on both sides."""
        return not self.files.isdisjoint(other.files) or not self.groups.isdisjoint(other.groups)
