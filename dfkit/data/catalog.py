"""The readable side of prepared data: `data.json` and `videos.jsonl`, one row per video."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from dfkit.clip import UNIFORM50, ClipSpec, FaceVariant, FoundBy
from dfkit.data.groups import CONTENT_PREFIX, components, file_ids
from dfkit.data.hashing import sha256_json
from dfkit.errors import DataError
from dfkit.files import name_to_text, write_atomically
from dfkit.media.equalise_spec import EqualiseSpec

SCHEMA_VERSION = 1
DATA_FILE = "data.json"
VIDEOS_FILE = "videos.jsonl"
JOURNAL_FILE = "videos.journal.jsonl"
INDEX_FILE = "index.json"
PARTS_KEY = "splits"
"""In `VideoRow.origin`: the parts of a given split that name the file, where there are more than one."""
HASH_LENGTH = 16
"""Hexadecimal digits of a content hash in a group's name: 64 bits do not collide in a data set."""


@dataclass(frozen=True)
class ClipRow:
    """Place and labels of a clip, which are known without decoding its pictures."""

    track_id: int
    start_s: float
    end_s: float
    num_frames: int
    fake_frames: int
    """Frames labelled fake; 0 where the label is unknown."""
    found_by: FoundBy | None = None
    """The face detector that found its track first; None under `uniform50` and in rows from before there were two."""


@dataclass(frozen=True)
class ChunkRow:
    """Name, hash and size of a chunk file."""

    file: str
    sha256: str
    size_bytes: int
    num_clips: int


