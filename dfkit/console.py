"""How the command line talks: results on stdout, progress on stderr, one line per error, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dfkit.errors import DISK_FULL_ERRNOS, DfkitError
from dfkit.extras import missing_extra

EXIT_INTERRUPTED = 130


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


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN is an error there, not a number."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str))


def print_lines(lines: Sequence[str]) -> None:
    """Lines on stdout."""
    for line in lines:
        print(line)


def note(text: str) -> None:
    """A line on stderr: what is being done, never the result."""
    print(text, file=sys.stderr, flush=True)


def guarded(action: Callable[[], int | None]) -> int:
    """Runs a command and turns what a user can act on into a message and an exit code.

    Returns:
        0 done, 1 a gate or parity failed, 2 the input or call cannot be used, 3 not judged, 130 interrupted.
    """
    try:
        return action() or 0
    except DfkitError as error:
        print(f"dfkit: {error}", file=sys.stderr)
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
            raise
        print(
            f"dfkit: no space left while writing {error.filename or 'a file'}; finished parts are kept\n"
            "  Fix: free space, or choose another --workspace, and run the same command again",
            file=sys.stderr,
        )
        return 2
