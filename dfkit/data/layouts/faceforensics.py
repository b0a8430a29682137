"""FaceForensics++: originals and five kinds of manipulation; the official split lists pairs of ids."""

from __future__ import annotations

from pathlib import Path

from dfkit.data.label_words import FAKE, REAL
from dfkit.data.labels import LabelSet
from dfkit.data.layouts.base import NO_SOUND, Layout, SourceCollector, folder_listing, layout_error, read_json_file
from dfkit.media.listing import list_videos

NAME = "faceforensics"
ORIGINALS = "original_sequences"
MANIPULATED = "manipulated_sequences"
ACTOR_SETS = ("actors", "DeepFakeDetection")
SPLIT_FILES = {"train": "train.json", "val": "val.json", "test": "test.json"}
EXPECTED = f"{ORIGINALS}/<source>/<c0, c23 or c40>/videos and {MANIPULATED}/<method>/<same>/videos"


def detect(root: Path) -> bool:
    """Whether both kinds of sequences are there."""
    return (root / ORIGINALS).is_dir() and (root / MANIPULATED).is_dir()


def read(root: Path) -> LabelSet:
    """Labels by folder; both ids of a manipulation are its groups."""
    if not detect(root):
        raise layout_error(NAME, root, expected=EXPECTED, found=folder_listing(root))
    splits = _read_splits(root)
    collector = SourceCollector(NAME, root)
    for top, label in ((ORIGINALS, REAL), (MANIPULATED, FAKE)):
        for kind in sorted(entry for entry in (root / top).iterdir() if entry.is_dir()):
            for videos in sorted(kind.glob("*/videos")):
                _add_folder(collector, videos, label, kind.name, splits)
    notes = (NO_SOUND,) if splits else (NO_SOUND, "no split lists (splits/train.json, ...): no official split")
    return collector.finish(expected=EXPECTED, notes=notes)


def _add_folder(collector: SourceCollector, videos: Path, label: int, kind: str, splits: dict[str, str]) -> None:
    for path in list_videos(videos):
        groups = _ids(path.stem, kind)
        split = next((splits[group] for group in groups if group in splits), None)
        method = None if label == REAL else kind
        collector.add(path, label, groups=groups, method=method, split=split)


def _ids(stem: str, kind: str) -> tuple[str, ...]:
    """`033_097` -> youtube:033, youtube:097; `01_02__walking__X` -> actor:01, actor:02."""
    prefix = "actor" if kind in ACTOR_SETS else "youtube"
    ids = [part for part in stem.split("__", maxsplit=1)[0].split("_") if part]
    return tuple(dict.fromkeys(f"{prefix}:{value}" for value in ids))


def _read_splits(root: Path) -> dict[str, str]:
    """Split of each youtube id, from lists of pairs; empty where the lists are not there."""
    folder = next((f for f in (root / "splits", root) if (f / SPLIT_FILES["train"]).is_file()), None)
    if folder is None:
        return {}
    splits: dict[str, str] = {}
    for split, file in SPLIT_FILES.items():
        for pair in read_json_file(NAME, folder / file, list):
            if not isinstance(pair, list):
                raise layout_error(NAME, folder / file, expected="a list of pairs of ids", found=str(pair))
            splits.update({f"youtube:{value}": split for value in pair})
    return splits


LAYOUT = Layout(NAME, EXPECTED, detect, read)
