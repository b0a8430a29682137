"""Celeb-DF v2: three folders, persons in the file names, a list of test videos."""

from __future__ import annotations

import re
from pathlib import Path

from dfkit.data.label_table import read_text
from dfkit.data.label_words import FAKE, REAL
from dfkit.data.labels import LabelSet
from dfkit.data.layouts.base import NO_SOUND, Layout, SourceCollector, folder_listing, layout_error
from dfkit.media.listing import list_videos

NAME = "celebdf"
FOLDERS = {"Celeb-real": REAL, "YouTube-real": REAL, "Celeb-synthesis": FAKE}
TEST_LIST = "List_of_testing_videos.txt"
PERSON = re.compile(r"id\d+")
EXPECTED = f"the folders {', '.join(FOLDERS)} and {TEST_LIST}"


def detect(root: Path) -> bool:
    """Whether the two folders of celebrities are there."""
    return (root / "Celeb-real").is_dir() and (root / "Celeb-synthesis").is_dir()


def read(root: Path) -> LabelSet:
    """Labels by folder; the persons in a name are its groups."""
    if not detect(root):
        raise layout_error(NAME, root, expected=EXPECTED, found=folder_listing(root))
    collector = SourceCollector(NAME, root)
    tested = _read_test_list(root, collector)
    for folder, label in FOLDERS.items():
        for path in list_videos(root / folder):
            persons = tuple(dict.fromkeys(PERSON.findall(path.stem)))
            groups = persons or (f"{folder}:{path.stem}",)
            split = None
            if tested is not None:
                split = "test" if path in tested else "train"
            method = None if label == REAL else "celeb-synthesis"
            collector.add(path, label, groups=groups, method=method, split=split, person_named=bool(persons))
    notes = (NO_SOUND,) if tested is not None else (NO_SOUND, f"no {TEST_LIST}: no official split")
    return collector.finish(expected=EXPECTED, notes=notes)


def _read_test_list(root: Path, collector: SourceCollector) -> set[Path] | None:
    """Files of the official test part; its labels are the other way round (1 = real) and are checked."""
    path = root / TEST_LIST
    if not path.is_file():
        return None
    tested = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        flag, _, name = line.strip().partition(" ")
        folder = name.strip().split("/")[0]
        expected = {"1": REAL, "0": FAKE}.get(flag)
        if folder not in FOLDERS or expected != FOLDERS[folder]:
            collector.faults.append(f"{TEST_LIST}, line {number}: '{line}': expected 1 for real, 0 for fake, a file")
        elif not (root / name.strip()).is_file():
            collector.missing.append(name.strip())
        tested.add(root / name.strip())
    return tested


LAYOUT = Layout(NAME, EXPECTED, detect, read)
