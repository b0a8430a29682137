"""Opens graphs and runs each once, for `first_open`: `python -m dfkit.runtime.open_graphs FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dfkit.errors import BundleError
from dfkit.runtime.backends import Graphs, load_graphs
from dfkit.runtime.first_open import read_request
from dfkit.runtime.manifest import Backend


def run_once(graphs: Graphs, backend: Backend) -> None:
    """Runs `encode` and `score` on zeros."""
    if backend.encode is not None:
        graphs.encode({entry.name: np.zeros(entry.shape, np.uint8) for entry in backend.encode.inputs})
    graphs.score({entry.name: np.zeros(entry.shape, np.float32) for entry in backend.score.inputs})


def answer(folder: Path, load: Callable[[str, Backend, Mapping[str, bytes], str], Graphs]) -> None:
    """Prints one line of JSON: nothing in it, or what was found and how to repair it.

    Args:
        folder: From `open_in_child`.
        load: Takes the backend's name and entry, content by file name, and where it is from.
    """
    name, backend, content, where = read_request(folder)
    try:
        run_once(load(name, backend, content, where), backend)
    except BundleError as error:
        print(json.dumps({"found": error.found, "fix": error.fix}))
        return
    print(json.dumps({}))


def _load(name: str, backend: Backend, content: Mapping[str, bytes], where: str) -> Graphs:
    return load_graphs(name, backend, content, num_threads=1, where=where)


if __name__ == "__main__":
    answer(Path(sys.argv[1]), _load)
