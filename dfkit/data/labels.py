"""Labels: which videos are real and which are fake, read from folders or from a CSV.

All faults of a label file are gathered and shown at once: with 40,000 rows, one at a time is no help.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dfkit.data.groups import split_ids
from dfkit.data.hashing import duplicates
from dfkit.data.label_table import Table, read_table
from dfkit.data.label_words import (
    LABEL_NAMES,
    REAL,
    SPLITS,
    TRUTH_COLUMNS,
    class_folders,
    is_ambiguous,
    method_of,
    parse_label,
    parse_split,
)
from dfkit.errors import DataError
from dfkit.files import name_from_text
from dfkit.media.listing import VIDEO_SUFFIXES, find_named, is_pattern, list_folder, sub_folders

COLUMNS = ("path", "label", "group", "method", "fake_start_s", "fake_end_s", "split", "groups_known")
YES_NO = {"yes": True, "no": False, "": True, "true": True, "false": False}
"""Values of the column `groups_known`: whether a file's group names every person in it; blank is yes."""
MAX_SHOWN = 20


@dataclass(frozen=True)
class Source:
    """A video file with its label, groups and fake intervals."""

    path: Path
    label: int | None
    """0 real, 1 fake, None unknown."""
    groups: tuple[str, ...] = ()
    """Ids of persons, sources and sounds; empty when unknown."""
    method: str | None = None
    intervals: tuple[tuple[float, float], ...] = ()
    """Fake stretches in seconds from the first frame; empty in a fake: all of it is."""
    split: str | None = None
    origin: dict[str, str] | None = None
    """Of an own manipulation: where picture, person and sound came from."""
    row: int | None = None
    """Line in the label file, header = 1."""
    columns: dict[str, str] | None = None
    """Cells of the label file's further columns, by their name; blank ones are left out."""


@dataclass(frozen=True)
class LabelSet:
    """Labelled videos of one data set."""

    sources: tuple[Source, ...]
    groups_known: bool
    notes: tuple[str, ...] = ()
    """What the user should know: ignored columns, files left out."""
    missing: tuple[str, ...] = ()
    """Files that the labels name and that are not there, as they are named."""

    @property
    def coverage(self) -> float:
        """Share of the named files that are there; 1 where none is named."""
        num_named = len(self.sources) + len(self.missing)
        return len(self.sources) / num_named if num_named else 1.0

    @property
    def labelled(self) -> bool:
        """Whether every source has a label."""
        return all(source.label is not None for source in self.sources)

    def count(self, label: int | None) -> int:
        """Number of sources with this label."""
        return sum(source.label == label for source in self.sources)


def faults_error(faults: Sequence[str], where: str, *, fix: str) -> DataError:
    """One error from many faults; the first `MAX_SHOWN` are listed, the rest counted."""
    lines = [f"  - {fault}" for fault in faults[:MAX_SHOWN]]
    if len(faults) > MAX_SHOWN:
        lines.append(f"  - and {len(faults) - MAX_SHOWN} more")
    noun = "fault" if len(faults) == 1 else "faults"
    return DataError("\n".join([f"{where}: {len(faults)} {noun}", *lines]), fix=fix)


