"""What `dfkit predict` says of one file, and the columns of its table.

An answer says which state of the file it is about and what it was scored with: only so can a later run keep it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import dfkit
from dfkit.runtime.detector import Detector
from dfkit.runtime.results import VideoResult

_NS_PER_S = 1_000_000_000
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileState:
    """Size and time of change of a file, which stand for its content; both None where there is no file."""

    size_bytes: int | None
    modified: str | None
    """UTC, to the nanosecond where the disk keeps it: a number of that length is changed by many readers of JSON."""


def state_of(path: Path) -> FileState:
    """The state of a file now."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return FileState(None, None)
    seconds, rest_ns = divmod(found.st_mtime_ns, _NS_PER_S)
    # A counted second, not `fromtimestamp`: a clock before 1970 or after 9999 is a file's, too.
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        text = str(seconds)
    return FileState(found.st_size, f"{text}.{rest_ns:09d}Z")


def scored_by(detector: Detector) -> str:
    """Name and fingerprint of all that scores depend on beside the file: dfkit, model, contract, threshold, backend."""
    manifest = detector.bundle.manifest
    digest = hashlib.sha256()
    for part in (dfkit.__version__, manifest.model_dump_json(), detector.graphs.name, detector.graphs.recipe):
        digest.update(f"{part}\n".encode())
    # A checkpoint's manifest lists no files.
    if not manifest.files and detector.bundle.path.is_file():
        with detector.bundle.path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return f"{manifest.name}-{digest.hexdigest()[:16]}"


@dataclass(frozen=True)
class Answer:
    """The answer for one file: scored now, or kept from what an earlier run wrote."""

    content: Mapping[str, Any]
    """An element of `--json`, a line of `--jsonl`; of a row kept from a table alone its columns, as text."""
    lines: tuple[str, ...]
    """For people."""
    result: VideoResult | None
    """None for one that was kept."""

    @property
    def video(self) -> str:
        """The file, as it was named."""
        return str(self.content["video"])

    @property
    def status(self) -> str:
        """One of the statuses of `VideoResult`."""
        return str(self.content["status"])

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        return list(self.lines)

    def to_json(self) -> dict[str, Any]:
        """The element of `--json`."""
        return dict(self.content)


def answer_of(result: VideoResult, state: FileState, fingerprint: str) -> Answer:
    """The answer that a result is.

    Args:
        result: Of one file.
        state: Of the file, from before it was read.
        fingerprint: As `scored_by` gives it; empty for what the next run should try again.
    """
    facts = {"size_bytes": state.size_bytes, "modified": state.modified, "scored_by": fingerprint}
    return Answer({**result.to_json(), **facts}, tuple(result.summary()), result)


def kept_answer(content: Mapping[str, Any], where: Path) -> Answer:
    """The answer that an earlier run wrote into a file."""
    verdict, p_fake = content["verdict"], content["p_fake"]
    said = f"{verdict}, p_fake {float(p_fake):.3f}" if verdict else f"{content['status']}: {content['reason']}"
    return Answer(content, (f"{content['video']}: {said} (kept from {where})",), None)


def _worst(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda content: (content["worst_clip"] or {}).get(name)


def _worst_track(name: str) -> Callable[[Mapping[str, Any]], Any]:
    def of(content: Mapping[str, Any]) -> Any:
        worst = content["worst_clip"]
        tracks = {track["track_id"]: track for track in content["tracks"]}
        return None if worst is None else tracks[worst["track_id"]].get(name)

    return of


READ_NAMES = ("read_s", "duration_s", "read_share")
"""Of pictures and sound each, what was read of them."""


def _read(part: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda content: ((content["read"] or {}).get(part) or {}).get(name)


COLUMNS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    **{name: itemgetter(name) for name in ("video", "status", "verdict", "p_fake", "threshold")},
    "modalities": lambda content: "+".join(content["modalities"]),
    "num_tracks": lambda content: len(content["tracks"]),
    "num_clips": lambda content: sum(len(track["clips"]) for track in content["tracks"]),
    "worst_track": _worst("track_id"),
    "found_by": _worst_track("found_by"),
    "worst_clip_start_s": _worst("start_s"),
    "worst_clip_p_fake": _worst("p_fake"),
    **{f"{name}": _read("pictures", name) for name in READ_NAMES},
    **{f"sound_{name}": _read("sound", name) for name in READ_NAMES},
    "missing": lambda content: content["read"] and content["read"]["missing"],
    "notes": lambda content: "; ".join(content["notes"]),
    **{name: itemgetter(name) for name in ("reason", "size_bytes", "modified", "scored_by")},
}
"""Columns of the table, and how each follows from an element of `--json`; None is an empty cell."""
CSV_COLUMNS = tuple(COLUMNS)


def table_row(content: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    row = {name: cell(content) for name, cell in COLUMNS.items()}
    return {name: "" if value is None else value for name, value in row.items()}
