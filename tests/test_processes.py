"""Jobs in several processes: all results, early ends, and workers that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading

import pytest

from dfkit.errors import BundleError, MediaError
from dfkit.processes import (
    THREAD_VARIABLES,
    Outcome,
    WorkerDiedError,
    WorkerStartError,
    map_outcomes,
    map_processes,
)


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


def hang_on_two(number: int) -> int:
    if number == 2:
        threading.Event().wait()
    return number


def refuse_with_status(_: int) -> int:
    raise MediaError("a.mp4: no face", status="no_face", fix="another file")


def load_slowly() -> None:
    """Longer than a job of the test below may take."""
    threading.Event().wait(1.5)


def fail_to_load() -> None:
    raise BundleError("no bundle at x", fix="name one")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)


def test_a_job_that_hangs_is_given_up_and_its_worker_replaced() -> None:
    outcomes = list(map_outcomes(hang_on_two, [2, 3, 4], 1, limit_s=lambda _: 1.0))
    assert outcomes == [Outcome(0, None, "timed_out"), Outcome(1, 3), Outcome(2, 4)]
    assert not multiprocessing.active_children()


def test_a_job_that_ends_its_worker_costs_itself_alone() -> None:
    outcomes = sorted(map_outcomes(die_on_two, [0, 1, 2, 3], 2), key=lambda each: each.place)
    assert outcomes == [Outcome(0, 0), Outcome(1, 1), Outcome(2, None, "died"), Outcome(3, 3)]
    assert not multiprocessing.active_children()


def test_loading_does_not_count_to_a_jobs_time() -> None:
    outcomes = list(map_outcomes(square, [3], 1, limit_s=lambda _: 1.0, warm_up=load_slowly))
    assert outcomes == [Outcome(0, 9)]


def test_a_worker_that_cannot_begin_ends_all() -> None:
    with pytest.raises(BundleError, match="no bundle at x") as caught:
        list(map_outcomes(square, [3, 4], 2, warm_up=fail_to_load))
    assert caught.value.fix == "name one"
    with pytest.raises(WorkerStartError, match=r"before it had begun(.|\n)*Fix: .*fewer --workers"):
        list(map_outcomes(square, [3], 1, warm_up=crash))


def test_an_error_keeps_its_type_and_fields_on_its_way() -> None:
    with pytest.raises(MediaError, match="no face") as caught:
        list(map_processes(refuse_with_status, [1], 1))
    assert (caught.value.status, caught.value.fix) == ("no_face", "another file")
    assert "refuse_with_status" in caught.value.__notes__[0], "the worker's traceback"
