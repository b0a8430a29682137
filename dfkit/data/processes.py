"""Runs a function over jobs in several processes of this machine, or on a Ray cluster.

Imports nothing heavy: a new process loads this module first, so that its thread limits are set before numpy reads them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

from dfkit.errors import MissingExtraError

Job = TypeVar("Job")
Result = TypeVar("Result")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RAY_RETRIES = 3
"""How often Ray runs a job anew whose worker or node died."""


class WorkerDiedError(Exception):
    """A worker process ended without an answer: a crash, or it was killed for its memory."""

    def __init__(self, in_progress: Sequence[int]) -> None:
        """Names the jobs that were being worked on, one of which ended the worker, by their place."""
        super().__init__(f"a worker process died; jobs in progress: {list(in_progress)}")
        self.in_progress = tuple(in_progress)


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


def map_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int
) -> Iterator[tuple[int, Result]]:
    """Runs a function over jobs in processes of this machine.

    A caller that stops early (Ctrl-C, an error) ends the workers at once.

    Args:
        function: Importable by name, as are its jobs' types: each process is started anew.
        jobs: In the order in which they are begun.
        num_workers: Processes, each with one thread.
    Returns:
        Place of each job and its result, as they become ready.
    Raises:
        WorkerDiedError: A worker died; results yielded before are good.
    """
    # spawn: forked children of a process with threads (OpenCV, FFmpeg, torch) may hang.
    pool = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=start_worker)
    in_progress: dict[Future[Result], int] = {}
    waiting = list(enumerate(jobs))[::-1]
    try:
        while waiting or in_progress:
            # No more in progress than workers: if one dies, few jobs are suspects.
            while waiting and len(in_progress) < num_workers:
                place, job = waiting[-1]
                in_progress[pool.submit(function, job)] = place
                waiting.pop()
            ready, _ = wait(in_progress, return_when=FIRST_COMPLETED)
            for future in ready:
                result = future.result()
                yield in_progress.pop(future), result
        pool.shutdown()
    except BrokenProcessPool as error:
        raise WorkerDiedError(sorted(in_progress.values())) from error
    finally:
        _end_processes(pool)


def _end_processes(pool: ProcessPoolExecutor) -> None:
    """Ends a pool's processes at once, whatever they are doing; nothing is left to do for a pool that was shut down."""
    processes, manager = list((pool._processes or {}).values()), pool._executor_manager_thread
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
    if manager is not None:
        # Of a pool that broke the processes are already in its hands: it joins them.
        manager.join()  # type: ignore[attr-defined]  # typeshed gives it the type of another attribute


def map_ray(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int,
    *,
    on_worker_death: Callable[[Job], Result],
) -> Iterator[tuple[int, Result]]:
    """Runs a function over jobs on the Ray cluster that `RAY_ADDRESS` names, or one started here.

    Files that jobs name have to be the same on all nodes (a shared file system). A killed worker or node: its job is
    run again elsewhere, so a job has to bear being repeated.

    Args:
        function: What a worker runs.
        jobs: Any number.
        num_workers: CPUs of a cluster that is started here; one that is there already has its own.
        on_worker_death: Gives the result of a job whose worker died `RAY_RETRIES` + 1 times, or raises.
    Returns:
        Place of each job and its result, as they become ready.
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
    remote = ray.remote(num_cpus=1, max_retries=RAY_RETRIES, retry_exceptions=False)(function)
    in_progress = {remote.remote(job): place for place, job in enumerate(jobs)}
    try:
        while in_progress:
            (ready, *_), _ = ray.wait(list(in_progress), num_returns=1)
            place = in_progress.pop(ready)
            try:
                result: Result = ray.get(ready)
            except ray.exceptions.WorkerCrashedError:
                result = on_worker_death(jobs[place])
            except ray.exceptions.RayTaskError as error:
                # The error as it was on the worker: a full disk has a message of its own.
                raise error.cause from error
            yield place, result
    finally:
        for reference in in_progress:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()
