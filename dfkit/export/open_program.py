"""Opens a program that dfkit's runtime does not run, and each of its functions: `python -m dfkit.export.open_program
FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from dfkit.export import coreai, executorch
from dfkit.runtime.backends import Graphs
from dfkit.runtime.manifest import Backend
from dfkit.runtime.open_graphs import answer


def _load(name: str, backend: Backend, content: Mapping[str, bytes], _where: str) -> Graphs:
    if name == "coreai":
        asset: Graphs = coreai.ProgramGraphs(backend, content)  # type: ignore[assignment]
        return asset
    program: Graphs = executorch.ProgramGraphs(backend, content[executorch.PROGRAM_FILE])  # type: ignore[assignment]
    return program


if __name__ == "__main__":
    answer(Path(sys.argv[1]), _load)
