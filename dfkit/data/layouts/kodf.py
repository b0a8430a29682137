"""KoDF (AI-Hub): two tables, originals and manipulations, over files that lie anywhere below."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from dfkit.data.label_words import FAKE, REAL
from dfkit.data.labels import LabelSet
from dfkit.data.layouts.base import Layout, SourceCollector, folder_listing, layout_error, read_layout_table
from dfkit.media.listing import list_videos

NAME = "kodf"
ORIGINAL_PREFIX = "원본영상_"
FAKE_PREFIX = "변조영상_"
ENDING = "_메타데이터.csv"
SPLITS = {"training": "train", "validation": "val"}
VIDEO, TARGET, METHOD = "영상ID", "타겟영상", "변조모델"
PERSON, TARGET_PERSON = "UUID", "타겟UUID"
EXPECTED = f"{ORIGINAL_PREFIX}training{ENDING} and {FAKE_PREFIX}training{ENDING} (or validation)"
LENGTHS = (
    "originals of this data set run about 90 s and fakes about 20 s: length gives the label away "
    "(dfkit audit), and whole-video presets learn that"
)
# Where AI-Hub's archives put the tables, seen from the folder given: at most this deep.
DEPTHS = ("", "*/", "*/*/", "*/*/*/")


def find_tables(root: Path) -> list[tuple[Path, int, str]]:
    """(table, label, split) of every table."""
    found = []
    for prefix, label in ((ORIGINAL_PREFIX, REAL), (FAKE_PREFIX, FAKE)):
        for part, split in SPLITS.items():
            for depth in DEPTHS:
                tables = sorted(root.glob(f"{depth}{prefix}{part}{ENDING}"))
                found += [(table, label, split) for table in tables]
    return found


def read(root: Path) -> LabelSet:
    """Labels by table; the group of a fake is its original, and the person where the table names one."""
    tables = find_tables(root)
    if {label for _, label, _ in tables} != {REAL, FAKE}:
        raise layout_error(NAME, root, expected=EXPECTED, found=folder_listing(root))
    files: dict[str, list[Path]] = defaultdict(list)
    for path in list_videos(root):
        files[path.stem].append(path)
    collector = SourceCollector(NAME, root)
    for table, label, split in tables:
        columns = (VIDEO,) if label == REAL else (VIDEO, TARGET, METHOD)
        for number, row in read_layout_table(NAME, table, columns).rows:
            _add(collector, files, row, label, split, f"{table.name}, row {number}")
    return collector.finish(expected=EXPECTED, notes=(LENGTHS,))


def _add(
    collector: SourceCollector, files: dict[str, list[Path]], row: dict[str, str], label: int, split: str, where: str
) -> None:
    video = Path(row[VIDEO.lower()].strip())
    stem = video.stem if video.suffix else video.name
    found = files.get(stem, [])
    if not found:
        collector.missing.append(str(video))
        return
    if len(found) != 1:
        collector.faults.append(f"{where}: {len(found)} files named {stem} below, expected one")
        return
    original = stem if label == REAL else Path(row[TARGET].strip()).stem
    person = row.get((PERSON if label == REAL else TARGET_PERSON).lower(), "").strip()
    groups = tuple(value for value in (original, person) if value)
    method = None if label == REAL else row[METHOD].strip()
    collector.add(found[0], label, groups=groups, method=method, split=split, person_named=bool(person))


LAYOUT = Layout(NAME, EXPECTED, lambda root: bool(find_tables(root)), read)
