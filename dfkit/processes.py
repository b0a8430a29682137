"""Runs a function over jobs in processes of this machine that can be killed, or on a Ray cluster.

Imports nothing heavy: a new process loads this module first, so that its thread limits are set before numpy reads them.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, Generic, Literal, TypeVar

from dfkit.errors import DfkitError, MissingExtraError

Job = TypeVar("Job")
Result = TypeVar("Result")
Fault = Literal["died", "timed_out"]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RAY_RETRIES = 3
"""How often Ray runs a job anew whose worker or node died."""
START_LIMIT_S = 600.0
"""Longest time that a worker may take to import and load what it needs; torch from a network drive takes a minute."""


class WorkerDiedError(Exception):
    """A worker process ended without an answer: a crash, or it was killed for its memory."""

    def __init__(self, in_progress: Sequence[int]) -> None:
        """Names the jobs that were being worked on, one of which ended the worker, by their place."""
        super().__init__(f"a worker process died; jobs in progress: {list(in_progress)}")
        self.in_progress = tuple(in_progress)


class WorkerStartError(DfkitError):
    """A worker process did not come as far as its first job."""

    def __init__(self) -> None:
        super().__init__(
            "a worker process ended before it had begun (killed for its memory, or from outside?)",
            fix="run the same command again with fewer --workers: what is finished is kept",
        )


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one job."""

    place: int
    """Of the job, in the order given."""
    result: Result | None
    fault: Fault | None = None
    """Why there is no result: its worker died, or was killed when the job's time was up."""


def start_worker(*, one_thread: bool = True) -> None:
    """Sets up a worker process: its threads, Ctrl-C left to the parent, no life without it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if one_thread:
        for name in THREAD_VARIABLES:
            os.environ[name] = "1"
        import cv2

        cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A worker would wait for ever when its parent is killed; this ends it."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _serve(pipe: Connection, one_thread: bool) -> None:
    """What a worker process does: receives a function, says that it is ready, and answers jobs until told to end."""
    start_worker(one_thread=one_thread)
    try:
        function, warm_up = pipe.recv()
        if warm_up is not None:
            warm_up()
        pipe.send(("ready", None))
        while (message := pipe.recv()) is not None:
            (job,) = message
            pipe.send(("result", function(job)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        pipe.send(("error", _portable(error)))


def _portable(error: Exception) -> Exception:
    """The error itself, or where it cannot be sent to another process its traceback as text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


@contextmanager
def _ctrl_c_kept_from_children() -> Iterator[None]:
    """A process that is started within never sees Ctrl-C, not even while it imports; here it comes behind the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield  # Windows: `start_worker` ignores it
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """One process, the job that it works on, and until when."""

    def __init__(self, function: Callable[[Any], Any], warm_up: Callable[[], object] | None, one_thread: bool) -> None:
        # spawn: forked children of a process with threads (OpenCV, FFmpeg, torch) may hang.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, one_thread))
        with _ctrl_c_kept_from_children():
            self.process.start()
        theirs.close()
        self.place: int | None = None
        self.ready = False
        self.ends_at = time.monotonic() + START_LIMIT_S
        self._send((function, warm_up))

    def give(self, place: int, job: object, limit_s: float | None) -> None:
        """Starts a job; its time runs from now."""
        self.place = place
        self.ends_at = float("inf") if limit_s is None else time.monotonic() + limit_s
        self._send((job,))

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it is dead: its end is noticed where its answer is waited for
            self.pipe.send(message)

    def receive(self) -> tuple[str, Any] | None:
        """The kind of its answer and the answer, `late` where there is none yet; None where it has died."""
        try:
            if not self.pipe.poll():
                return "late", None
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return kind, content

    def end(self) -> None:
        """Ends the process at once, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def map_outcomes(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int,
    *,
    limit_s: Callable[[Job], float | None] | None = None,
    warm_up: Callable[[], object] | None = None,
    one_thread: bool = True,
) -> Generator[Outcome[Result], None, None]:
    """Runs a function over jobs in processes of this machine; a job that crashes or hangs costs its own result alone.

    A worker that died or was killed is replaced; a job whose worker died is tried once more in the end, with no other
    beside it: memory may have been short. A caller that stops early (Ctrl-C, an error) ends the workers at once.

    Args:
        function: Importable by name, as are its jobs' types: each process is started anew.
        jobs: In the order in which they are begun.
        num_workers: Processes, at most; no more are started than there are jobs.
        limit_s: Seconds after which a job is given up, from the moment that a loaded worker has it; None for never.
        warm_up: Called once in each worker before its first job, whose time it does not count to.
        one_thread: Whether OpenCV and the numeric libraries get one thread in each worker.
    Yields:
        What became of each job, as they become ready.
    Raises:
        WorkerStartError: A worker ended before it had a job: whatever ended it would end the next one, too.
        Exception: What the function or the warm-up raised.
    """
    options: Any = {"limit_s": limit_s, "warm_up": warm_up, "one_thread": one_thread}
    died = []
    with closing(_map_once(function, list(enumerate(jobs)), num_workers, **options)) as outcomes:
        for outcome in outcomes:
            if outcome.fault == "died":
                died.append(outcome.place)
            else:
                yield outcome
    for place in died:
        yield from _map_once(function, [(place, jobs[place])], 1, **options)


