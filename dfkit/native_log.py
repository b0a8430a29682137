"""What native libraries write to file descriptor 2, past Python's own stderr."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Said by every healthy start: which delegate runs (the one that is wanted), and glog's own preamble.
CHATTER = re.compile(
    rb"INFO: (Created TensorFlow Lite XNNPACK delegate|Initialized TensorFlow Lite runtime)"
    rb"|WARNING: All log messages before absl|I\d{4} \d\d:|W\d{4} .*pytree"
)
_LOCK = threading.RLock()


@contextmanager
def native_log(*, everything: bool = False) -> Iterator[Callable[[], str]]:
    """Keeps known chatter off the terminal; whatever else is said within is passed on afterwards.

    Args:
        everything: Pass nothing on, for a converter that reports its progress there. An error is still an exception.
    Yields:
        A function that gives what was said so far.
    """
    with _LOCK:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with tempfile.TemporaryFile() as said:
                os.dup2(said.fileno(), 2)

                def so_far() -> str:
                    said.seek(0)
                    return said.read().decode(errors="replace")

                try:
                    yield so_far
                finally:
                    sys.stderr.flush()
                    os.dup2(kept, 2)
                    said.seek(0)
                    lines = [] if everything else [line for line in said if not CHATTER.match(line)]
                    os.write(2, b"".join(lines))
        finally:
            os.close(kept)
