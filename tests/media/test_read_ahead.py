"""Items made ahead in another thread are the same items, in order; errors and early ends pass through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from dfkit.errors import MediaError
from dfkit.media.read_ahead import read_ahead


def test_items_come_in_order_from_another_thread() -> None:
    threads = set()

    def items() -> Iterator[int]:
        threads.add(threading.get_ident())
        yield from range(100)

    assert list(read_ahead(items(), depth=3)) == list(range(100))
    assert threads and threading.get_ident() not in threads


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise MediaError("broken", status="unreadable")

    found = []
    with pytest.raises(MediaError, match="broken"):
        for item in read_ahead(items()):
            found.append(item)
    assert found == [1]


def test_closing_ends_the_thread_and_no_more_is_made_than_fits() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    before = threading.active_count()
    with closing(read_ahead(items(), depth=4)) as ahead:
        assert next(ahead) == 0
    assert threading.active_count() == before
    # What was given, what waits, and one in hand.
    assert len(made) <= 1 + 4 + 1
