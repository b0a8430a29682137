"""SHA-256 of files, in blocks: memory does not depend on their size."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def duplicates(paths: Iterable[Path]) -> list[list[Path]]:
    """Files of equal content, found cheaply: only files of equal size are read.

    Args:
        paths: Existing files.
    Returns:
        Lists of two or more paths with the same content, in the order given.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    by_content: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for size, same_size in by_size.items():
        # Empty files are all equal; they are unreadable, not duplicates.
        if size and len(same_size) > 1:
            for path in same_size:
                by_content[size, sha256_file(path)].append(path)
    return [same for same in by_content.values() if len(same) > 1]
