"""Duration of a video from its header alone, for checks over whole label files."""

from __future__ import annotations

from pathlib import Path

MICROSECONDS = 1_000_000


def container_duration_s(path: Path) -> float | None:
    """Duration that the container states, in seconds; None where it states none or cannot be opened."""
    import av

    try:
        with av.open(str(path)) as container:
            return None if container.duration is None else container.duration / MICROSECONDS
    except (av.FFmpegError, OSError):
        return None
