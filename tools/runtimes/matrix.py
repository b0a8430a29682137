"""One bundle on many runtimes: `python -m tools.runtimes.matrix [BUNDLE] [--processor Haswell] [--out FILE.json]`.

Each golden case runs in 30 interpreters of one process, in random order, three times. A runtime passes where every
answer is within its golden tolerance and the interpreters agree to 1e-6. A processor other than this machine's is
emulated by qemu-user (Debian's package of that name).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfkit.errors import DfkitError
from dfkit.files import write_atomically
from dfkit.measures.child_process import run_for_json
from dfkit.measures.environment import read_environment
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.manifest import Backend
from dfkit.runtime.proven import version_numbers
from dfkit.workspace import Workspace
from tools.runtimes.environments import INFORMATION, MATRIX, Runtime, interpreter_of

REPLAY = Path(__file__).with_name("replay.py")
REPORT_VERSION = 1
INTERPRETERS, ROUNDS, SEED = 30, 3, 0
EMULATED = {"interpreters": 2, "rounds": 1}
"""On another processor, which is some fifty times slower: what memory held is no matter of the processor."""
MAX_SPREAD = 1e-6
"""Between interpreters: of one build on one processor, they differ by what their memory held before, or not at all."""
TIMEOUT_S = 1800
QEMU = "qemu-x86_64"
THIS_PROCESSOR = "this"
# TensorFlow logs its start as errors or warnings; level 3 leaves true errors.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables by which a machine tells numpy its processor: an emulated one has fewer instructions."""


@dataclass(frozen=True)
class Cell:
    """One output on one runtime and processor, over all cases of a set."""

    runtime: str
    processor: str
    set: str
    part: str
    output: str
    cases: int
    answers: int
    worst: float | None
    """Root mean square difference from the stored answer of the worst answer; none where one is no number."""
    single: float | None
    """Largest difference of a single value."""
    tolerance: float
    power: bool
    """Whether passing proves anything."""
    spread: float | None
    """Largest difference between two interpreters."""
    within: bool

    @property
    def passed(self) -> bool:
        """Whether every answer is within tolerance and the interpreters agree."""
        # A NaN is None here, and passes nothing.
        return self.within and self.answers > 0 and self.spread is not None and self.spread < MAX_SPREAD


@dataclass(frozen=True)
class Row:
    """One runtime on one processor."""

    runtime: Runtime
    processor: str
    cells: tuple[Cell, ...]
    error: str | None = None
    """What it said where it did not open the bundle."""

    @property
    def passed(self) -> bool:
        """Whether all outputs passed, and each of them in a set of vectors in which it has power."""
        outputs = {(cell.part, cell.output) for cell in self.cells}
        decided = {(cell.part, cell.output) for cell in self.cells if cell.power}
        return self.error is None and bool(outputs) and outputs == decided and all(cell.passed for cell in self.cells)

    def line(self) -> str:
        """A line of the table: the output that used most of its tolerance."""
        head = f"{self.runtime.package:15s} {self.runtime.version:8s} {self.processor:9s}"
        if self.error is not None:
            return f"{head} {'':44s} FAIL: {self.error}"
        finite = [cell for cell in self.cells if cell.worst is not None and cell.spread is not None]
        if len(finite) < len(self.cells) or not finite:
            return f"{head} {'not a number':44s} FAIL"
        worst = max(finite, key=lambda cell: (cell.power, (cell.worst or 0) / cell.tolerance))
        spread = max(cell.spread or 0 for cell in finite)
        found = f"{worst.worst:8.2g} of {worst.tolerance:<8.2g} {worst.output:15s}"
        return f"{head} {found} {spread:8.2g} {'pass' if self.passed else 'FAIL'}"


