"""Labels: which videos are real and which are fake, read from folders or from a CSV.

All faults of a label file are gathered and shown at once: with 40,000 rows, one at a time is no help.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dfkit.data.groups import split_ids
from dfkit.data.hashing import duplicates
from dfkit.errors import DataError
from dfkit.media.container import VIDEO_SUFFIXES, list_videos

REAL, FAKE = 0, 1
LABEL_NAMES = {REAL: "real", FAKE: "fake"}
LABEL_VALUES = {"real": REAL, "fake": FAKE, "0": REAL, "1": FAKE}
SPLITS = ("train", "val", "test")
COLUMNS = ("path", "label", "group", "method", "fake_start_s", "fake_end_s", "split", "groups_known")
YES_NO = {"yes": True, "no": False, "": True}
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


@dataclass(frozen=True)
class LabelSet:
    """Labelled videos of one data set."""

    sources: tuple[Source, ...]
    groups_known: bool
    notes: tuple[str, ...] = ()
    """What the user should know: ignored columns, files left out."""

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


def class_folders(folder: Path) -> dict[int, Path]:
    """The sub-folders `real` and `fake` (any case) of a folder."""
    if not folder.is_dir():
        return {}
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return {LABEL_VALUES[e.name.lower()]: e for e in entries if e.name.lower() in ("real", "fake")}


def read_class_folders(folder: Path) -> LabelSet:
    """Labels from `real/` and `fake/`.

    Args:
        folder: Holds at least one of the two; videos at any depth below them.
    Returns:
        One source per video, each its own group.
    Raises:
        DataError: No video below, or one file under two labels.
    """
    found = class_folders(folder)
    sources = [
        Source(path=path, label=label)
        for label, sub_folder in sorted(found.items())
        for path in list_videos(sub_folder)
    ]
    if not sources:
        raise no_videos_error(folder)
    num_outside = len(list_videos(folder)) - len(sources)
    notes = (f"{num_outside} videos outside of real/ and fake/ are left out",) if num_outside else ()
    refuse_two_labels(sources, str(folder))
    return LabelSet(tuple(sources), groups_known=False, notes=notes)


def read_unlabelled(paths: Sequence[Path]) -> LabelSet:
    """Files and folders of videos whose labels are unknown.

    Args:
        paths: Video files, or folders of them.
    Returns:
        Sources with label None.
    Raises:
        DataError: A path is missing, or there is no video at all.
    """
    missing = [f"{path}: no such file or folder" for path in paths if not path.exists()]
    if missing:
        raise faults_error(missing, "videos", fix="correct the paths")
    files: dict[Path, None] = {}
    for path in paths:
        files.update(dict.fromkeys(list_videos(path) if path.is_dir() else [path]))
    if not files:
        raise no_videos_error(*paths)
    return LabelSet(tuple(Source(path=path, label=None) for path in files), groups_known=False)


def no_videos_error(*paths: Path) -> DataError:
    """The error for paths that hold no video."""
    return DataError(
        f"{', '.join(map(str, paths))}: no video found (looked for {' '.join(VIDEO_SUFFIXES)} at any depth)",
        fix="give a folder with videos, with the sub-folders real/ and fake/ for labels, or --labels CSV",
    )


def read_csv(csv_path: Path, *, base: Path | None = None) -> LabelSet:
    """Labels from a CSV `path,label[,group,method,fake_start_s,fake_end_s,split,groups_known]`.

    `groups_known` (yes or no) is for groups that do not name every person, as those of what was forged from videos
    without groups.

    Args:
        csv_path: UTF-8, with or without a byte order mark; other columns are ignored and named.
        base: A second folder that paths may be relative to, after the one of the CSV.
    Returns:
        One source per file; rows of one path and label are merged into several intervals. Groups are known where
        every file has one; a file without is its own group, the others keep theirs.
    Raises:
        DataError: Every fault of the file, with row numbers.
    """
    rows, columns = _read_rows(csv_path)
    faults: list[str] = []
    parsed = [_parse_row(row, number, csv_path.parent, base, faults) for number, row in rows]
    sources = _merge([source for source in parsed if source is not None], faults)
    if not faults:
        faults.extend(two_label_faults(sources))
    if faults:
        raise faults_error(faults, str(csv_path), fix="correct these rows and run the same command again")
    if not sources:
        raise DataError(f"{csv_path}: no rows below the header", fix="add one row per video: path,label")
    unnamed = sum(YES_NO.get(_known_cell(row)) is False for _, row in rows)
    groups_known = "group" in columns and all(source.groups for source in sources) and not unnamed
    return LabelSet(tuple(sources), groups_known, _csv_notes(columns, sources, unnamed))


def _known_cell(row: dict[str, str]) -> str:
    return (row.get("groups_known") or "").strip().lower()


def _csv_notes(columns: Sequence[str], sources: Sequence[Source], unnamed: int) -> tuple[str, ...]:
    notes = []
    if unnamed:
        notes.append(f"the groups of {unnamed} rows do not name every person (column groups_known)")
    ignored = [column for column in columns if column not in COLUMNS]
    if ignored:
        notes.append(f"columns ignored: {', '.join(ignored)}")
    if "group" in columns and (blank := [source.row for source in sources if not source.groups]):
        shown = ", ".join(map(str, blank[:MAX_SHOWN])) + (" ..." if len(blank) > MAX_SHOWN else "")
        notes.append(
            f"{len(blank)} of {len(sources)} files have no group (rows {shown}): each is its own, and their persons "
            "may leak; all other groups hold"
        )
    return tuple(notes)


def _read_rows(csv_path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    if not csv_path.is_file():
        raise DataError(f"{csv_path}: no such label file", fix="correct the path given to --labels")
    try:
        with csv_path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{csv_path}: not UTF-8 text ({error})", fix="save the CSV as UTF-8") from error
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DataError(
            f"{csv_path}: the header lacks {' and '.join(missing)}; it has {', '.join(columns) or 'nothing'}",
            fix=f"make the first line: path,label[,{','.join(COLUMNS[2:])}]",
        )
    return rows, columns


def _parse_row(row: dict[str, str], number: int, folder: Path, base: Path | None, faults: list[str]) -> Source | None:
    def cell(name: str) -> str:
        return (row.get(name) or "").strip()

    before = len(faults)
    path = _resolve(cell("path"), folder, base)
    if not cell("path"):
        faults.append(f"row {number}: path is empty")
    elif not path.is_file():
        faults.append(f"row {number}: {cell('path')}: no such file")
    label = LABEL_VALUES.get(cell("label").lower())
    if label is None:
        faults.append(f"row {number}: label '{cell('label')}' is neither real nor fake (nor 0 or 1)")
    if (known := cell("groups_known").lower()) not in YES_NO:
        faults.append(f"row {number}: groups_known '{known}' is neither yes nor no")
    split = cell("split") or None
    if split is not None and split not in SPLITS:
        faults.append(f"row {number}: split '{split}' is none of {', '.join(SPLITS)}")
    interval = _parse_interval(cell("fake_start_s"), cell("fake_end_s"), number, faults)
    if interval and label == REAL:
        faults.append(f"row {number}: a real video with a fake interval")
    if len(faults) > before or label is None:
        return None
    intervals = (interval,) if interval else ()
    groups = split_ids(cell("group"))
    return Source(path, label, groups, cell("method") or None, intervals, split, row=number)


def _resolve(text: str, folder: Path, base: Path | None) -> Path:
    """Relative paths are taken from the CSV's folder; a backslash separates folders where no file has one."""
    first = folder / text
    candidates = [first, folder / text.replace("\\", "/")]
    if base is not None:
        candidates += [base / text, base / text.replace("\\", "/")]
    return next((path for path in candidates if path.is_file()), first)


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
        merged[key] = replace(first, groups=groups, intervals=intervals, method=first.method or source.method)
    return list(merged.values())


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
