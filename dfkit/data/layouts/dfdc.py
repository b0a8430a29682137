"""DFDC: parts with a `metadata.json` each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfkit.data.labels import LABEL_VALUES, REAL, LabelSet
from dfkit.data.layouts.base import SPLIT_NAMES, Layout, SourceCollector, folder_listing, layout_error, read_json_file

NAME = "dfdc"
META_FILE = "metadata.json"
EXPECTED = "dfdc_train_part_N folders (or one of them), each with metadata.json = {file: {label, split, original}}"


def find_parts(root: Path) -> list[Path]:
    """Folders that hold a metadata.json of this kind: the parts below, or the folder itself."""
    parts = sorted(path.parent for path in root.glob(f"dfdc_train_part_*/{META_FILE}"))
    if not parts and root.name.startswith("dfdc_train_part_") and (root / META_FILE).is_file():
        return [root]
    return parts


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
    label = LABEL_VALUES.get(str(facts.get("label", "")).lower()) if isinstance(facts, dict) else None
    if label is None:
        collector.faults.append(f"{part.name}/{META_FILE}: {file}: expected a label REAL or FAKE, found {facts}")
        return
    split = SPLIT_NAMES.get(str(facts.get("split") or "").lower())
    original = facts.get("original") or file
    method = None if label == REAL else "dfdc"
    collector.add(part / file, label, groups=(str(original),), method=method, split=split, person_named=False)


LAYOUT = Layout(NAME, EXPECTED, lambda root: bool(find_parts(root)), read)
