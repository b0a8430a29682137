"""Mapping `prepare_video` over videos: in this process, in several, or on a Ray cluster.

Each executor yields rows as they become ready, in no fixed order. One that is closed early (Ctrl-C, a full
disk) stops its workers and leaves no process behind.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dfkit.data.catalog import VideoRow
from dfkit.data.jobs import VideoJob, prepare_video, unreadable_row
from dfkit.data.processes import WorkerDiedError, map_processes, map_ray
from dfkit.files import TEMPORARY_PREFIX

logger = logging.getLogger(__name__)

EXECUTORS = ("local", "ray")
CRASHED = "decoding it ended the worker process twice (crash, or killed for its memory)"


def run_here(jobs: Sequence[VideoJob]) -> Iterator[VideoRow]:
    """One after the other in this process."""
    for job in jobs:
        yield prepare_video(job)


def run_processes(
    jobs: Sequence[VideoJob], num_workers: int, function: Callable[[VideoJob], VideoRow] = prepare_video
) -> Iterator[VideoRow]:
    """In `num_workers` processes of this machine.

    Videos that were in progress when a worker died are tried once more, each alone, and one that ends a worker
    again is `unreadable`.

    Args:
        jobs: One per video.
        num_workers: Processes; each loads the face models.
        function: What runs in the worker; tests put in one that crashes.
    """
    remaining = list(jobs)
    while remaining:
        finished: set[int] = set()
        suspects: tuple[int, ...] = ()
        try:
            for place, row in map_processes(function, remaining, num_workers):
                finished.add(place)
                yield row
        except WorkerDiedError as death:
            suspects = death.in_progress
        for place in suspects:
            yield _run_alone(remaining[place], function)
        done = finished.union(suspects)
        remaining = [job for place, job in enumerate(remaining) if place not in done]


def _run_alone(job: VideoJob, function: Callable[[VideoJob], VideoRow]) -> VideoRow:
    try:
        ((_, row),) = map_processes(function, [job], 1)
    except WorkerDiedError:
        logger.warning("%s: %s", job.source.path, CRASHED)
        remove_temporary(job)
        return unreadable_row(job, CRASHED)
    return row


def remove_temporary(job: VideoJob) -> None:
    """Removes what a dead worker was writing; nothing else writes while suspects run alone."""
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


def run_jobs(jobs: Sequence[VideoJob], *, executor: str, num_workers: int) -> Iterator[VideoRow]:
    """Rows of all jobs by the named executor."""
    if executor == "ray":
        return run_ray(jobs, num_workers)
    if num_workers == 1:
        return run_here(jobs)
    return run_processes(jobs, num_workers)
