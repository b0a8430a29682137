"""Mapping `prepare_video` over videos: in this process, in several, or on a Ray cluster.

Each executor yields rows as they become ready, in no fixed order. One that is closed early (Ctrl-C, a full
disk) stops its workers and leaves no process behind.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process

from dfkit.data.catalog import VideoRow
from dfkit.data.jobs import VideoJob, prepare_video, unreadable_row
from dfkit.data.shards import TEMPORARY_PREFIX
from dfkit.errors import MissingExtraError

logger = logging.getLogger(__name__)

EXECUTORS = ("local", "ray")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CRASHED = "decoding it ended the worker process twice (crash, or killed for its memory)"


def start_worker() -> None:
    """Sets up a worker process: one thread, Ctrl-C left to the parent, no life without it."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A pool's workers wait for ever when their parent is killed; this ends them."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def run_here(jobs: Sequence[VideoJob]) -> Iterator[VideoRow]:
    """One after the other in this process."""
    for job in jobs:
        yield prepare_video(job)


def run_processes(
    jobs: Sequence[VideoJob], num_workers: int, function: Callable[[VideoJob], VideoRow] = prepare_video
) -> Iterator[VideoRow]:
    """In `num_workers` processes of this machine.

    A worker that dies takes the pool with it: its videos are tried once more, each alone, and one that ends
    a worker again is `unreadable`.

    Args:
        jobs: One per video.
        num_workers: Processes; each loads the face models.
        function: What runs in the worker; tests put in one that crashes.
    """
    waiting = list(reversed(jobs))
    while waiting:
        pool = _Pool(num_workers, function)
        try:
            yield from pool.run(waiting)
        finally:
            pool.stop()
        for job in pool.suspects:
            yield _run_alone(job, function)


def _run_alone(job: VideoJob, function: Callable[[VideoJob], VideoRow]) -> VideoRow:
    pool = _Pool(1, function)
    try:
        rows = list(pool.run([job]))
    finally:
        pool.stop()
    if rows:
        return rows[0]
    logger.warning("%s: %s", job.source.path, CRASHED)
    remove_temporary(job)
    return unreadable_row(job, CRASHED)


def remove_temporary(job: VideoJob) -> None:
    """Removes what a dead worker was writing; nothing else writes while suspects run alone."""
    for path in job.out_dir.glob(f"{TEMPORARY_PREFIX}*-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


class _Pool:
    """A process pool that knows which jobs were in hand when it broke."""

    def __init__(self, num_workers: int, function: Callable[[VideoJob], VideoRow]) -> None:
        # spawn: forked children of a process with threads (OpenCV, FFmpeg, torch) may hang.
        self._pool = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=start_worker)
        self._num_workers = num_workers
        self._function = function
        self._in_hand: dict[Future[VideoRow], VideoJob] = {}
        self.suspects: list[VideoJob] = []

    def run(self, waiting: list[VideoJob]) -> Iterator[VideoRow]:
        """Takes jobs from the end of `waiting` until it is empty or a worker dies."""
        try:
            while waiting or self._in_hand:
                # No more in hand than workers: if the pool breaks, few videos are suspects.
                while waiting and len(self._in_hand) < self._num_workers:
                    self._in_hand[self._pool.submit(self._function, waiting[-1])] = waiting[-1]
                    waiting.pop()
                done, _ = wait(self._in_hand, return_when=FIRST_COMPLETED)
                for future in done:
                    row = future.result()
                    del self._in_hand[future]
                    yield row
        except BrokenProcessPool:
            self.suspects = list(self._in_hand.values())

    def stop(self) -> None:
        """Ends the workers: at once if they have work left, which nobody waits for then."""
        if not self._in_hand:
            self._pool.shutdown()
            return
        abandon(self._pool)


def abandon(pool: ProcessPoolExecutor) -> None:
    """Ends a pool's processes at once, whatever they are doing."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def run_ray(
    jobs: Sequence[VideoJob], num_workers: int, function: Callable[[VideoJob], VideoRow] = prepare_video
) -> Iterator[VideoRow]:
    """On the Ray cluster that `RAY_ADDRESS` names, or one started here with `num_workers` CPUs.

    The folders of the videos and of the data set have to be the same on all nodes (a shared file system).

    Args:
        jobs: One per video.
        num_workers: CPUs of a cluster that is started here; one that is there already has its own.
        function: What runs in the worker; tests put in one that dies.
    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        ray.init(**({"address": address} if address else {"num_cpus": num_workers}), log_to_driver=False)
    # A killed worker or node: its video is done again elsewhere. Chunks are renamed when whole, so a
    # repetition finds nothing half-written.
    remote = ray.remote(num_cpus=1, max_retries=3, retry_exceptions=False)(function)
    in_hand = {remote.remote(replace(job, out_dir=job.out_dir.resolve())): job for job in jobs}
    try:
        while in_hand:
            (ready, *_), _ = ray.wait(list(in_hand), num_returns=1)
            job = in_hand.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.WorkerCrashedError:
                yield unreadable_row(job, CRASHED)
            except ray.exceptions.RayTaskError as error:
                # The error as it was on the worker: a full disk has a message of its own.
                raise error.cause from error
    finally:
        for reference in in_hand:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def run_jobs(jobs: Sequence[VideoJob], *, executor: str, num_workers: int) -> Iterator[VideoRow]:
    """Rows of all jobs by the named executor."""
    if executor == "ray":
        return run_ray(jobs, num_workers)
    if num_workers == 1:
        return run_here(jobs)
    return run_processes(jobs, num_workers)
