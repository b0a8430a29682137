"""Groups: what a split keeps whole. Ids that occur together in one file are one group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class UnionFind:
    """Disjoint sets of strings."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, item: str) -> str:
        """Representative of the set that `item` is in: its smallest member, so that names are stable."""
        parent = self._parent.setdefault(item, item)
        if parent == item:
            return item
        root = self.find_root(parent)
        self._parent[item] = root
        return root

    def find_root(self, item: str) -> str:
        """Follows parents without recursion: chains may be as long as the data set."""
        while self._parent[item] != item:
            item = self._parent[item]
        return item

    def join(self, items: Iterable[str]) -> None:
        """Makes the sets of all `items` one."""
        roots = sorted({self.find(item) for item in items})
        for root in roots[1:]:
            self._parent[root] = roots[0]


def split_ids(value: str) -> tuple[str, ...]:
    """Ids of a `group` cell: separated by ';', blanks dropped."""
    return tuple(part.strip() for part in value.split(";") if part.strip())


def components(ids_of_files: Sequence[Sequence[str]]) -> list[str]:
    """Connected components of files that share an id.

    Args:
        ids_of_files: For each file its ids (persons, sources, sounds, content hash); at least one each.
    Returns:
        For each file the name of its component: the smallest id in it that any of its files has.
    """
    sets = UnionFind()
    for ids in ids_of_files:
        if not ids:
            raise ValueError("a file without any id has no group")
        sets.join(ids)
    return [sets.find(ids[0]) for ids in ids_of_files]
