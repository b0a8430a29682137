"""Sends a signal to a running command at a place in what it says."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable


def signal_when(process: subprocess.Popen[str], number: int, reached: Callable[[str], bool]) -> str:
    """Reads what a process says on its error stream, and sends it a signal as soon as the place is reached.

    Args:
        process: Started with its error stream as a text pipe.
        number: The signal.
        reached: Whether the last line of all that was said so far, which it is given, is the place.
    Returns:
        What was said until then, or all where the place never came.
    """
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if reached(said):
            process.send_signal(number)
            break
    return said


def last_line(said: str) -> str:
    """The line that was said last."""
    return said.splitlines()[-1]


def hear_ctrl_c() -> None:
    """Run in a new process before its program: it hears Ctrl-C as one started from a terminal does.

    A process started in the background ignores SIGINT, and so do the ones that it starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
