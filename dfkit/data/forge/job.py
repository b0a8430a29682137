"""The work of one process: one source, its twin and its forgeries, written and recorded."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2

from dfkit.data.forge.config import TWIN, ForgeConfig
from dfkit.data.forge.encode import EncodeSettings, write_video
from dfkit.data.forge.footage import Footage, load_footage
from dfkit.data.forge.manipulate import Forgery, NotApplicableError, manipulate
from dfkit.data.forge.plan import Job, Task
from dfkit.data.forge.sound import level_to
from dfkit.errors import MediaError
from dfkit.media.faces import FaceModels

# Written into each record; raise it when the same settings give other files.
FORGE_VERSION = 1
# A constant rate is constant over this buffer: the file may exceed rate times duration by it.
BUFFER_S = 0.5
CONTAINER_BYTES = 12_000
AUDIO_HEADROOM = 1.12
MIN_VIDEO_KBPS, MAX_VIDEO_KBPS = 450, 6000


@dataclass(frozen=True)
class SourceFile:
    """A real video and whose it is."""

    path: Path
    group: str
    person: str
    """Ids that tell persons and sounds apart when edges between splits are looked for."""
    sha256: str


@dataclass(frozen=True)
class Made:
    """One written file and all that is known of how it came about."""

    path: str
    """Relative to the output folder, with forward slashes."""
    label: str
    group: str
    """The cell."""
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


@dataclass(frozen=True)
class JobResult:
    """What came of one source."""

    source: str
    made: tuple[Made, ...] = ()
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
    known = _read_record(record, signature, out_dir)
    if known is not None:
        return known
    record.unlink(missing_ok=True)
    result = _make_all(job, files, config, out_dir)
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_name(f".{record.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps({"signature": signature, **asdict(result)}, indent=1), encoding="utf-8")
    partial.replace(record)
    return result


def _make_all(job: Job, files: tuple[SourceFile, ...], config: ForgeConfig, out_dir: Path) -> JobResult:
    file = files[job.source]
    try:
        footage = _load(file.path, config)
    except MediaError as error:
        return JobResult(str(file.path), skipped=(("", f"{error.status}: {error.found}"),))
    writer = _Writer(job, files, config, out_dir, footage)
    skipped = [(method, "its cell has no other person") for method in job.without_donor]
    made = [writer.write(None, Forgery(footage.frames, footage.waveform, 0, len(footage.frames)))]
    for task in job.tasks:
        try:
            donor = None if task.donor is None else _load(files[task.donor].path, config)
            forgery = manipulate(task, footage, donor, config)
        except MediaError as error:
            skipped.append((task.method, f"its donor cannot be used: {error.found}"))
        except NotApplicableError as error:
            skipped.append((task.method, str(error)))
        else:
            made.append(writer.write(task, forgery))
    written_s = len(made) * len(footage.frames) / config.fps
    return JobResult(str(file.path), tuple(made), tuple(skipped), written_s)


@lru_cache(maxsize=1)
def _models() -> FaceModels:
    return FaceModels()


@lru_cache(maxsize=3)
def _load(path: Path, config: ForgeConfig) -> Footage:
    # A cell's few videos lend to each other: a source is soon a donor.
    return load_footage(path, config, _models())


@dataclass(frozen=True)
class _Writer:
    job: Job
    files: tuple[SourceFile, ...]
    config: ForgeConfig
    out_dir: Path
    footage: Footage

    def write(self, task: Task | None, forgery: Forgery) -> Made:
        """Twin and forgery go the same way."""
        method = TWIN if task is None else task.method
        path = self.out_dir / "videos" / f"{_stem(self.job, self.files)}-{method}.mp4"
        settings = encode_settings(self.config, self.footage)
        size_bytes = planned_bytes(settings, len(forgery.frames), self.config.fps)
        written = write_video(
            path,
            forgery.frames,
            level_to(forgery.waveform, self.config.loudness_dbfs),
            sample_rate=self.config.sample_rate,
            settings=settings,
            size_bytes=size_bytes,
        )
        made = self._describe(task, forgery)
        return replace(made, path=f"videos/{path.name}", bytes_before_filling=written, size_bytes=size_bytes)

    def _describe(self, task: Task | None, forgery: Forgery) -> Made:
        own = self.files[self.job.source]
        donor = None if task is None or task.donor is None else self.files[task.donor]
        partly = task is not None and forgery.end_frame - forgery.start_frame < len(forgery.frames)
        fps = self.config.fps
        face_of = donor.person if donor and task and task.method in ("face_swap", "lip_swap") else own.person
        return Made(
            path="",
            label="real" if task is None else "fake",
            group=self.job.cell,
            method="" if task is None else task.method,
            fake_start_s=round(forgery.start_frame / fps, 4) if partly else None,
            fake_end_s=round(forgery.end_frame / fps, 4) if partly else None,
            start_frame=0 if task is None else forgery.start_frame,
            end_frame=0 if task is None else forgery.end_frame,
            num_frames=len(forgery.frames),
            source=str(own.path),
            donor=None if donor is None else str(donor.path),
            person=own.person,
            face_of=face_of,
            sound=donor.person if donor and task and task.method == "audio_swap" else own.person,
            parameters=forgery.parameters,
            seed=0 if task is None else task.seed,
            bytes_before_filling=0,
            size_bytes=0,
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
    name = files[job.source].path.stem
    return f"{job.source:05d}-{''.join(c if c.isalnum() or c in '-_' else '_' for c in name)[:60]}"


def _signature(job: Job, files: tuple[SourceFile, ...], config: ForgeConfig) -> str:
    """Changes with everything that changes the files of this job."""
    donors = sorted({task.donor for task in job.tasks if task.donor is not None})
    parts = {
        "version": FORGE_VERSION,
        "config": config.model_dump(mode="json"),
        "job": asdict(job),
        "source": files[job.source].sha256,
        "donors": [files[number].sha256 for number in donors],
        "persons": [files[number].person for number in (job.source, *donors)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_record(record: Path, signature: str, out_dir: Path) -> JobResult | None:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if content.pop("signature", None) != signature:
        return None
    made = tuple(Made(**entry) for entry in content["made"])
    for entry in made:
        file = out_dir / entry.path
        if not file.is_file() or file.stat().st_size != entry.size_bytes:
            return None
    skipped = tuple((method, reason) for method, reason in content["skipped"])
    return JobResult(content["source"], made, skipped, content["footage_s"], kept=True)
