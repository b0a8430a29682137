"""NPZ folders of the original teacher, converted once into the storage of the preset `uniform50`.

Two kinds of index name the files: `{split}_index.json` and `{split}_preprocessed_index.json`. Both are read;
what they say of a file has to agree with each other and with the file. Object arrays are never unpickled.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.clip import UNIFORM50, ClipSpec
from dfkit.data.catalog import PARTS_KEY
from dfkit.data.label_words import LABEL_NAMES, SPLITS, parse_label
from dfkit.data.labels import LabelSet, Source, faults_error
from dfkit.errors import NOT_JSON, DataError, MediaError, one_line

SUFFIXES = ("_index.json", "_preprocessed_index.json")
INDEX_NAMES = tuple(f"{split}{suffix}" for split in SPLITS for suffix in SUFFIXES)
LIP_SIDES_PX = (96, 112)
FACE_PX = 224
FAKE_ID = re.compile(r"(?P<source>[^_]+)_(?P<target>[^_]+)_[^_]+_[^_]+")
REAL_ID = re.compile(r"(?P<source>[^_]+)_[^_]+")
BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)
FIX = "correct the index or make these files again, then run the same command"
# Values come from uint8 / 255 in float32: half a grey level is far more than rounding.
RANGE_TOLERANCE = 0.5 / 255


@dataclass(frozen=True)
class NpzArrays:
    """The arrays of an NPZ file, checked for shape and range."""

    face: NDArray[np.uint8]
    """(T, 224, 224, 3)."""
    lip: NDArray[np.uint8]
    """(T, 96 or 112, same, 3)."""
    mfcc: NDArray[np.float32]
    """(T_a, n_mfcc)."""
    times_s: NDArray[np.float64]
    """(T,) seconds; NaN where the file has none."""


def is_npz_folder(root: Path) -> bool:
    """Whether a folder holds one of the indexes."""
    return any((root / name).is_file() for name in INDEX_NAMES)


def video_groups(video_id: str) -> tuple[str, ...]:
    """Persons in a video id: `900000_900100_2_0000.mp4` has two, `900000_001.mp4` one, others none."""
    stem = video_id.rsplit(".", 1)[0]
    match = FAKE_ID.fullmatch(stem)
    if match:
        return tuple(dict.fromkeys((match["source"], match["target"])))
    match = REAL_ID.fullmatch(stem)
    return (match["source"],) if match else ()


def read_npz_sources(index_dir: str | Path, *, n_mfcc: int = 40) -> LabelSet:
    """Sources that the indexes name; everything that can be told without the pictures is checked.

    Args:
        index_dir: Folder of the indexes.
        n_mfcc: Coefficients that each MFCC column must have.
    Returns:
        One source per NPZ file, with persons from the video ids and the split; a file in several parts has
        none, and says so in its origin: splitting by the index is then refused.
    Raises:
        DataError: Lists every missing file, contradiction, and array of wrong shape or type.
    """
    folder = Path(index_dir)
    if not is_npz_folder(folder):
        raise DataError(
            f"{folder}: no NPZ index (expected one of {', '.join(INDEX_NAMES)})",
            fix="give the folder that holds the index files",
        )
    faults: list[str] = []
    entries: dict[Path, list[_Entry]] = defaultdict(list)
    for entry in _read_indexes(folder, faults):
        entries[entry.path].append(entry)
    for path, same in entries.items():
        faults.extend(_disagreements(path, same))
        faults.extend(_header_faults(path, same[0], n_mfcc) if path.is_file() else [])
    if faults:
        raise faults_error(faults, str(folder), fix=FIX)
    if not entries:
        raise DataError(f"{folder}: the indexes name no file", fix=FIX)
    return _to_label_set(entries)


@dataclass(frozen=True)
class _Entry:
    """A row of an index file, with the place it stands at for messages."""

    path: Path
    label: int
    video_id: str
    split: str
    where: str


def _read_indexes(folder: Path, faults: list[str]) -> Iterator[_Entry]:
    for name in INDEX_NAMES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except NOT_JSON as error:
            faults.append(f"{name}: not JSON ({one_line(error)})")
            continue
        if not isinstance(rows, list):
            faults.append(f"{name}: expected a list, found {type(rows).__name__}")
            continue
        for number, row in enumerate(rows):
            entry = _read_entry(folder, row, name.split("_", 1)[0], f"{name}, entry {number}", faults)
            if entry is not None:
                yield entry


def _read_entry(folder: Path, row: Any, split: str, where: str, faults: list[str]) -> _Entry | None:
    row = row if isinstance(row, dict) else {}
    text = row.get("npz_path", row.get("output_path"))
    label = parse_label(str(row.get("label")))
    if not isinstance(text, str) or label is None:
        faults.append(f"{where}: needs npz_path or output_path, and a label real, fake, 0 or 1; found {row}")
        return None
    path = folder / text.replace("\\", "/")
    if not path.is_file():
        faults.append(f"{where}: {text} is missing")
    return _Entry(path, label, str(row.get("video_id", path.stem)), split, where)


def _disagreements(path: Path, same: Sequence[_Entry]) -> list[str]:
    faults = []
    for what, values in (("label", {e.label for e in same}), ("video_id", {e.video_id for e in same})):
        if len(values) > 1:
            where = "; ".join(entry.where for entry in same)
            faults.append(f"{path.name}: {what} {sorted(map(str, values))} in {where}")
    return faults


def _header_faults(path: Path, entry: _Entry, n_mfcc: int) -> list[str]:
    """Faults that the headers and the small arrays show; pictures are not unpacked."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            faults = _shape_faults(path, n_mfcc)
            if not faults:
                label = arrays["label"] if "label" in arrays.files else np.asarray(entry.label)
                if label.ndim or label.item() != entry.label:
                    faults.append(f"label {label} in the file, {LABEL_NAMES[entry.label]} in {entry.where}")
                if not np.isfinite(arrays["audio"]).all():
                    faults.append("audio holds NaN or infinity")
    except BROKEN as error:
        faults = [f"cannot be read ({type(error).__name__}: {error})"]
    return [f"{path.parent.name}/{path.name}: {fault}" for fault in faults]


