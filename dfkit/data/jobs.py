"""Preparing one video: a pure function of a job, the same on this machine and on a cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfkit.clip import DEFAULT_FACES, UNIFORM50, ClipSpec, FaceVariant
from dfkit.data.catalog import ClipRow, VideoRow, spec_hash
from dfkit.data.equalised import equalised_facts, equalised_file, kept_path
from dfkit.data.hashing import sha256_file, sha256_json
from dfkit.data.labels import Source
from dfkit.data.samples import FIELDS, PictureCache, VideoLabels, encode_clip, encode_uniform
from dfkit.data.shards import ChunkWriter
from dfkit.errors import DISK_FULL_ERRNOS, DfkitError, MediaError
from dfkit.media.equalise_spec import EqualiseSpec
from dfkit.named_inputs import video_fault

if TYPE_CHECKING:
    from dfkit.media.faces import FaceModels
    from dfkit.media.stream import ClipReader
    from dfkit.media.survey import Survey

logger = logging.getLogger(__name__)

PIPELINE_VERSION = 2
"""Raised when the same file, labels and spec give other samples than before."""


@dataclass(frozen=True)
class VideoJob:
    """Everything that preparing one video depends on."""

    source: Source
    spec: ClipSpec
    out_dir: Path
    faces: FaceVariant | None = DEFAULT_FACES
    """Face models; None where no faces are looked for."""
    previous: VideoRow | None = None
    """Row of an earlier run, still good if file, labels and spec are the same."""
    num_threads: int = 1
    """Cores that it may use; changes nothing but the time."""
    equalise: EqualiseSpec | None = None
    """What the video is made alike in before; None prepares it as it is."""
    keep: bool = False
    """Whether the equalised video stays below `out_dir`."""

    def kept_path(self, sha256: str) -> Path | None:
        """Where the equalised video goes; None where it is not kept."""
        if self.equalise is None or not self.keep:
            return None
        return kept_path(self.out_dir, self.source.path, sha256, self.equalise)


def video_key(
    source: Source, sha256: str, spec: ClipSpec, faces: FaceVariant | None, equalise: EqualiseSpec | None = None
) -> str:
    """SHA-256 over all that a video's stored samples depend on."""
    # As keys were when there was one variant: what was prepared then is not prepared again.
    faces_part = [] if faces in (None, "float16") else [faces]
    labels = [source.label, source.groups, source.method, source.intervals, source.split, source.origin]
    equalise_part = [] if equalise is None else [equalise.model_dump(mode="json")]
    parts = [str(source.path), sha256, labels, spec_hash(spec), FIELDS, *faces_part, *equalise_part]
    return sha256_json([PIPELINE_VERSION, *parts])


def prepare_video(job: VideoJob) -> VideoRow:
    """Prepares one video into chunk files of its own.

    Args:
        job: The video, its labels, the spec and the folder to write to.
    Returns:
        The row of the catalog; a video that cannot be used has a status and a reason, and no clips.
    Raises:
        OSError: The disk is full; nothing half-written is left.
    """
    import av
    import cv2

    started = time.perf_counter()
    row = _start_row(job)
    kept = job.kept_path(row.sha256)
    if job.previous is not None and job.previous.key == row.key and (kept is None or kept.is_file()):
        return replace(job.previous, mtime_ns=row.mtime_ns, columns=row.columns)
    try:
        row = _store(row, job)
    except MediaError as error:
        row = _unusable_row(row, error)
    except OSError as error:
        # PyAV's errors are OSErrors too; only a full disk ends the run.
        if error.errno in DISK_FULL_ERRNOS and not isinstance(error, av.FFmpegError):
            raise
        row = replace(row, status="unreadable", reason=f"{type(error).__name__}: {error}")
    except (av.FFmpegError, cv2.error, ValueError, ArithmeticError) as error:
        # What decoders throw at broken files.
        logger.warning("%s: %s: %s", job.source.path, type(error).__name__, error)
        row = replace(row, status="unreadable", reason=f"{type(error).__name__}: {error}")
    except DfkitError:
        raise
    except Exception as error:
        # Memory, or a fault of ours: the log keeps its traceback, the other videos go on, the next run tries again.
        logger.exception("%s: unforeseen error", job.source.path)
        row = replace(row, key="", status="unreadable", reason=f"{type(error).__name__}: {error}")
    return replace(row, wall_s=round(time.perf_counter() - started, 3))


def _start_row(job: VideoJob, *, hashed: bool = True) -> VideoRow:
    source = job.source
    try:
        stat = source.path.stat()
        # Reading a pipe or a device waits for ever.
        sha256 = sha256_file(source.path) if hashed and source.path.is_file() else ""
        size_bytes, mtime_ns = stat.st_size, stat.st_mtime_ns
    except OSError as error:
        logger.warning("%s: %s", source.path, error)
        sha256, size_bytes, mtime_ns = "", 0, 0
    return VideoRow(
        key=video_key(source, sha256, job.spec, job.faces, job.equalise),
        path=str(source.path),
        sha256=sha256,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        label=source.label,
        groups=source.groups,
        method=source.method,
        split=source.split,
        intervals=source.intervals,
        status="ok",
        reason=None,
        facts=None,
        origin=source.origin,
        columns=source.columns,
    )


