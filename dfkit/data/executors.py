"""Mapping `prepare_video` over videos: in this process, in several, or on a Ray cluster.

Each executor yields rows as they become ready, in no fixed order. One that is closed early (Ctrl-C, a full
disk) stops its workers and leaves no process behind.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from dfkit.data.catalog import VideoRow
from dfkit.data.jobs import VideoJob, face_models, prepare_video, unreadable_row
from dfkit.files import TEMPORARY_PREFIX
from dfkit.processes import map_outcomes, map_ray
from dfkit.time_limits import given_up, time_limit_s

logger = logging.getLogger(__name__)

EXECUTORS = ("local", "ray")
CRASHED = "decoding it ended the worker process twice (crash, or killed for its memory)"


def run_here(jobs: Sequence[VideoJob]) -> Iterator[VideoRow]:
    """One after the other in this process; one that hangs is not given up."""
    for job in jobs:
        yield prepare_video(job)


def run_processes(
    jobs: Sequence[VideoJob],
    num_workers: int,
    function: Callable[[VideoJob], VideoRow] = prepare_video,
    *,
    timeout_s: float | None = None,
) -> Iterator[VideoRow]:
    """In `num_workers` processes of this machine.

    A video whose worker died is tried once more, alone, and one that ends a worker again is `unreadable`; so is one
    that is not done when its time is up.

    Args:
        jobs: One per video.
        num_workers: Processes; each loads the face models.
        function: What runs in the worker; tests put in one that crashes or hangs.
        timeout_s: Seconds for a video; None takes `time_limit_s` of its file, 0 is no limit.
    """

    def limit_s(job: VideoJob) -> float | None:
        return time_limit_s(job.source.path, timeout_s)

    faces = jobs[0].faces if jobs else None
    warm_up = None if faces is None else partial(face_models, faces)
    outcomes = map_outcomes(function, jobs, num_workers, limit_s=limit_s, warm_up=warm_up, one_thread=num_workers > 1)
    with closing(outcomes):
        for outcome in outcomes:
            job = jobs[outcome.place]
            if outcome.result is not None:
                yield outcome.result
                continue
            reason = CRASHED if outcome.fault == "died" else given_up(limit_s(job))
            logger.warning("%s: %s", job.source.path, reason)
            if outcome.fault == "died":
                remove_temporary(job)
            yield unreadable_row(job, reason)


def remove_temporary(job: VideoJob) -> None:
    """Removes what a dead worker was writing; nothing else writes while a video is tried again alone."""
    for path in job.out_dir.glob(f"{TEMPORARY_PREFIX}*-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def run_ray(
    jobs: Sequence[VideoJob], num_workers: int, function: Callable[[VideoJob], VideoRow] = prepare_video
) -> Iterator[VideoRow]:
    """On a Ray cluster, see `map_ray`.

    A repeated job finds nothing half-written: chunks are renamed when whole.

    Args:
        jobs: One per video.
        num_workers: CPUs of a cluster that is started here; one that is there already has its own.
        function: What runs in the worker; tests put in one that dies.
    Raises:
        MissingExtraError: Ray is not installed.
    """
    absolute = [replace(job, out_dir=job.out_dir.resolve()) for job in jobs]
    for _, row in map_ray(function, absolute, num_workers, on_worker_death=lambda job: unreadable_row(job, CRASHED)):
        yield row


def run_jobs(
    jobs: Sequence[VideoJob], *, executor: str, num_workers: int, killable: bool = False, timeout_s: float | None = None
) -> Iterator[VideoRow]:
    """Rows of all jobs by the named executor.

    Args:
        jobs: One per video.
        executor: One of `EXECUTORS`.
        num_workers: Processes.
        killable: Whether one worker is a process of its own, too, so that a video that hangs can be given up.
        timeout_s: Seconds for a video, see `run_processes`; asks for a process of its own as well.
    """
    if executor == "ray":
        return run_ray(jobs, num_workers)
    if num_workers == 1 and not killable and timeout_s is None:
        return run_here(jobs)
    return run_processes(jobs, num_workers, timeout_s=timeout_s)
