"""LAV-DF and AV-Deepfake1M: one list of files with fake periods per modality. Field names vary by release."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dfkit.data.label_words import FAKE, REAL, parse_split
from dfkit.data.labels import LabelSet
from dfkit.data.layouts.base import Layout, SourceCollector, folder_listing, layout_error, read_json_file

LAVDF_FILES = ("metadata.json", "metadata.min.json")
LAVDF_EXPECTED = "train, dev or test folders and metadata.json = [{file, original, split, fake_periods, ...}]"
DEEPFAKE1M_SPLITS = ("train", "val", "test")
DEEPFAKE1M_EXPECTED = (
    "train_metadata.json or val_metadata.json = [{file, original, split, fake_segments, ...}], or train_metadata/ "
    "with one such object per video, and the files below train/ or val/"
)
PERIODS = ("fake_periods", "fake_segments")
VISUAL_PERIODS = ("visual_fake_periods", "visual_fake_segments")
AUDIO_PERIODS = ("audio_fake_periods", "audio_fake_segments")
PERSON = re.compile(r"id\d{5}")


def detect_lavdf(root: Path) -> bool:
    """Whether a metadata file stands beside split folders."""
    has_split = any((root / name).is_dir() for name in ("train", "dev", "test"))
    return has_split and any((root / name).is_file() for name in LAVDF_FILES)


def read_lavdf(root: Path) -> LabelSet:
    """Labels of LAV-DF: a real file has no fake period."""
    meta = next((root / name for name in LAVDF_FILES if (root / name).is_file()), None)
    if meta is None:
        raise layout_error("lavdf", root, expected=LAVDF_EXPECTED, found=folder_listing(root))
    collector = SourceCollector("lavdf", root)
    for number, facts in enumerate(read_json_file("lavdf", meta, list)):
        _add(collector, root, facts, f"{meta.name}, entry {number}", default_split=None)
    return collector.finish(expected=LAVDF_EXPECTED)


def find_deepfake1m(root: Path) -> Iterator[tuple[str, Path]]:
    """(split, metadata) for every split: one file of all videos, or a folder with one file per video."""
    for split in DEEPFAKE1M_SPLITS:
        for place in (root / f"{split}_metadata.json", root / f"{split}_metadata"):
            if place.exists():
                yield split, place


def detect_deepfake1m(root: Path) -> bool:
    """Whether one of its metadata files or folders is there."""
    return any(place.is_file() or _holds_json(place) for _, place in find_deepfake1m(root))


def _holds_json(folder: Path) -> bool:
    """Whether the first file below a folder is JSON: there may be a million."""
    first = next((Path(top, names[0]) for top, _, names in os.walk(folder) if names), None)
    return first is not None and first.suffix.lower() == ".json"


def read_deepfake1m(root: Path) -> LabelSet:
    """Labels of AV-Deepfake1M; the files lie below a folder per split."""
    if not detect_deepfake1m(root):
        raise layout_error("avdeepfake1m", root, expected=DEEPFAKE1M_EXPECTED, found=folder_listing(root))
    collector = SourceCollector("avdeepfake1m", root)
    for split, place in find_deepfake1m(root):
        folder = root / split if (root / split).is_dir() else root
        entries = _one_list(place) if place.is_file() else _per_video(place)
        for where, facts in entries:
            _add(collector, folder, facts, where, default_split=split)
    return collector.finish(expected=DEEPFAKE1M_EXPECTED)


def _one_list(path: Path) -> Iterator[tuple[str, Any]]:
    for number, facts in enumerate(read_json_file("avdeepfake1m", path, list)):
        yield f"{path.name}, entry {number}", facts


def _per_video(folder: Path) -> Iterator[tuple[str, Any]]:
    """One object per video, in a tree like that of the videos; without `file` its own place names the video."""
    for path in sorted(path for path in folder.rglob("*.json") if not path.name.startswith(".")):
        relative = path.relative_to(folder)
        facts = read_json_file("avdeepfake1m", path, dict)
        yield f"{folder.name}/{relative.as_posix()}", {"file": relative.with_suffix(".mp4").as_posix(), **facts}


def _add(collector: SourceCollector, folder: Path, facts: Any, where: str, *, default_split: str | None) -> None:
    if not isinstance(facts, dict) or not isinstance(facts.get("file"), str):
        collector.faults.append(f"{where}: expected an object with 'file', found {str(facts)[:80]}")
        return
    if not any(name in facts for name in (*PERIODS, *VISUAL_PERIODS, *AUDIO_PERIODS)):
        collector.faults.append(f"{where}: none of {', '.join(PERIODS)} in {', '.join(facts)}")
        return
    try:
        visual, audio, either = (_periods(facts, names) for names in (VISUAL_PERIODS, AUDIO_PERIODS, PERIODS))
    except (TypeError, ValueError):
        collector.faults.append(f"{where}: fake periods are not pairs of seconds with start < end")
        return
    intervals = tuple(sorted({*visual, *audio, *either}))
    declared = bool(facts.get("n_fakes")) or bool(facts.get("modify_video")) or bool(facts.get("modify_audio"))
    if declared and not intervals:
        collector.faults.append(f"{where}: marked as modified, but without a fake period")
        return
    collector.add(
        folder / facts["file"],
        FAKE if intervals else REAL,
        groups=_groups(facts),
        person_named=PERSON.search(facts["file"]) is not None,
        method=_method(facts, visual, audio) if intervals else None,
        intervals=intervals,
        split=parse_split(str(facts.get("split") or "")) or default_split,
    )


def _periods(facts: dict[str, Any], names: Iterable[str]) -> list[tuple[float, float]]:
    """Raises TypeError or ValueError for what is not a list of pairs with start < end."""
    periods = []
    for name in names:
        for start, end in facts.get(name) or []:
            if not 0 <= float(start) < float(end):
                raise ValueError(name)
            periods.append((float(start), float(end)))
    return periods


def _groups(facts: dict[str, Any]) -> tuple[str, ...]:
    """The original, and the person where the path names one (files of VoxCeleb)."""
    original = facts.get("original") or facts["file"]
    return tuple(dict.fromkeys((str(original), *PERSON.findall(facts["file"]))))


def _method(facts: dict[str, Any], visual: list[Any], audio: list[Any]) -> str:
    """Which modality was changed; by the declared fields first: releases copy periods between modalities."""
    declared = str(facts.get("modify_type") or "").replace("_modified", "")
    if declared in ("audio", "visual", "both"):
        return declared
    is_visual = bool(facts.get("modify_video", visual))
    is_audio = bool(facts.get("modify_audio", audio))
    if is_visual and is_audio:
        return "both"
    if is_visual:
        return "visual"
    return "audio" if is_audio else "unknown"


LAVDF = Layout("lavdf", LAVDF_EXPECTED, detect_lavdf, read_lavdf)
DEEPFAKE1M = Layout("avdeepfake1m", DEEPFAKE1M_EXPECTED, detect_deepfake1m, read_deepfake1m)
