"""Runs an iterator in a thread of its own, a few items ahead of who uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
DEPTH = 2
"""Items that wait at most; each may be a picture of 57 MB."""
_POLL_S = 0.1
_PATIENCE_S = 10.0


class _End(Generic[T]):
    """What the thread says last: nothing, or why it ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_ahead(items: Iterable[T], *, depth: int = DEPTH) -> Generator[T, None, None]:
    """Gives the items of an iterable, which is iterated in another thread.

    What is done for an item there and what is done with it here overlap, as far as both leave Python: decoding,
    networks, OpenCV. Closing the generator ends the thread.

    Args:
        items: Iterated once, in that thread alone.
        depth: Items that wait at most.
    Yields:
        The items in order.
    Raises:
        Exception: What the iterable raises, after the items that came before.
    """
    waiting: queue.Queue[T | _End[T]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: T | _End[T]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # handed over to who waits for the items
            put(_End(error))
        else:
            put(_End(None))

    thread = threading.Thread(target=run, name="read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        # A decoder that hangs must not keep Ctrl-C from ending the process, which ends the thread.
        thread.join(_PATIENCE_S)
