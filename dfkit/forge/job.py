"""The work of one process: one source, its twin and its forgeries, written and recorded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfkit.config.forge import PACKAGE_METHODS, TWIN, ForgeConfig, fake_part_of, family_of
from dfkit.errors import MediaError
from dfkit.files import write_atomically
from dfkit.forge.footage import Footage, load_footage
from dfkit.forge.manipulate import Forgery, NotApplicableError, manipulate
from dfkit.forge.plan import Job, Task
from dfkit.forge.sound import level_to
from dfkit.media.encode import EncodeSettings, coded_level_change_db, write_video
from dfkit.media.faces import FaceModels

# Written into each record; raise it when the same settings give other files.
FORGE_VERSION = 2
# A constant rate is constant over this buffer: the file may exceed rate times duration by it.
BUFFER_S = 0.5
CONTAINER_BYTES = 12_000
AUDIO_HEADROOM = 1.12
MIN_VIDEO_KBPS, MAX_VIDEO_KBPS = 450, 6000


@dataclass(frozen=True)
class SourceFile:
    """A real video with its group, its person and its content's hash."""

    path: Path
    group: str
    person: str
    """Ids that tell persons and sounds apart when edges between splits are looked for."""
    sha256: str
    ids: tuple[str, ...] = ()
    """All that joins it with other files: persons, source and sound as far as they are known, and its content."""


@dataclass(frozen=True)
class ForgeRecord:
    """A written twin or forgery and how it came about; a line of `forged.jsonl`."""

    path: str
    """Relative to the output folder, with forward slashes."""
    label: str
    group: str
    """The cell."""
    groups: tuple[str, ...]
    """The cell, and the ids of the source and of the donor: what the column `group` of labels.csv holds."""
    method: str
    """Empty for a twin."""
    fake_start_s: float | None
    """None: all of it, or nothing in a twin."""
    fake_end_s: float | None
    start_frame: int
    end_frame: int
    num_frames: int
    source: str
    donor: str | None
    person: str
    """Whose face is seen."""
    face_of: str
    """Whose face or lips were pasted; the person's own where none were."""
    sound: str
    """Whose sound is heard."""
    parameters: dict[str, Any]
    seed: int
    bytes_before_filling: int
    size_bytes: int
    family: str = ""
    """Of the method: `face`, `lips`, `voice` or `sync`; empty for a twin."""
    fake_part: str = ""
    """`picture`, `sound` or `sync`; empty for a twin."""


@dataclass(frozen=True)
class JobResult:
    """Twin and forgeries of one source; kept as `records/*.json`, whose keys are the fields' names."""

    source: str
    """Path of the video."""
    made: tuple[ForgeRecord, ...] = ()
    """The twin first."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(method or empty for the whole source, reason)."""
    footage_s: float = 0.0
    """Seconds of video written."""
    kept: bool = False
    """Whether all of it was already there."""
    facts: dict[str, Any] = field(default_factory=dict)


def run_job(job: Job, files: tuple[SourceFile, ...], config: ForgeConfig, out_dir: Path) -> JobResult:
    """Makes or keeps everything of one source.

    Args:
        job: The plan for it.
        files: All sources, of which the plan names some by number.
        config: Settings.
        out_dir: The forge's folder; files go to `videos/`, the record to `records/`.
    Returns:
        What was made and what was not, and why.
    Raises:
        OSError: A file cannot be written.
    """
    cv2.setNumThreads(1)
    signature = _signature(job, files, config)
    record = out_dir / "records" / f"{_stem(job, files)}.json"
    earlier = _read_result(record, signature, out_dir)
    if earlier is not None:
        return earlier
    record.unlink(missing_ok=True)
    result = _make_all(job, files, config, out_dir)
    write_atomically(record, json.dumps({"signature": signature, **asdict(result)}, indent=1))
    return result


def _make_all(job: Job, files: tuple[SourceFile, ...], config: ForgeConfig, out_dir: Path) -> JobResult:
    file = files[job.source]
    try:
        footage = _load(file.path, config)
    except MediaError as error:
        return JobResult(str(file.path), skipped=(("", f"{error.status}: {error.found}"),))
    writer = _Writer(job, files, config, out_dir, footage)
    skipped = [(method, "its cell has no other person") for method in job.without_donor]
    records = [writer.write(None, Forgery(footage.frames, footage.waveform, 0, len(footage.frames)))]
    for task in job.tasks:
        try:
            donor = None if task.donor is None else _load(files[task.donor].path, config)
            forgery = manipulate(task, footage, donor, config)
        except MediaError as error:
            skipped.append((task.method, f"its donor cannot be used: {error.found}"))
        except NotApplicableError as error:
            skipped.append((task.method, str(error)))
        else:
            records.append(writer.write(task, forgery))
    written_s = len(records) * len(footage.frames) / config.fps
    return JobResult(str(file.path), tuple(records), tuple(skipped), written_s)


@lru_cache(maxsize=1)
def _models() -> FaceModels:
    return FaceModels()


@lru_cache(maxsize=3)
def _load(path: Path, config: ForgeConfig) -> Footage:
    # A cell's few videos lend to each other: a source is soon a donor.
    return load_footage(path, config, _models())


