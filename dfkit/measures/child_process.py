"""Measures in a process of its own, whose last line of output is a JSON object."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from dfkit.errors import DfkitError


def run_for_json(
    command: Sequence[str], *, name: str, no_answer: str, timeout_s: float, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs a command and reads the JSON object in the last line of its output.

    Args:
        command: Program and arguments.
        name: Of the process, in errors.
        no_answer: What a process without a JSON object gave, in errors, such as `no measurement`.
        timeout_s: Seconds after which it is ended.
        environment: Its variables; those of this process when left out.
    Returns:
        The JSON object.
    Raises:
        DfkitError: It failed (with the last line of its errors), crashed, took too long, or printed no JSON.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True, env=environment)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        crash = crash_name(error.returncode)
        if crash is not None:
            raise DfkitError(f"{name} crashed: {crash}") from error
        last_line = (error.stderr or "").strip().splitlines()[-1:]
        raise DfkitError(f"{name} failed: {' '.join(last_line) or error.returncode}") from error
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError) as error:
        raise DfkitError(f"{name} gave {no_answer}: {error}") from error


def crash_name(exit_code: int) -> str | None:
    """What ended a process that did not end by itself, such as `SIGSEGV` or `0xC0000005`; None for any other code."""
    if exit_code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return known.get(-exit_code, f"signal {-exit_code}")
    # Windows gives the exception's number, far above any code of a program's own.
    return f"0x{exit_code:08X}" if exit_code > 0xFFFF else None
