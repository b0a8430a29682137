"""Groups: what a split keeps whole. Ids that occur together in one file are one group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CONTENT_PREFIX = "sha256:"
"""How an id begins that names a file's content, in a `group` cell, too."""


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


def content_id(sha256: str) -> str:
    """The id that a file shares with its copies and with all that was made of it."""
    return f"{CONTENT_PREFIX}{sha256}"


def file_ids(groups: Sequence[str], sha256: str) -> list[str]:
    """All that joins a file with others: the ids of its label row and its content.

    Args:
        groups: As given in a `group` cell; a content id among them joins the file that has the content.
        sha256: Of the file.
    Returns:
        Ids for `components`; given ones are marked `id:`, which sorts before contents.
    """
    given = [value if value.startswith(CONTENT_PREFIX) else f"id:{value}" for value in groups]
    return [*given, content_id(sha256)]


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
