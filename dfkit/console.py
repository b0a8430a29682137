"""How the command line talks: results on stdout, progress on stderr, one line per error, exit codes."""

from __future__ import annotations

import json
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from dfkit.errors import DISK_FULL_ERRNOS, DfkitError
from dfkit.extras import missing_extra
from dfkit.files import explain_os_error

EXIT_INTERRUPTED = 130
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but line ends and tabs."""


class Result(Protocol):
    """What a library function returns to a command."""

    def summary(self) -> list[str]:
        """Lines for people."""

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""


def show(result: Result, *, as_json: bool) -> None:
    """Prints a result: its lines, or one JSON document."""
    if as_json:
        print_json(result.to_json())
    else:
        print_lines(result.summary())


def json_text(value: Any, *, indent: int | None = None, encoding: str = "utf-8") -> str:
    """A JSON document; where an encoding cannot hold it, such as names of files that are not UTF-8, it is escaped.

    Raises:
        ValueError: NaN or infinity.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False, default=str)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        # Escapes that JSON knows; those of a stream's error handler (\xe9) are none.
        return json.dumps(value, indent=indent, allow_nan=False, default=str)
    return text


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN is an error there, not a number."""
    print(json_text(value, indent=2, encoding=_stdout_encoding()))


def _stdout_encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


class PlainLines:
    """Results on stdout as lines, as they come."""

    def __enter__(self) -> PlainLines:
        return self

    def add(self, result: Result) -> None:
        """Prints a result's lines at once."""
        print_lines(result.summary())
        sys.stdout.flush()

    def __exit__(self, *_: object) -> None:
        """Nothing is left to write."""


class JsonArray:
    """Results on stdout as one JSON array, element by element; whole however the `with` block ends, Ctrl-C included."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> JsonArray:
        _write("[")
        return self

    def add(self, result: Result) -> None:
        """Writes a result at once."""
        text = textwrap.indent(json_text(result.to_json(), indent=2, encoding=_stdout_encoding()), "  ")
        self._count += 1
        _write((",\n" if self._count > 1 else "\n") + text)

    def __exit__(self, *_: object) -> None:
        _write("\n]\n" if self._count else "]\n")


def _write(text: str) -> None:
    """Writes to stdout; a Ctrl-C meanwhile is raised behind it, so that no element is cut short."""
    with uninterrupted():
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C within comes behind the block; a second one at once, should the block never end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    before = signal.getsignal(signal.SIGINT)
    came = False

    def remember(*_: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def print_lines(lines: Sequence[str]) -> None:
    """Lines on stdout."""
    for line in lines:
        print(line)


def note(text: str) -> None:
    """A line on stderr: what is being done, never the result."""
    print(visible(text), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """A text without control characters, which a name in somebody's file may hold: they would move the terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def guarded(action: Callable[[], int | None]) -> int:
    """Runs a command and turns what a user can act on into a message and an exit code.

    Returns:
        0 done, 1 a gate or parity failed, 2 the input or call cannot be used, 3 not judged, 130 interrupted.
    """
    try:
        return action() or 0
    except DfkitError as error:
        print(f"dfkit: {visible(str(error))}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        # Commands ask for their extra first; options such as --plot or --checkpoint need one of their own.
        missing = missing_extra(error)
        if missing is None:
            raise
        print(f"dfkit: {missing}", file=sys.stderr)
        return missing.exit_code
    except KeyboardInterrupt:
        print("dfkit: interrupted; finished parts are kept, nothing is half-written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            explained = explain_os_error(error)
            if explained is None:
                raise
            print(f"dfkit: {explained}", file=sys.stderr)
            return explained.exit_code
        print(
            f"dfkit: no space left while writing {error.filename or 'a file'}; finished parts are kept\n"
            "  Fix: free space, or choose another --workspace, and run the same command again",
            file=sys.stderr,
        )
        return 2