@dataclass(frozen=True)
class VideoRow:
    """What is known about one video after it was prepared, or why it could not be."""

    key: str
    """SHA-256 over file content, labels and spec: equal keys need no second preparation."""
    path: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    label: int | None
    groups: tuple[str, ...]
    method: str | None
    split: str | None
    intervals: tuple[tuple[float, float], ...]
    status: str
    """ok, no_face, no_audio, too_short or unreadable."""
    reason: str | None
    facts: dict[str, Any] | None
    """VideoFacts of the file; None where it could not be read."""
    clips: tuple[ClipRow, ...] = ()
    chunks: tuple[ChunkRow, ...] = ()
    origin: dict[str, str] | None = None
    """Where an own manipulation or an NPZ file came from."""
    min_psnr_db: float | None = None
    """Of the worst stored picture against the live one."""
    read: dict[str, Any] | None = None
    """How much of pictures and sound was read and what is missing (`FileRead.to_json`), and `notes`; None of a file
    that could not be opened, of an NPZ file, and in data of before."""
    wall_s: float = 0.0
    columns: dict[str, str] | None = None
    """Further columns of the label file (such as `language`) that are filled in for this video; None without a label
    file, and in data of before."""
    equalised: dict[str, Any] | None = None
    """What equalising did to it (`data.equalised.equalised_facts`); facts and clips are then of the equalised file,
    path, hash and intervals of the file itself. None of a raw video."""

    @property
    def name(self) -> str:
        """File name, whatever system the path was written on."""
        return self.path.replace("\\", "/").rsplit("/", 1)[-1]

    @property
    def read_share(self) -> float | None:
        """Share of the pictures or of the sound that was read, the smaller one; None where it is not known."""
        parts = [] if self.read is None else [self.read.get(part) for part in ("pictures", "sound")]
        shares = [float(part["read_share"]) for part in parts if part is not None]
        return min(shares, default=None)

    @property
    def shown_intervals(self) -> tuple[tuple[float, float], ...]:
        """The fake intervals by the clock of the stored clips; equalising may have cut off what came before."""
        cut_s = 0.0 if self.equalised is None else self.equalised["cut_s"]
        return tuple((max(start - cut_s, 0.0), max(end - cut_s, 0.0)) for start, end in self.intervals)

    def read_json(self) -> dict[str, Any]:
        """For reports: seconds of pictures that were read and that there should be, `read_share`, and what is
        missing; each None where it is not known."""
        pictures = {} if self.read is None else self.read["pictures"]
        return {
            "read_s": pictures.get("read_s"),
            "duration_s": pictures.get("duration_s"),
            "read_share": self.read_share,
            "missing": None if self.read is None else self.read["missing"],
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> VideoRow:
        """Reads what `to_json` wrote; TypeError or KeyError for another object."""
        return cls(
            **{
                **value,
                "groups": tuple(value["groups"]),
                "intervals": tuple((float(s), float(e)) for s, e in value["intervals"]),
                "clips": tuple(ClipRow(**clip) for clip in value["clips"]),
                "chunks": tuple(ChunkRow(**chunk) for chunk in value["chunks"]),
            }
        )


@dataclass(frozen=True)
class DataInfo:
    """Facts of a whole data set: the content of `data.json`."""

    spec: ClipSpec
    created: str
    finished: bool
    groups_known: bool
    source: str
    """What it was made from, for people."""
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    view_of: str | None = None
    """Folder beside this one whose videos these are under another preset; such a view is never the newest data."""
    face_models: FaceVariant | None = None
    """Which face models found the faces; None under `uniform50`, which looks for none."""
    missing: tuple[str, ...] = ()
    """Files that the labels name and that were not there."""
    equalised: EqualiseSpec | None = None
    """What all videos were made alike in before; None for raw data."""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        equalised = None if self.equalised is None else self.equalised.model_dump(mode="json")
        spec = {"spec": self.spec.model_dump(mode="json"), "spec_hash": spec_hash(self.spec)}
        return {**asdict(self), **spec, "equalised": equalised}

    @property
    def form(self) -> str:
        """Whether the videos are as their files are, in words that every report of them repeats."""
        if self.equalised is None:
            return "raw: videos as they are, with all that their files differ in"
        return f"equalised (version {self.equalised.version}): {self.equalised.words()}"


def face_models_of(preset: str, faces: FaceVariant) -> FaceVariant | None:
    """The face models that data of a preset need: those given, or none."""
    return None if preset == UNIFORM50.preset else faces


def spec_hash(spec: ClipSpec) -> str:
    """SHA-256 of a clip contract's values, as hexadecimal text."""
    return sha256_json(spec.model_dump(mode="json"))


def now() -> str:
    """Current time, ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def dump_line(row: VideoRow) -> str:
    """One line of `videos.jsonl`, with its line end."""
    return json.dumps(row.to_json(), ensure_ascii=False) + "\n"


def dump_info(info: DataInfo) -> str:
    """A data set's facts as the text of its `data.json`."""
    return json.dumps(info.to_json(), indent=2, ensure_ascii=False) + "\n"


def write_videos(folder: Path, rows: Iterable[VideoRow]) -> None:
    """Writes `videos.jsonl` into a folder, in place of the one that is there."""
    write_atomically(folder / VIDEOS_FILE, "".join(map(dump_line, rows)))


def parse_videos(text: str, where: str) -> list[VideoRow]:
    """Rows of a `videos.jsonl`.

    Raises:
        DataError: A line is not a row.
    """
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            rows.append(VideoRow.from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{where}, line {number}: not a row of prepared data ({error})") from error
    return rows


def parse_info(text: str, where: str) -> DataInfo:
    """Content of a `data.json`.

    Raises:
        DataError: It is not one, or a newer version wrote it.
    """
    try:
        value = json.loads(text)
        version = value["schema_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where}: not the data.json of prepared data ({error})") from error
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{where}: schema version {version}, this dfkit reads up to {SCHEMA_VERSION}",
            fix="pip install --upgrade dfkit",
        )
    try:
        # Before the field, everything was prepared with float16.
        faces = value.get("face_models", face_models_of(value["spec"]["preset"], "float16"))
        if faces not in (None, *get_args(FaceVariant)):
            raise ValueError(f"face_models '{faces}'")
        return DataInfo(
            spec=ClipSpec.model_validate(value["spec"]),
            created=value["created"],
            finished=value["finished"],
            groups_known=value["groups_known"],
            source=value["source"],
            notes=tuple(value["notes"]),
            counts=value["counts"],
            view_of=value.get("view_of"),
            face_models=faces,
            missing=tuple(value.get("missing", ())),
            equalised=None if value.get("equalised") is None else EqualiseSpec.model_validate(value["equalised"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where}: not the data.json of prepared data ({error})") from error


def read_journal(path: Path) -> list[VideoRow]:
    """Rows of a run that was cut off; a half-written last line is no row."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    # What follows the last line end is empty or half a row.
    for line in lines[:-1]:
        try:
            rows.append(VideoRow.from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError):
            continue
    return rows


def group_names(rows: Sequence[VideoRow]) -> list[str]:
    """The group of each video: files that share an id, or their whole content, are one.

    Ids count whether or not they name every person: what is known to belong together stays together.

    Args:
        rows: All videos that may be split against each other; one without ids is its own group.
    Returns:
        One name per row.
    """
    return [_short_name(name) for name in components([file_ids(row.groups, row.sha256) for row in rows])]


def _short_name(component: str) -> str:
    """An id as given ('id:' sorts before 'sha256:'), or the beginning of a content hash."""
    if component.startswith("id:"):
        # Of data sets that name no persons it may be a file's name; it goes into checkpoints and bundles.
        return name_to_text(component.removeprefix("id:"))
    return component[: len(CONTENT_PREFIX) + HASH_LENGTH]
