"""Failures on purpose, one for each seed: what the fuzzer has to see. `python -m tools.fuzz --case planted:1`."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from dfkit.errors import ConfigError

if TYPE_CHECKING:
    from tools.fuzz.cases import Workplace

MANY_BYTES = 3_000_000_000


def _none(place: Workplace) -> str:
    return f"nothing planted in {place.folder.name}"


def _crash(place: Workplace) -> str:
    ctypes.string_at(0)
    return "not reached"


def _hang(place: Workplace) -> str:
    time.sleep(600)
    return "not reached"


def _memory(place: Workplace) -> str:
    np.ones(MANY_BYTES, np.uint8).sum()
    return "too much memory"


def _short_memory(place: Workplace) -> str:
    """More than the address space: numpy is refused at once."""
    np.ones(10 * MANY_BYTES, np.uint8)
    return "not reached"


def _exception(place: Workplace) -> str:
    raise ZeroDivisionError("planted")


def _no_fix(place: Workplace) -> str:
    raise ConfigError("planted")


def _raw_text(place: Workplace) -> str:
    os.write(2, b"[h264 @ 0x1] error while decoding MB 3 4\n")
    return "raw text"


def _breach(place: Workplace) -> str:
    place.faults.append("planted breach of the contract")
    return "breach"


PLANTED = (_none, _crash, _hang, _memory, _short_memory, _exception, _no_fix, _raw_text, _breach)


def run_planted(place: Workplace, seed: int) -> str:
    """Plants the failure of a seed."""
    return PLANTED[seed % len(PLANTED)](place)
