"""`python -m tools.fuzz --seconds 60` runs seeded cases and counts outcomes; `--case mp4:12345` runs one again."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

from tools.fuzz.cases import KINDS, ROUND, Case
from tools.fuzz.material import Material, make_material
from tools.fuzz.pool import HANGS_S, run_cases
from tools.fuzz.report import Report


def list_cases(first_seed: int, kinds: Sequence[str]) -> Iterator[Case]:
    """Cases without end, in the order of `kinds`; each kind's seeds count up."""
    for number in count():
        for place, kind in enumerate(kinds):
            per_round = kinds.count(kind)
            yield Case(kind, first_seed + number * per_round + kinds[:place].count(kind))


def main(argv: list[str] | None = None) -> int:
    """Runs, prints a table, and returns 1 where a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="no further case is begun after this time")
    parser.add_argument("--num", type=int, help="number of cases, whatever time they take")
    parser.add_argument("--seed", type=int, default=0, help="first seed of each kind")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--kinds", help=f"some of {','.join(KINDS)}")
    parser.add_argument("--case", action="append", help="KIND:SEED, to be run alone; may be given again")
    parser.add_argument("--keep", type=Path, help="folder that keeps the whole inputs for the next run")
    parser.add_argument("--bundle", type=Path, help="tiny bundle to be copied in place of converting one")
    parser.add_argument("--out", type=Path, help="file for the report as JSON")
    parser.add_argument("--hang", type=float, default=HANGS_S, help="seconds that one case may take")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="dfkit-fuzz-") as folder:
        material = make_material(arguments.keep or Path(folder), bundle=arguments.bundle)
        report = _run(arguments, material)
    for line in report.summary():
        print(line)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return 1 if report.failures else 0


def _run(arguments: argparse.Namespace, material: Material) -> Report:
    kinds = tuple(arguments.kinds.split(",")) if arguments.kinds else ROUND
    cases = iter(map(Case.parse, arguments.case)) if arguments.case else list_cases(arguments.seed, kinds)
    alone = arguments.case is not None or arguments.num is not None
    report = Report()
    for answer in run_cases(
        islice(cases, arguments.num),
        material,
        num_workers=arguments.workers,
        hangs_s=arguments.hang,
        stop_at=None if alone else time.monotonic() + arguments.seconds,
    ):
        report.take(answer)
        if arguments.case:
            print(f"{answer.case}: {answer.outcome}, {answer.seconds:.1f} s, {answer.peak_mb:.0f} MB")
        elif answer.faults:
            print(f"{answer.case} ({answer.outcome}): {'; '.join(answer.faults)}", file=sys.stderr, flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