def _map_once(
    function: Callable[[Job], Result],
    jobs: Sequence[tuple[int, Job]],
    num_workers: int,
    *,
    limit_s: Callable[[Job], float | None] | None = None,
    warm_up: Callable[[], object] | None = None,
    one_thread: bool = True,
) -> Generator[Outcome[Result], None, None]:
    waiting = list(jobs)[::-1]
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.place is not None for worker in workers):
            busy = sum(worker.place is not None for worker in workers)
            while len(workers) < min(num_workers, busy + len(waiting)):
                workers.append(_Worker(function, warm_up, one_thread))
            for worker in _wait_for(workers):
                outcome = _take(worker, workers)
                if outcome is not None:
                    yield outcome
                if worker.ready and worker.place is None and waiting and worker in workers:
                    place, job = waiting.pop()
                    worker.give(place, job, None if limit_s is None else limit_s(job))
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.end()


def _wait_for(workers: Sequence[_Worker]) -> list[_Worker]:
    """Workers that answered, died or ran out of time; waits for the first."""
    waited = {worker.pipe: worker for worker in workers if worker.place is not None or not worker.ready}
    first_end = min(worker.ends_at for worker in waited.values())
    # An hour at most: a system's wait does not take any number.
    timeout_s = min(max(first_end - time.monotonic(), 0.0), 3600.0)
    answered = [waited[pipe] for pipe in connection.wait(list(waited), timeout_s)]  # type: ignore[index]
    now = time.monotonic()
    return answered + [each for each in waited.values() if each not in answered and each.ends_at <= now]


def _take(worker: _Worker, workers: list[_Worker]) -> Outcome[Any] | None:
    """Takes what a worker says; one that died or is late is ended and leaves the list."""
    place = worker.place
    answer = worker.receive()
    if answer is not None and isinstance(answer[1], BaseException):
        raise answer[1]
    if answer is None or answer[0] == "late":
        workers.remove(worker)
        worker.end()
        if place is None:
            raise WorkerStartError
        return Outcome(place, None, "died" if answer is None else "timed_out")
    worker.place = None
    if answer[0] == "ready":
        worker.ready = True
        return None
    assert place is not None, "a worker answers a job"
    return Outcome(place, answer[1])


def map_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int
) -> Iterator[tuple[int, Result]]:
    """`map_outcomes` for jobs none of which may fail: the first dead worker ends all.

    Args:
        function: Importable by name, as are its jobs' types: each process is started anew.
        jobs: In the order in which they are begun.
        num_workers: Processes, each with one thread.
    Yields:
        Place of each job and its result, as they become ready.
    Raises:
        WorkerDiedError: A worker died; results yielded before are good.
    """
    with closing(_map_once(function, list(enumerate(jobs)), num_workers)) as outcomes:
        for outcome in outcomes:
            if outcome.fault is not None:
                raise WorkerDiedError([outcome.place])
            yield outcome.place, outcome.result  # type: ignore[misc]  # without a fault there is a result


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
