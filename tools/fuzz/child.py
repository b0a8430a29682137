"""The process that runs cases: reads one a line, answers one JSON object a line. It may crash; `pool` starts another.

File descriptor 2 goes into a file, so that what native libraries say is seen, and what they said before they died.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from dfkit.benchmarks.cold_start import resident_mb
from dfkit.errors import DfkitError
from tools.fuzz.cases import KINDS, PLANTED, Case, Workplace
from tools.fuzz.contract import check_error, check_stderr
from tools.fuzz.material import Material
from tools.fuzz.planted import run_planted

READY = "ready"
"""First line of the answers."""
ADDRESS_SPACE_BYTES = 12_000_000_000
"""Interpreters and torch reserve 4 GB before anything is read; a request beyond this is an input's doing."""


def run_case(case: Case, place: Workplace, said: Path) -> dict[str, Any]:
    """Runs one case.

    Args:
        case: Its kind and seed.
        place: Its folder is emptied first.
        said: The file behind descriptor 2, emptied first.
    Returns:
        `outcome`, and `faults`, one line each.
    """
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    place.faults = []
    os.truncate(said, 0)
    _forget_peak()
    try:
        outcome = run_planted(place, case.seed) if case.kind == PLANTED else KINDS[case.kind](place, case.rng)
    except DfkitError as error:
        outcome = type(error).__name__
        place.faults += check_error(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        outcome = "exception"
        where = traceback.extract_tb(error.__traceback__)[-1]
        place.faults.append(f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"[:500])
        traceback.print_exc()
    sys.stderr.flush()
    if outcome != "exception":
        place.faults += check_stderr(said.read_bytes(), names=(str(place.folder), str(place.material.folder)))
    return {"outcome": outcome, "faults": place.faults, "peak_mb": resident_mb("VmHWM") or 0.0}


def _forget_peak() -> None:
    """Lets Linux count the peak of memory anew; elsewhere it stays that of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def main() -> None:
    """Answers until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("material", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("said", type=Path)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(arguments.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    faulthandler.enable(sys.stderr)
    place = Workplace(Material(arguments.material), arguments.folder)
    print(READY, flush=True)
    for line in sys.stdin:
        print(json.dumps(run_case(Case.parse(line), place, arguments.said)), flush=True)


if __name__ == "__main__":
    main()