@dataclass(frozen=True)
class _Writer:
    """Writes and records the files of one source."""

    job: Job
    files: tuple[SourceFile, ...]
    config: ForgeConfig
    out_dir: Path
    footage: Footage

    def write(self, task: Task | None, forgery: Forgery) -> ForgeRecord:
        """Writes a forgery, or without a task the twin, with the same encoder, loudness and size."""
        method = TWIN if task is None else task.method
        path = self.out_dir / "videos" / f"{_stem(self.job, self.files)}-{method}.mp4"
        settings = encode_settings(self.config, self.footage)
        size_bytes = planned_bytes(settings, len(forgery.frames), self.config.fps)
        written = write_video(
            path,
            forgery.frames,
            self._levelled(task, forgery, settings),
            sample_rate=self.config.sample_rate,
            settings=settings,
            size_bytes=size_bytes,
        )
        record = self._describe(task, forgery)
        return replace(record, path=f"videos/{path.name}", bytes_before_filling=written, size_bytes=size_bytes)

    def _levelled(self, task: Task | None, forgery: Forgery, settings: EncodeSettings) -> np.ndarray:
        """The sound at the common loudness; synthetic speech, of which the coder keeps less, as it is decoded."""
        level = self.config.loudness_dbfs
        sound = level_to(forgery.waveform, level)
        if task is None or task.method not in PACKAGE_METHODS:
            return sound
        rate = self.config.sample_rate
        twin = level_to(self.footage.waveform, level)
        own, wanted = (coded_level_change_db(each, sample_rate=rate, settings=settings) for each in (sound, twin))
        return level_to(forgery.waveform, level + wanted - own)

    def _describe(self, task: Task | None, forgery: Forgery) -> ForgeRecord:
        source = self.files[self.job.source]
        donor = None if task is None or task.donor is None else self.files[task.donor]
        lent = () if donor is None else donor.ids
        partly = task is not None and forgery.end_frame - forgery.start_frame < len(forgery.frames)
        fps = self.config.fps
        face_of = sound_of = source.person
        if donor is not None and task is not None:
            face_of = donor.person if task.method in ("face_swap", "lip_swap") else source.person
            sound_of = donor.person if task.method == "audio_swap" else source.person
        return ForgeRecord(
            path="",
            label="real" if task is None else "fake",
            group=self.job.cell,
            groups=tuple(dict.fromkeys((self.job.cell, *source.ids, *lent))),
            method="" if task is None else task.method,
            fake_start_s=round(forgery.start_frame / fps, 4) if partly else None,
            fake_end_s=round(forgery.end_frame / fps, 4) if partly else None,
            start_frame=0 if task is None else forgery.start_frame,
            end_frame=0 if task is None else forgery.end_frame,
            num_frames=len(forgery.frames),
            source=str(source.path),
            donor=None if donor is None else str(donor.path),
            person=source.person,
            face_of=face_of,
            sound=sound_of,
            parameters=forgery.parameters,
            seed=0 if task is None else task.seed,
            bytes_before_filling=0,
            size_bytes=0,
            family="" if task is None else family_of(task.method),
            fake_part="" if task is None else fake_part_of(task.method),
        )


def encode_settings(config: ForgeConfig, footage: Footage) -> EncodeSettings:
    """The encoder for a twin and all forgeries of one source; depends on the picture's size alone."""
    height, width = footage.frames[0].shape[:2]
    kbps = config.bits_per_pixel * width * height * config.fps / 1000
    return EncodeSettings(
        fps=config.fps,
        video_kbps=round(min(max(kbps, MIN_VIDEO_KBPS), MAX_VIDEO_KBPS)),
        gop_frames=config.gop_frames,
        preset=config.preset,
        audio_kbps=config.audio_kbps,
    )


def planned_bytes(settings: EncodeSettings, num_frames: int, fps: float) -> int:
    """Size that a twin and its forgeries are all filled up to."""
    seconds = num_frames / fps
    video = settings.video_kbps * (seconds + BUFFER_S)
    sound = settings.audio_kbps * AUDIO_HEADROOM * (seconds + 0.1)
    return int((video + sound) * 125) + CONTAINER_BYTES


def _stem(job: Job, files: tuple[SourceFile, ...]) -> str:
    """Beginning of the names of a job's files: the source's number, and its name with odd characters replaced."""
    characters = [c if c.isalnum() or c in "-_" else "_" for c in files[job.source].path.stem]
    return f"{job.source:05d}-{''.join(characters)[:60]}"


def _signature(job: Job, files: tuple[SourceFile, ...], config: ForgeConfig) -> str:
    """SHA-256 of all that this job's files depend on: settings, plan, contents of source and donors, persons."""
    donors = sorted({task.donor for task in job.tasks if task.donor is not None})
    parts = {
        "version": FORGE_VERSION,
        "config": config.model_dump(mode="json"),
        "job": asdict(job),
        "source": files[job.source].sha256,
        "donors": [files[number].sha256 for number in donors],
        "persons": [files[number].person for number in (job.source, *donors)],
        "ids": [files[number].ids for number in (job.source, *donors)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_result(record: Path, signature: str, out_dir: Path) -> JobResult | None:
    """What an earlier run left of this job; None where it is another job's, or a file is missing or cut off."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if content.pop("signature", None) != signature:
        return None
    records = tuple(ForgeRecord(**{**entry, "groups": tuple(entry["groups"])}) for entry in content["made"])
    for entry in records:
        file = out_dir / entry.path
        if not file.is_file() or file.stat().st_size != entry.size_bytes:
            return None
    skipped = tuple((method, reason) for method, reason in content["skipped"])
    return JobResult(content["source"], records, skipped, content["footage_s"], kept=True)
