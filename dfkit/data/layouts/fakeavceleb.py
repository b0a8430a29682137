"""FakeAVCeleb v1.2: four combinations of real and fake, persons as folders, all in `meta_data.csv`."""

from __future__ import annotations

import re
from pathlib import Path

from dfkit.data.label_words import FAKE, REAL
from dfkit.data.labels import LabelSet
from dfkit.data.layouts.base import Layout, SourceCollector, folder_listing, layout_error, read_layout_table
from dfkit.media.listing import list_videos

NAME = "fakeavceleb"
TYPES = {
    "RealVideo-RealAudio": REAL,
    "RealVideo-FakeAudio": FAKE,
    "FakeVideo-RealAudio": FAKE,
    "FakeVideo-FakeAudio": FAKE,
}
META_FILE = "meta_data.csv"
COLUMNS = ("source", "target1", "target2", "method", "type", "path")
PERSON = re.compile(r"id\d{5}")
# Endings of file names where there is no meta_data.csv; the longest is tried first.
SUFFIX_METHODS = {
    "faceswap_wavtolip": "faceswap-wav2lip",
    "fsgan_wavtolip": "fsgan-wav2lip",
    "wavtolip": "wav2lip",
    "faceswap": "faceswap",
    "fsgan": "fsgan",
}
EXPECTED = f"the folders {', '.join(TYPES)}"


def find_top(root: Path) -> Path | None:
    """The folder that holds the types: the one given or `FakeAVCeleb` in it."""
    for folder in (root, root / "FakeAVCeleb"):
        if any((folder / name).is_dir() for name in TYPES):
            return folder
    return None


def read(root: Path) -> LabelSet:
    """Labels by type; persons and methods from `meta_data.csv`, without it from the paths."""
    top = find_top(root)
    if top is None:
        raise layout_error(NAME, root, expected=EXPECTED, found=folder_listing(root))
    meta = next((p for p in (root / META_FILE, top / META_FILE) if p.is_file()), None)
    collector = SourceCollector(NAME, top)
    if meta is None:
        _from_paths(top, collector)
        return collector.finish(expected=EXPECTED, notes=(f"no {META_FILE}: persons and methods from the paths",))
    _from_table(meta, top, collector)
    return collector.finish(expected=EXPECTED)


def _from_table(meta: Path, top: Path, collector: SourceCollector) -> None:
    table = read_layout_table(NAME, meta, COLUMNS)
    collector.faults += [f"{meta.name}, {fault}" for fault in table.faults]
    for number, row in table.rows:
        # The folder stands in the last column, which has no name, or one that a tool made up.
        folder = Path(row[table.columns[-1]].strip().replace("\\", "/"))
        path = top.joinpath(*_below_top(folder), row["path"].strip())
        label = TYPES.get(row["type"].strip())
        if label is None:
            collector.faults.append(f"{meta.name}, row {number}: type '{row['type']}' is none of {', '.join(TYPES)}")
            continue
        persons = (row[name].strip() for name in ("source", "target1", "target2"))
        groups = tuple(dict.fromkeys(person for person in persons if PERSON.fullmatch(person)))
        method = None if label == REAL else row["method"].strip()
        collector.add(path, label, groups=groups, method=method, row=number)


def _below_top(folder: Path) -> tuple[str, ...]:
    """The part of a path from the type on: copies differ in what stands before it."""
    parts = folder.parts
    start = next((i for i, part in enumerate(parts) if part in TYPES), len(parts))
    return parts[start:]


def _from_paths(top: Path, collector: SourceCollector) -> None:
    for name, label in TYPES.items():
        for path in list_videos(top / name):
            relative = path.relative_to(top)
            groups = tuple(dict.fromkeys(PERSON.findall(str(relative))))
            collector.add(path, label, groups=groups, method=_method_of(name, path.stem))


def _method_of(type_name: str, stem: str) -> str | None:
    if TYPES[type_name] == REAL:
        return None
    if type_name == "RealVideo-FakeAudio":
        return "rtvc"
    return next((method for end, method in SUFFIX_METHODS.items() if stem.endswith(end)), "unknown")


LAYOUT = Layout(NAME, EXPECTED, lambda root: find_top(root) is not None, read)
