"""DFDC: parts with a `metadata.json` each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dfkit.data.label_words import REAL, parse_label, parse_split
from dfkit.data.labels import LabelSet
from dfkit.data.layouts.base import Layout, SourceCollector, folder_listing, layout_error, read_json_file

NAME = "dfdc"
META_FILE = "metadata.json"
_HEAD_BYTES = 65536
_LABELLED = re.compile(rb'"label"\s*:\s*"(REAL|FAKE)"', re.IGNORECASE)
EXPECTED = "dfdc_train_part_N folders (or one of them), each with metadata.json = {file: {label, split, original}}"


def find_parts(root: Path) -> list[Path]:
    """Folders that hold a metadata.json of this kind: the parts below, or the folder itself; whatever their names."""
    parts = sorted(path.parent for path in root.glob(f"*/{META_FILE}") if _is_of_this_kind(path))
    if not parts and _is_of_this_kind(root / META_FILE):
        return [root]
    return parts


def _is_of_this_kind(path: Path) -> bool:
    """Whether a file begins as an object of files with labels; whole, it may have megabytes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError:
        return False
    return head.startswith(b"{") and _LABELLED.search(head) is not None


def read(root: Path) -> LabelSet:
    """Labels of all parts; a fake's group is its original. The actors, who recur, are not named anywhere."""
    parts = find_parts(root) or ([root] if (root / META_FILE).is_file() else [])
    if not parts:
        raise layout_error(NAME, root, expected=EXPECTED, found=folder_listing(root))
    collector = SourceCollector(NAME, root)
    found = {part: read_json_file(NAME, part / META_FILE, dict) for part in parts}
    for part, files in found.items():
        for file, facts in sorted(files.items()):
            _add(collector, part, file, facts)
    return collector.finish(expected=EXPECTED)


def _add(collector: SourceCollector, part: Path, file: str, facts: Any) -> None:
    label = parse_label(str(facts.get("label", ""))) if isinstance(facts, dict) else None
    if label is None:
        collector.faults.append(f"{part.name}/{META_FILE}: {file}: expected a label REAL or FAKE, found {facts}")
        return
    split = parse_split(str(facts.get("split") or ""))
    original = facts.get("original") or file
    method = None if label == REAL else "dfdc"
    collector.add(part / file, label, groups=(str(original),), method=method, split=split, person_named=False)


LAYOUT = Layout(NAME, EXPECTED, lambda root: bool(find_parts(root)), read)