def shown(names: Sequence[object]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(map(str, names[:MAX_SHOWN])) + more


def split_folders(folder: Path) -> dict[str, dict[str, int]]:
    """Sub-folders named for a split that hold class folders (`train/real`), with these."""
    splits = [entry for entry in sub_folders(folder) if parse_split(entry.name)]
    return {entry.name: classes for entry in splits if (classes := class_folders(entry))}


def has_class_folders(folder: Path) -> bool:
    """Whether a folder holds class folders, or split folders with such."""
    return bool(class_folders(folder) or split_folders(folder))


def read_class_folders(folder: Path) -> LabelSet:
    """Labels from `real/` and `fake/`, also below `train/`, `val/` and `test/`, which are taken as splits.

    Args:
        folder: Holds at least one class folder (`dfkit.data.label_words.class_folders`); videos at any depth below.
    Returns:
        One source per video, each its own group.
    Raises:
        DataError: No video below, or one file under two labels.
    """
    classes, splits = class_folders(folder), split_folders(folder)
    listing = list_folder(folder)
    sources = []
    for path in listing.videos:
        parts = path.relative_to(folder).parts
        if parts[0] in classes:
            sources.append(Source(path, classes[parts[0]], method=method_of(parts[0], classes)))
        elif len(parts) > 1 and parts[1] in splits.get(parts[0], {}):
            inner = splits[parts[0]]
            split = parse_split(parts[0])
            sources.append(Source(path, inner[parts[1]], method=method_of(parts[1], inner), split=split))
    if not sources:
        raise no_videos_error(folder)
    sources.sort(key=lambda source: (source.label, source.path))
    refuse_two_labels(sources, str(folder))
    sources = _with_inner_splits(folder, sources)
    notes = list(_folder_notes(classes, splits))
    if num_outside := len(listing.videos) - len(sources):
        notes.append(f"{num_outside} videos outside of {_class_names(classes, splits)} are left out")
    return LabelSet(tuple(sources), groups_known=False, notes=(*notes, *listing.notes()))


def _with_inner_splits(folder: Path, sources: list[Source]) -> list[Source]:
    """Takes splits from folders within the classes (`real/train`), where all videos lie in such."""

    def split_of(source: Source) -> str | None:
        parts = source.path.relative_to(folder).parts
        return parse_split(parts[1]) if len(parts) > 2 else None

    if all(split_of(source) for source in sources if source.split is None):
        return [replace(source, split=source.split or split_of(source)) for source in sources]
    return sources


def _class_names(classes: dict[str, int], splits: dict[str, dict[str, int]]) -> str:
    if not splits and {name.lower() for name in classes} == {"real", "fake"} and len(classes) == 2:
        return "real/ and fake/"
    names = [f"{name}/" for name in classes] + [f"{top}/{name}/" for top, inner in splits.items() for name in inner]
    return " and ".join(names) if len(names) < 3 else ", ".join(names)


def _folder_notes(classes: dict[str, int], splits: dict[str, dict[str, int]]) -> Iterator[str]:
    """Says how folders were understood whose names are not simply real and fake."""
    found = {f"{name}/": label for name, label in classes.items()}
    found |= {f"{top}/{name}/": label for top, inner in splits.items() for name, label in inner.items()}
    if {name.lower() for name in classes} - {"real", "fake"} or len(classes) > 2 or splits:
        by_class = {label: [name for name, other in found.items() if other == label] for label in LABEL_NAMES}
        yield "; ".join(f"{LABEL_NAMES[label]}: {', '.join(names) or 'none'}" for label, names in by_class.items())


def read_unlabelled(paths: Sequence[Path]) -> LabelSet:
    """Files and folders of videos whose labels are unknown.

    Args:
        paths: Video files, folders of them, and patterns that no shell expanded.
    Returns:
        Sources with label None.
    Raises:
        DataError: A path is missing, or there is no video at all.
    """
    named = find_named(paths)
    files = named.listing.videos
    missing = [f"{path}: no such file or folder" for path in paths if not is_pattern(path) and not path.exists()]
    missing += named.empty if files else []
    if missing:
        raise faults_error(missing, "videos", fix="correct the paths")
    if not files:
        raise no_videos_error(*paths)
    sources = tuple(Source(path=path, label=None) for path in files)
    return LabelSet(sources, groups_known=False, notes=tuple(named.listing.notes()))


def no_videos_error(*paths: Path) -> DataError:
    """The error for paths that hold no video; says what they hold instead."""
    found = find_named(paths)
    where = "; ".join(found.empty) or f"{', '.join(map(str, paths))}: no video ({' '.join(VIDEO_SUFFIXES)})"
    return DataError(
        f"no video found: {where}",
        fix="give a folder with videos, with the sub-folders real/ and fake/ for labels, or --labels CSV",
    )


def read_csv(csv_path: Path, *, base: Path | None = None, unlabelled: bool = False) -> LabelSet:
    """Labels from a CSV `path,label[,group,method,fake_start_s,fake_end_s,split,groups_known]`.

    `groups_known` (yes or no) is for groups that do not name every person, as those of what was forged from videos
    without groups. In place of `label` a column may be called `is_fake` or `is_real`. Case and blanks around headers
    and labels do not matter, nor does the delimiter (comma, semicolon, tab).

    Args:
        csv_path: UTF-8, or UTF-16 with a byte order mark; other columns are kept as they are, and named.
        base: A second folder that paths may be relative to, after the one of the CSV.
        unlabelled: Whether a blank label is an unknown one, not a fault.
    Returns:
        One source per file; rows of one path and label are merged into several intervals. Groups are known where
        every file has one; a file without is its own group, the others keep theirs. Files that are not there are
        named in `missing`.
    Raises:
        DataError: Every fault of the file, with row numbers.
    """
    table = _read_label_table(csv_path)
    faults: list[str] = list(table.faults)
    missing: dict[str, None] = {}
    sources = []
    for number, row in table.rows:
        source = _parse_row(row, number, table, faults, unlabelled=unlabelled)
        if source is None:
            continue
        path = _resolve(row["path"].strip(), csv_path.parent, base)
        if path is None:
            missing[row["path"].strip()] = None
        else:
            sources.append(replace(source, path=path))
    merged = _merge(sources, faults)
    if not faults:
        faults.extend(two_label_faults(merged))
    if faults:
        raise faults_error(faults, str(csv_path), fix="correct these rows and run the same command again")
    if not table.rows:
        raise DataError(f"{csv_path}: no rows below the header", fix="add one row per video: path,label")
    unnamed = sum(YES_NO.get(_known_cell(row)) is False for _, row in table.rows)
    groups_known = "group" in table.columns and all(source.groups for source in merged) and not unnamed
    return LabelSet(tuple(merged), groups_known, _csv_notes(table.columns, merged, unnamed), tuple(missing))


def read_label_names(csv_path: Path) -> LabelSet:
    """Labels of a CSV as of `read_csv`, whose videos need not be there: paths stay as they are written.

    Raises:
        DataError: Every fault of the file, with row numbers.
    """
    return labels_of_table(_read_label_table(csv_path), csv_path)


def labels_of_table(table: Table, where: Path, *, path_column: str = "path") -> LabelSet:
    """Labels of a table that has been read, whose videos need not be there.

    Args:
        table: With a column of labels.
        where: Names the file in messages.
        path_column: Names the videos.
    Raises:
        DataError: Every fault of the table, with row numbers.
    """
    faults: list[str] = list(table.faults)
    rows = [(number, {**row, "path": row.get(path_column, "")}) for number, row in table.rows]
    parsed = [_parse_row(row, number, table, faults, unlabelled=False) for number, row in rows]
    sources = _merge([source for source in parsed if source is not None], faults)
    if faults:
        raise faults_error(faults, str(where), fix="correct these rows and run the same command again")
    if not rows:
        raise DataError(f"{where}: no rows below the header", fix="add one row per video: path,label")
    unnamed = sum(YES_NO.get(_known_cell(row)) is False for _, row in rows)
    groups_known = "group" in table.columns and all(source.groups for source in sources) and not unnamed
    return LabelSet(tuple(sources), groups_known)


def _known_cell(row: dict[str, str]) -> str:
    return (row.get("groups_known") or "").strip().lower()


def _csv_notes(columns: Sequence[str], sources: Sequence[Source], unnamed: int) -> tuple[str, ...]:
    notes = []
    if unnamed:
        notes.append(f"the groups of {unnamed} rows do not name every person (column groups_known)")
    used = _used_columns(columns)
    if kept := [column for column in columns if column and column not in used]:
        notes.append(f"further columns kept: {', '.join(kept)}")
    if "group" in columns and (blank := [source.row for source in sources if not source.groups]):
        notes.append(
            f"{len(blank)} of {len(sources)} files have no group (rows {shown(blank)}): each is its own, and their "
            "persons may leak; all other groups hold"
        )
    return tuple(notes)


def _used_columns(columns: Sequence[str]) -> set[str | None]:
    """Columns that have a meaning here; the others are kept as they are."""
    return {*COLUMNS, label_column(columns)}


def label_column(columns: Sequence[str]) -> str | None:
    """The column that holds the label: `label`, else one that says by its name what true means."""
    return next((name for name in ("label", *TRUTH_COLUMNS) if name in columns), None)


def is_label_table(path: Path) -> bool:
    """Whether a file has the header of a label file."""
    try:
        _read_label_table(path)
    except (DataError, OSError):
        return False
    return True


def _read_label_table(csv_path: Path) -> Table:
    if not csv_path.is_file():
        raise DataError(f"{csv_path}: no such label file", fix="correct the path given to --labels")
    table = read_table(csv_path, (*COLUMNS, *TRUTH_COLUMNS))
    missing = ["path"] if "path" not in table.columns else []
    missing += ["label"] if label_column(table.columns) is None else []
    if missing:
        raise DataError(
            f"{csv_path}: the header lacks {' and '.join(missing)}; it has {table.header}",
            fix=f"make the first line: path,label[,{','.join(COLUMNS[2:])}]",
        )
    return table


def _parse_row(row: dict[str, str], number: int, table: Table, faults: list[str], *, unlabelled: bool) -> Source | None:
    """What a row says, its path as it is written; None where it has a fault."""

    def cell(name: str) -> str:
        return row.get(name, "").strip()

    before = len(faults)
    if not cell("path"):
        faults.append(f"row {number}: path is empty")
    column = label_column(table.columns) or "label"
    label = parse_label(cell(column), column)
    if label is None and not (unlabelled and not cell(column)):
        faults.append(f"row {number}: {_label_fault(cell(column), column)}")
    if (known := cell("groups_known").lower()) not in YES_NO:
        faults.append(f"row {number}: groups_known '{known}' is neither yes nor no")
    split = parse_split(cell("split"))
    if cell("split") and split is None:
        faults.append(f"row {number}: split '{cell('split')}' is none of {', '.join(SPLITS)}")
    start, end = cell("fake_start_s"), cell("fake_end_s")
    if table.delimiter != ",":  # spreadsheets that put semicolons have decimal commas
        start, end = start.replace(",", "."), end.replace(",", ".")
    interval = _parse_interval(start, end, number, faults)
    if interval and label == REAL:
        faults.append(f"row {number}: a real video with a fake interval")
    if len(faults) > before:
        return None
    intervals = (interval,) if interval else ()
    groups, used = split_ids(cell("group")), _used_columns(table.columns)
    further = {name: cell(name) for name in table.columns if name and name not in used and cell(name)}
    return Source(
        Path(cell("path")), label, groups, cell("method") or None, intervals, split, row=number, columns=further
    )


def _label_fault(text: str, column: str) -> str:
    if is_ambiguous(text):
        return f"label '{text}' may mean real or fake: write real or fake, or call the column is_fake or is_real"
    if column in TRUTH_COLUMNS:
        return f"{column} '{text}' is neither true nor false (nor 1 or 0)"
    return f"label '{text}' is neither real nor fake (nor 0 or 1)"


def _resolve(text: str, folder: Path, base: Path | None) -> Path | None:
    """The file that a cell names, relative to the CSV's folder, then to `base`; None where there is none."""
    places = (folder, base) if base is not None else (folder,)
    paths = (place / spelling for place in places for spelling in _spellings(text))
    return next((path for path in paths if path.is_file()), None)


def _spellings(text: str) -> Iterator[str]:
    """Names that a cell may mean: a backslash separates folders where no file has one, and text has lost bytes.

    Archives made on other systems keep names in Korean Windows' encoding or with letters taken apart (macOS).
    """
    for name in dict.fromkeys((text, text.replace("\\", "/"), name_from_text(text))):
        yield name
        if not name.isascii():
            yield from (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
            try:
                yield name.encode("cp949").decode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                continue


def _parse_interval(start: str, end: str, number: int, faults: list[str]) -> tuple[float, float] | None:
    if not start and not end:
        return None
    try:
        start_s, end_s = float(start), float(end)
    except ValueError:
        faults.append(f"row {number}: interval '{start}' to '{end}' is not two numbers (seconds)")
        return None
    # Written so that NaN fails.
    if not 0 <= start_s < end_s:
        faults.append(f"row {number}: interval {start} to {end} s: needs 0 <= start < end")
        return None
    return start_s, end_s


def _merge(sources: Sequence[Source], faults: list[str]) -> list[Source]:
    """Joins rows of one path and label; refuses rows of one path that contradict each other."""
    merged: dict[Path, Source] = {}
    for source in sources:
        key = source.path.resolve()
        first = merged.get(key)
        if first is None:
            merged[key] = source
            continue
        where = f"rows {first.row} and {source.row}: {source.path.name}"
        if first.label != source.label:
            faults.append(f"{where} is under two labels")
        elif first.split != source.split:
            faults.append(f"{where} is in two splits")
        elif bool(first.intervals) != bool(source.intervals):
            faults.append(f"{where} is once wholly and once partly fake")
        groups = tuple(dict.fromkeys((*first.groups, *source.groups)))
        intervals = tuple(sorted({*first.intervals, *source.intervals}))
        method, columns = first.method or source.method, _join_cells(first.columns or {}, source.columns or {})
        merged[key] = replace(first, groups=groups, intervals=intervals, method=method, columns=columns)
    return list(merged.values())


def _join_cells(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    """Cells of two rows of one file; values that differ stand behind each other, a semicolon between."""
    joined = dict(first)
    for name, value in second.items():
        if value not in split_ids(joined.get(name, "")) and value != joined.get(name):
            joined[name] = f"{joined[name]};{value}" if name in joined else value
    return joined


def two_label_faults(sources: Sequence[Source]) -> list[str]:
    """Files of equal content under two labels."""
    labels: dict[Path, tuple[int | None, int | None]] = {s.path: (s.label, s.row) for s in sources}
    faults = []
    for same in duplicates([source.path for source in sources]):
        if len({labels[path][0] for path in same}) > 1:
            names = ", ".join(_named(path, *labels[path]) for path in same)
            faults.append(f"one content under two labels: {names}")
    return faults


def _named(path: Path, label: int | None, row: int | None) -> str:
    where = f", row {row}" if row is not None else ""
    name = "no label" if label is None else LABEL_NAMES[label]
    return f"{path} ({name}{where})"


def refuse_two_labels(sources: Sequence[Source], where: str) -> None:
    """Raises when files of equal content stand under two labels.

    Raises:
        DataError: Names all such files.
    """
    faults = two_label_faults(sources)
    if faults:
        raise faults_error(faults, where, fix="keep each of these files under one label")


def interval_faults(sources: Iterable[Source], *, tolerance_s: float = 0.5) -> list[str]:
    """Fake intervals that lie outside of their video.

    Args:
        sources: Only those with intervals are opened, and only their header is read.
        tolerance_s: Containers round their duration, and label tools count frames: half a second is allowed.
    Returns:
        One line per fault. Files that cannot be opened are none: preparing says so.
    """
    from dfkit.data.quick_probe import container_duration_s

    faults = []
    for source in sources:
        if not source.intervals:
            continue
        duration_s = container_duration_s(source.path)
        end_s = max(end for _, end in source.intervals)
        if duration_s is not None and end_s > duration_s + tolerance_s:
            row = "" if source.row is None else f"row {source.row}: "
            faults.append(f"{row}{source.path.name}: interval ends at {end_s:g} s, the video at {duration_s:.2f} s")
    return faults
