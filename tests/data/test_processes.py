"""Jobs in several processes: all results, early ends, and workers that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import pytest

from dfkit.data.processes import THREAD_VARIABLES, WorkerDiedError, map_processes


def square(number: int) -> int:
    return number * number


def die_on_two(number: int) -> int:
    if number == 2:
        # A crash of native code, or the kernel when memory runs out, ends a process like this.
        os.kill(os.getpid(), signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    return number


def refuse(number: int) -> int:
    raise ValueError(f"number {number}")


def thread_limits(_: int) -> list[str | None]:
    return [os.environ.get(name) for name in THREAD_VARIABLES]


def test_every_job_gets_its_place_and_result() -> None:
    assert sorted(map_processes(square, [3, 4, 5, 6], 2)) == [(0, 9), (1, 16), (2, 25), (3, 36)]
    assert list(map_processes(square, [], 2)) == []
    assert not multiprocessing.active_children()


def test_a_dead_worker_is_named_with_the_jobs_in_progress() -> None:
    with pytest.raises(WorkerDiedError) as caught:
        list(map_processes(die_on_two, [0, 1, 2], 1))
    assert caught.value.in_progress == (2,)
    assert not multiprocessing.active_children()


def test_an_error_of_the_function_comes_through() -> None:
    with pytest.raises(ValueError, match=r"number [78]"):
        list(map_processes(refuse, [7, 8], 2))
    assert not multiprocessing.active_children()


def test_who_stops_early_leaves_no_process() -> None:
    results = map_processes(square, list(range(20)), 2)
    next(results)
    results.close()
    assert not multiprocessing.active_children()


def test_workers_have_one_thread_each() -> None:
    assert list(map_processes(thread_limits, [0], 1)) == [(0, ["1"] * len(THREAD_VARIABLES))]
