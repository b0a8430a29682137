"""A folder for a report that takes nothing's place."""

from __future__ import annotations

from pathlib import Path


def free_folder(folder: Path) -> Path:
    """Makes a folder that holds nothing yet.

    Args:
        folder: Wanted; a number is added to its name where it holds something.
    Returns:
        The folder that was made, or is there and empty.
    """
    target, number = folder, 1
    while target.exists() and (not target.is_dir() or any(target.iterdir())):
        number += 1
        target = folder.with_name(f"{folder.name}-{number}")
    target.mkdir(parents=True, exist_ok=True)
    return target