HEADER = f"{'runtime':15s} {'version':8s} {'processor':9s} {'worst of its tolerance':36s} {'spread':>8s} verdict"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where a runtime of the matrix fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, help="folder or .zip; the newest of the workspace if left out")
    parser.add_argument("--processor", action="append", default=[], help=f"as `{QEMU} -cpu` names it; may be repeated")
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args(argv)
    try:
        path = arguments.bundle or Workspace(Path.cwd()).newest_export()
        backends = open_bundle(path).manifest.backends
        rows, informed = [], []
        print(HEADER)
        with tempfile.TemporaryDirectory() as scratch:
            folder = unpacked(path, Path(scratch))
            for runtime, processor in itertools.product(MATRIX + INFORMATION, (THIS_PROCESSOR, *arguments.processor)):
                if runtime.backend not in backends or is_refused(runtime, backends[runtime.backend]):
                    continue
                emulated = {} if processor == THIS_PROCESSOR else EMULATED
                row = replay_on(folder, runtime, processor=processor, **emulated)
                (informed if runtime in INFORMATION else rows).append(row)
                print(row.line() + (" (for information)" if runtime in INFORMATION else ""), flush=True)
        if arguments.out:
            write_atomically(arguments.out, json.dumps(report(path, rows, informed), indent=1) + "\n")
    except DfkitError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if rows and all(row.passed for row in rows) else 1


def unpacked(bundle: Path, scratch: Path) -> Path:
    """A verified bundle as a folder."""
    if bundle.is_dir():
        return bundle
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(scratch)
    return scratch


def is_refused(runtime: Runtime, backend: Backend) -> bool:
    """Whether dfkit and the app refuse the runtime by name; says so."""
    smallest = backend.runtimes.get(runtime.package)
    if smallest is None or version_numbers(runtime.version) >= version_numbers(smallest):
        return False
    print(f"{runtime.package:15s} {runtime.version:8s} refused by name: the bundle is proven from {smallest} on")
    return True


def replay_on(
    folder: Path,
    runtime: Runtime,
    *,
    processor: str = THIS_PROCESSOR,
    interpreters: int = INTERPRETERS,
    rounds: int = ROUNDS,
    cases: int | None = None,
    python: Path | None = None,
) -> Row:
    """Replays a bundle's golden vectors on one runtime, in a process of its own.

    Args:
        folder: A bundle.
        runtime: Which.
        processor: This machine's, or one that qemu-user emulates.
        interpreters: Of that process, all kept.
        rounds: How often each case runs in each of them.
        cases: Of each signature, the first; all if left out.
        python: Interpreter that has the runtime; that of an environment of its own if left out, made if not there.
    Raises:
        DfkitError: The runtime cannot be installed, or qemu-user is missing.
    """
    replay = [str(python or interpreter_of(runtime)), str(REPLAY), str(folder.resolve()), "--runtime", runtime.module]
    replay += ["--interpreters", str(interpreters), "--rounds", str(rounds), "--seed", str(SEED)]
    replay += [] if cases is None else ["--cases", str(cases)]
    command = replay if processor == THIS_PROCESSOR else [qemu(), "-cpu", processor, *replay]
    environment = {name: value for name, value in os.environ.items() if name not in FORCED} | QUIET
    try:
        answer = run_for_json(
            command, name=runtime.name, no_answer="no answer", timeout_s=TIMEOUT_S, environment=environment
        )
    except DfkitError as error:
        return Row(runtime, processor, (), error=str(error).splitlines()[0])
    cells = (Cell(runtime=runtime.name, processor=processor, **each) for each in answer["outputs"])
    return Row(runtime, processor, tuple(cells))


def qemu() -> str:
    """Path of qemu-user.

    Raises:
        DfkitError: It is not installed.
    """
    found = shutil.which(QEMU)
    if found is None:
        raise DfkitError(f"{QEMU} is not installed", fix="apt-get install qemu-user")
    return found


def report(bundle: Path, rows: Sequence[Row], informed: Sequence[Row]) -> dict[str, Any]:
    """A JSON object: the environment, and every output on every runtime."""

    def entry(row: Row, *, required: bool) -> dict[str, Any]:
        return asdict(row) | {"required": required, "passed": row.passed}

    return {
        "report_version": REPORT_VERSION,
        "bundle": bundle.name,
        "interpreters": INTERPRETERS,
        "rounds": ROUNDS,
        "seed": SEED,
        "emulated": EMULATED,
        "max_spread": MAX_SPREAD,
        "environment": asdict(read_environment()),
        "rows": [*(entry(row, required=True) for row in rows), *(entry(row, required=False) for row in informed)],
    }


if __name__ == "__main__":
    sys.exit(main())
