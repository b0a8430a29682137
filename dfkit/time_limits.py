"""How long one media file may take before it is given up: decoders hang on damaged files, and others wait behind."""

from __future__ import annotations

from pathlib import Path

BASE_LIMIT_S = 120.0
"""For any file, however small."""
LIMIT_S_PER_MB = 60.0
"""A MB is 80 s of a talking head at 100 kbit/s and 2 s of a phone's 1080p: 0.75 of real time is the slowest allowed."""
MAX_LIMIT_S = 6 * 3600.0
"""However large the file is."""


def time_limit_s(path: Path, named_s: float | None = None) -> float | None:
    """Seconds after which work on a file is given up.

    Args:
        path: The file; one that cannot be looked at has the limit of an empty one.
        named_s: What the user asked for instead; 0 is no limit.
    Returns:
        120 s and 60 s for each MB, at most six hours; None for no limit.
    """
    if named_s is not None:
        return named_s or None
    try:
        size_bytes = path.stat().st_size
    except (OSError, ValueError):
        size_bytes = 0
    return min(BASE_LIMIT_S + LIMIT_S_PER_MB * size_bytes / 1e6, MAX_LIMIT_S)


def given_up(limit_s: float | None) -> str:
    """The reason why a file has no result, with what to do about it."""
    return (
        f"given up after {limit_s or 0:.0f} s: the decoder hangs or is very slow on this file. "
        "Fix: convert it (ffmpeg -i INPUT -c:v libx264 -c:a aac OUTPUT.mp4), or give it more time with --timeout-s"
    )
