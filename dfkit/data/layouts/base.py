"""What the adapters share: a layout's name, how it is recognised, and messages for trees that differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkit.data.label_table import Table
from dfkit.data.label_table import read_table as read_any_table
from dfkit.data.labels import LabelSet, Source, faults_error
from dfkit.errors import NOT_JSON, DataError, one_line
from dfkit.media.listing import list_folder

FIX = "point dfkit prepare at the data set's own top folder, or give labels yourself: --labels FILE.csv"
SHOWN_ENTRIES = 8


@dataclass(frozen=True)
class Layout:
    """How a public data set's folder is recognised and read."""

    name: str
    """As given to `--layout`."""
    expected: str
    """What the tree looks like, for messages."""
    detect: Callable[[Path], bool]
    """Whether a folder has the signature files. Cheap: no recursion."""
    read: Callable[[Path], LabelSet]
    """Labels of a folder. Raises DataError where the tree differs."""


def layout_error(layout: str, root: Path, *, expected: str, found: str) -> DataError:
    """The error for a folder whose tree is not what the layout's name promises."""
    return DataError(f"{root}: not the layout '{layout}': expected {expected}; found {found}", fix=FIX)


def folder_listing(root: Path) -> str:
    """The first names in a folder, for messages."""
    if not root.is_dir():
        return "no folder"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in root.iterdir())
    more = f" and {len(names) - SHOWN_ENTRIES} more" if len(names) > SHOWN_ENTRIES else ""
    return (", ".join(names[:SHOWN_ENTRIES]) + more) or "an empty folder"


def read_json_file(layout: str, path: Path, kind: type[list] | type[dict]) -> Any:
    """A JSON file whose top is of the given kind.

    Raises:
        DataError: It is missing, no JSON, or of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise layout_error(layout, path.parent, expected=path.name, found=folder_listing(path.parent)) from None
    except NOT_JSON as error:
        raise layout_error(layout, path, expected="JSON", found=f"text that is none ({one_line(error)})") from error
    if not isinstance(content, kind):
        raise layout_error(
            layout, path, expected="a list" if kind is list else "an object", found=type(content).__name__
        )
    return content


def read_layout_table(layout: str, path: Path, columns: Sequence[str]) -> Table:
    """A table that has at least these columns, in UTF-8, Korean Windows text, or what its byte order mark says.

    Raises:
        DataError: It cannot be decoded, or columns are missing.
    """
    table = read_any_table(path, [name.lower() for name in columns], fallbacks=("cp949",))
    if not {name.lower() for name in columns} <= set(table.columns):
        raise layout_error(layout, path, expected=f"the columns {', '.join(columns)}", found=table.header)
    return table


class SourceCollector:
    """Collects sources and faults, and raises all faults at once."""

    def __init__(self, layout: str, root: Path) -> None:
        self.layout = layout
        self.root = root
        self.sources: list[Source] = []
        self.faults: list[str] = []
        self.missing: list[str] = []
        self.num_unnamed = 0

    def add(self, path: Path, label: int | None, *, person_named: bool = True, **known: Any) -> None:
        """Adds a file; one that is not there is counted as missing.

        Args:
            path: The video.
            label: 0 real, 1 fake.
            person_named: Whether its groups name the person seen; else they only keep an original and its fakes
                together, and the person may recur.
            known: Further fields of `Source`.
        """
        self.num_unnamed += not person_named
        if path.is_file():
            self.sources.append(Source(path=path, label=label, **known))
        else:
            self.missing.append(str(path.relative_to(self.root)))

    def finish(self, *, expected: str, notes: Iterable[str] = ()) -> LabelSet:
        """The sources.

        Raises:
            DataError: Values are wrong, or nothing was found.
        """
        if self.faults:
            raise faults_error(self.faults, f"{self.root} (layout {self.layout})", fix=FIX)
        if not self.sources and not self.missing:
            raise layout_error(self.layout, self.root, expected=expected, found=folder_listing(self.root))
        listing = list_folder(self.root)
        unnamed = len(listing.videos) - len({source.path for source in self.sources})
        left_out = [f"{unnamed} videos that the layout does not name are left out"] if unnamed > 0 else []
        left_out += listing.notes()
        recurring = [UNNAMED_PERSONS.format(self.num_unnamed, len(self.sources))] if self.num_unnamed else []
        missing = tuple(dict.fromkeys(self.missing))
        known = all(source.groups for source in self.sources) and not self.num_unnamed
        return LabelSet(tuple(self.sources), groups_known=known, notes=(*notes, *recurring, *left_out), missing=missing)


UNNAMED_PERSONS = (
    "{} of {} files do not say who is seen, and persons recur in them: splits keep originals and their fakes together, "
    "persons may leak"
)
NO_SOUND = "this data set has no sound: an audio-visual detector can neither be trained nor tested on it"