def _shape_faults(path: Path, n_mfcc: int) -> list[str]:
    headers = {name: _read_header(path, name) for name in ("frames", "audio", "lip")}
    missing = [name for name, header in headers.items() if header is None]
    if missing:
        return [f"without {' and '.join(missing)}"]
    shapes = {name: header[0] for name, header in headers.items() if header is not None}
    dtypes = {name: header[1] for name, header in headers.items() if header is not None}
    num_frames = shapes["frames"][0] if shapes["frames"] else 0
    faults = []
    if num_frames < 1 or shapes["frames"][1:] != (FACE_PX, FACE_PX, 3):
        faults.append(f"frames of shape {shapes['frames']}, expected (T, {FACE_PX}, {FACE_PX}, 3)")
    if shapes["lip"] not in [(num_frames, side, side, 3) for side in LIP_SIDES_PX]:
        faults.append(f"lip of shape {shapes['lip']}, expected ({num_frames}, 96, 96, 3) or 112")
    if len(shapes["audio"]) != 2 or shapes["audio"][0] < 1 or shapes["audio"][1] != n_mfcc:
        faults.append(f"audio of shape {shapes['audio']}, expected (T_a, {n_mfcc})")
    faults += [f"{name} of type {dtype}, expected a float" for name, dtype in dtypes.items() if dtype.kind != "f"]
    return faults


def _read_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type of an array, from the first bytes of its member in the archive."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
        with archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
    return tuple(shape), dtype


def _to_label_set(entries: dict[Path, list[_Entry]]) -> LabelSet:
    sources, doubled = [], []
    for path, same in sorted(entries.items()):
        origin = {"video_id": same[0].video_id}
        splits = [split for split in SPLITS if split in {entry.split for entry in same}]
        if len(splits) > 1:
            origin[PARTS_KEY] = " and ".join(splits)
            doubled.append(f"{path.parent.name}/{path.name} in {origin[PARTS_KEY]}")
        sources.append(
            Source(
                path=path,
                label=same[0].label,
                groups=video_groups(same[0].video_id),
                split=splits[0] if len(splits) == 1 else None,
                origin=origin,
            )
        )
    notes = []
    if doubled:
        notes.append(f"the index puts {len(doubled)} files into two parts, so its split leaks: {'; '.join(doubled)}")
    return LabelSet(tuple(sources), all(source.groups for source in sources), tuple(notes))


def npz_spec(sources: Sequence[Source]) -> ClipSpec:
    """The clip contract of checked NPZ files: `uniform50` with the side of their lip pictures.

    Raises:
        DataError: The files hold lip pictures of two sizes.
    """
    by_side: dict[int, list[str]] = defaultdict(list)
    for source in sources:
        header = _read_header(source.path, "lip")
        assert header is not None, "checked by read_npz_sources"
        by_side[header[0][1]].append(f"{source.path.parent.name}/{source.path.name}")
    if len(by_side) > 1:
        listed = "; ".join(f"{side} px in {len(names)} files, as {names[0]}" for side, names in sorted(by_side.items()))
        raise DataError(
            f"lip pictures of two sizes: {listed}", fix="keep files of one size in a folder with an index of their own"
        )
    picture = UNIFORM50.picture.model_copy(update={"lip_px": next(iter(by_side))})
    return UNIFORM50.model_copy(update={"picture": picture})


def read_npz(path: Path) -> NpzArrays:
    """Reads and checks the arrays of one file.

    Raises:
        MediaError: `unreadable`, with what is wrong.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            face = to_uint8(arrays["frames"], "frames")
            lip = to_uint8(arrays["lip"], "lip")
            mfcc = np.ascontiguousarray(arrays["audio"], np.float32)
            times_s = _read_times(arrays, len(face))
    except BROKEN as error:
        raise MediaError(f"{path}: {error}", status="unreadable") from error
    return NpzArrays(face, lip, mfcc, times_s)


def to_uint8(pictures: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Pictures in [0, 1] as uint8.

    Args:
        pictures: Any shape, float.
        name: For the message.
    Raises:
        ValueError: NaN, or values outside of [0, 1].
    """
    low, high = float(pictures.min()), float(pictures.max())
    # Written so that NaN fails.
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ValueError(f"{name} holds values from {low} to {high}, expected [0, 1]")
    return np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


def _read_times(arrays: Any, num_frames: int) -> NDArray[np.float64]:
    unknown = np.full(num_frames, np.nan)
    if "timestamps" not in arrays.files:
        return unknown
    try:
        times_s = arrays["timestamps"]
    except ValueError:
        # An object array: not needed, so not worth a refusal, and never unpickled.
        return unknown
    fits = times_s.shape == (num_frames,) and times_s.dtype.kind == "f"
    return times_s.astype(np.float64) if fits else unknown