def _store(row: VideoRow, job: VideoJob) -> VideoRow:
    path = job.source.path
    # Asked here, so that a missing or emptied file has one reason, whichever reader would have met it.
    fault = video_fault(path)
    if fault is not None:
        raise MediaError(fault.found, status="unreadable", fix=fault.fix)
    if not path.is_file() or path.stat().st_size == 0:
        raise MediaError(f"{path}: missing or empty", status="unreadable")
    from dfkit.media.survey import survey_file

    if is_npz(path):
        return _store_samples(row, job, None)
    survey = survey_file(path)
    if job.equalise is None:
        return _store_samples(row, job, survey)
    return _store_equalised(row, job, survey, job.equalise)


def _store_equalised(row: VideoRow, job: VideoJob, survey: Survey, spec: EqualiseSpec) -> VideoRow:
    """As `_store`, of the equalised form of the video; how much was read is said of the video itself."""
    from dfkit.media.survey import survey_file

    kept = job.kept_path(row.sha256)
    models = face_models(job.faces or DEFAULT_FACES)
    with equalised_file(survey, spec, folder=job.out_dir, kept=kept, models=models, num_threads=job.num_threads) as (
        path,
        done,
    ):
        row = replace(row, equalised=equalised_facts(done, kept))
        row = _store_samples(row, job, survey_file(path))
    reason = None if row.reason is None else row.reason.removeprefix(f"{path}: ")
    facts = None if row.facts is None else row.facts | {"path": row.path}
    return replace(row, reason=reason, facts=facts, read=done.read.to_json() | {"notes": list(done.read.notes)})


def _store_samples(row: VideoRow, job: VideoJob, survey: Survey | None) -> VideoRow:
    path = job.source.path if survey is None else survey.path
    reader = None if survey is None or job.spec.preset == UNIFORM50.preset else _clip_reader(survey, job)
    cache = PictureCache()
    clips = []
    try:
        row = replace(row, facts=None if survey is None else read_facts(survey))
        with ChunkWriter(job.out_dir, row.key) as writer:
            for sample, clip in _samples(path, job, reader, _labels_of(row), cache):
                writer.add(sample)
                clips.append(clip)
            chunks = writer.finish()
    except MediaError as error:
        return replace(_unusable_row(row, error), read=_read_json(reader))
    psnr_db = round(cache.min_psnr_db, 2)
    return replace(row, clips=tuple(clips), chunks=chunks, min_psnr_db=psnr_db, read=_read_json(reader))


def _clip_reader(survey: Survey, job: VideoJob) -> ClipReader:
    from dfkit.media.stream import ClipReader

    models = face_models(job.faces or DEFAULT_FACES)
    return ClipReader(survey.path, job.spec, models=models, num_threads=job.num_threads, survey=survey)


def _read_json(reader: ClipReader | None) -> dict[str, Any] | None:
    if reader is None or reader.read is None:
        return None
    return reader.read.to_json() | {"notes": list(reader.read.notes)}


def _unusable_row(row: VideoRow, error: MediaError) -> VideoRow:
    """The row of a video that cannot be used; its reason does not repeat the path."""
    return replace(row, status=error.status, reason=error.found.removeprefix(f"{row.path}: "))


def _labels_of(row: VideoRow) -> VideoLabels:
    return VideoLabels(
        video=row.name,
        sha256=row.sha256,
        label=row.label,
        group=row.groups,
        method=row.method,
        split=row.split,
        intervals=row.shown_intervals,
        facts=row.facts,
    )


def is_npz(path: Path) -> bool:
    """Whether a source is an NPZ file of the original teacher and no video."""
    return path.suffix.lower() == ".npz"


def read_facts(survey: Survey) -> dict[str, Any]:
    """VideoFacts as a JSON object.

    Raises:
        MediaError: `unreadable` or `no_audio`.
    """
    from dfkit.media.facts import probe

    facts = asdict(probe(survey.path, survey=survey))
    return {name: str(value) if isinstance(value, Path) else value for name, value in facts.items()}


def _samples(
    path: Path, job: VideoJob, reader: ClipReader | None, labels: VideoLabels, cache: PictureCache
) -> Iterator[tuple[dict[str, bytes], ClipRow]]:
    if reader is None:
        yield _uniform_sample(path, job.spec, labels, cache)
        return
    for clip in reader:
        sample = encode_clip(clip, labels, cache)
        fake_frames = sum(sample["frame_labels"])
        start_s, end_s = round(float(clip.start_s), 6), round(float(clip.end_s), 6)
        yield sample, ClipRow(int(clip.track_id), start_s, end_s, len(clip.times_s), fake_frames, clip.found_by)


@lru_cache(maxsize=1)
def face_models(variant: FaceVariant) -> FaceModels:
    """The face networks of this process: loading them once a video would cost 50 ms each."""
    from dfkit.media.faces import FaceModels

    return FaceModels(variant)


def _uniform_sample(
    path: Path, spec: ClipSpec, labels: VideoLabels, cache: PictureCache
) -> tuple[dict[str, bytes], ClipRow]:
    from dfkit.data.npz import read_npz
    from dfkit.media.uniform50 import view_uniform50

    view = read_npz(path) if is_npz(path) else view_uniform50(path, spec=spec)
    sample = encode_uniform(view.face, view.lip, view.mfcc, view.times_s, labels, cache)
    fake_frames = sum(sample["frame_labels"])
    # An NPZ without timestamps does not tell when its last frame was.
    end_s = float(np.nan_to_num(view.times_s[-1]))
    return sample, ClipRow(0, 0.0, round(end_s, 6), len(view.times_s), fake_frames)


def unreadable_row(job: VideoJob, reason: str) -> VideoRow:
    """The row of a video that could not even be tried to the end; without a key, so that the next run tries.

    It is not read: reading may be what hangs.
    """
    return replace(_start_row(job, hashed=False), key="", status="unreadable", reason=reason)
