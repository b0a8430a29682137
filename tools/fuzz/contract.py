"""What every answer has to keep, whatever came in; each breach is one line of text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from dfkit.errors import DfkitError
from dfkit.measures.decision import VerdictName
from dfkit.measures.evidence import MIN_READ_SHARE
from dfkit.native_log import CHATTER
from dfkit.runtime.results import ClipScore, Status, VideoResult

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Characters that move a terminal; line ends and tabs are none."""
MAX_TEXT = 2000
"""Longest reason or note: somebody has to read it."""
SHARE_ROUNDS = 1e-4
"""A share in JSON has four decimals."""


def check_error(error: DfkitError) -> list[str]:
    """An error says what was found and how to repair it."""
    faults = []
    if not error.fix:
        faults.append(f"{type(error).__name__} without a fix: {error.found[:200]}")
    if not error.found.strip():
        faults.append(f"{type(error).__name__} that says nothing")
    return faults


def check_result(result: VideoResult) -> list[str]:
    """A video's result: known words, numbers in their range, thin reading never a plain verdict."""
    data = result.to_json()
    try:
        json.dumps(data, allow_nan=False)
    except ValueError as error:
        return [f"not JSON: {error}"]
    faults = [*_check_words(data), *_check_reading(data), *_check_probabilities(data)]
    if CONTROL.search(data["reason"] or ""):
        faults.append(f"control characters in the reason: {data['reason']!r}")
    faults += [
        f"a text of {len(text)} characters" for text in (data["reason"] or "", *data["notes"]) if len(text) > MAX_TEXT
    ]
    if any(CONTROL.search(note) for note in data["notes"]):
        faults.append("control characters in a note")
    if not "".join(result.summary()).strip():
        faults.append("a result without a summary")
    return faults


def _check_words(data: dict[str, Any]) -> Iterable[str]:
    status, verdict, reason = data["status"], data["verdict"], data["reason"]
    if status not in get_args(Status):
        yield f"unknown status {status}"
    if (status == "ok") != (verdict in get_args(VerdictName)):
        yield f"status {status} with verdict {verdict}"
    if status != "ok" and (not reason or "Fix: " not in reason):
        yield f"status {status} without a reason and its fix: {reason}"
    if (status == "ok") != (data["p_fake"] is not None):
        yield f"status {status} with p_fake {data['p_fake']}"


def _check_reading(data: dict[str, Any]) -> Iterable[str]:
    for name in ("pictures", "sound"):
        part = (data["read"] or {}).get(name)
        if part is None:
            continue
        share = part["read_share"]
        if not 0 <= share <= 1 or not part["read_s"] >= 0 or not 0 <= part["duration_s"] < math.inf:
            yield f"{name} read: {part}"
        if data["status"] == "ok" and share < MIN_READ_SHARE - SHARE_ROUNDS and data["verdict"] != "review":
            yield f"verdict {data['verdict']} although {share} of the {name} was read"
    if data["status"] == "ok" and data["read"] is None:
        yield "a verdict that does not say how much was read"


def _check_probabilities(data: dict[str, Any]) -> Iterable[str]:
    for place, value in _numbers(data):
        if place.endswith("p_fake") and not 0 <= value <= 1:
            yield f"{place} is {value}"
        if place.endswith(("start_s", "end_s", "t_s")) and value < 0:
            yield f"{place} is {value}"


def _numbers(value: Any, place: str = "") -> Iterable[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _numbers(inner, f"{place}.{number}" if not isinstance(inner, (int, float)) else place)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield place, value


def check_clip_scores(scores: Sequence[ClipScore]) -> list[str]:
    """Scores of a stream: probabilities, and times that rise."""
    faults = [f"p_fake {score.p_fake} at {score.start_s} s" for score in scores if not 0 <= score.p_fake <= 1]
    starts = [score.start_index for score in scores]
    if starts != sorted(starts) or any(start < 0 for start in starts):
        faults.append(f"clips out of order: {starts}")
    return faults


def check_stderr(said: bytes, *, names: Sequence[str]) -> list[str]:
    """What a case wrote to file descriptor 2: lines that name the input, and the interpreters' healthy chatter."""
    lines = [line for line in said.splitlines() if line.strip() and not CHATTER.match(line)]
    foreign = [line.decode(errors="replace") for line in lines if not any(n.encode() in line for n in names)]
    return [f"raw text on stderr ({len(foreign)} lines): {foreign[0][:200]}"] if foreign else []
