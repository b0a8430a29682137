"""Files inside installed packages that hold weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def packaged_file(package: str, *inside: str) -> Path | None:
    """A file inside an installed package, which is not imported; None where either is missing.

    Args:
        package: Name under which it is imported.
        inside: Folders below it, and the file's name.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (path := Path(folder, *inside)).is_file():
            return path
    return None
