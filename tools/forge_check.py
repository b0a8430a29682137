"""Looks at a folder that `dfkit forge` wrote: contact sheet, fairness of the twins, re-posted copies.

    python -m tools.forge_check FOLDER --fairness
    python -m tools.forge_check FOLDER --detail
    python -m tools.forge_check FOLDER --sheet sheet.png --method face_swap
    python -m tools.forge_check FOLDER --repost crf35 --repost muted

Without an option it counts the pairs. Exit codes: 0; 1 where a fact of the files tells forgeries from their twins; 2
where the folder cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dfkit.errors import DfkitError
from dfkit.report.table import table_lines
from tools.forge.detail import DetailTest, detail_tests
from tools.forge.fairness import SignTest, sign_tests
from tools.forge.repost import REPOSTS, repost_folder
from tools.forge.sheet import Pair, contact_sheet, read_pairs, side_by_side

MIN_P_VALUE = 0.01
"""A split of the signs less likely than this by chance tells forgeries from their twins."""


def check_folder(arguments: argparse.Namespace) -> int:
    """Does what the options ask for, in a fixed order; returns the exit code.

    Raises:
        DfkitError: The folder holds no forgeries, none of the method asked for, or a video cannot be read.
        OSError: A file cannot be written.
    """
    pairs = read_pairs(arguments.folder)
    counts = Counter(pair.method for pair in pairs)
    print(f"{arguments.folder}: {len(pairs)} forgeries, each with the twin of its source")
    print(", ".join(f"{method} {count}" for method, count in sorted(counts.items())))
    if arguments.method is not None:
        pairs = [pair for pair in pairs if pair.method == arguments.method]
    if arguments.sheet is not None:
        print(f"contact sheet: {contact_sheet(pairs[: arguments.rows], arguments.sheet)}")
    if arguments.side_by_side is not None:
        write_side_by_side(pairs, arguments.side_by_side)
    if arguments.repost:
        for kind, labels in repost_folder(arguments.folder, kinds=arguments.repost).items():
            print(f"reposted {kind}: {labels}")
    if arguments.detail:
        print("\n".join(detail_lines(detail_tests(pairs))))
    return report_fairness(sign_tests(pairs)) if arguments.fairness else 0


def detail_lines(tests: Sequence[DetailTest]) -> list[str]:
    """How sharp forgeries of pictures are beside their twins, as a table; it is no gate: some methods only smooth."""
    rows = [
        (
            test.method,
            str(test.sharper),
            str(test.smoother),
            f"{test.median:+.2f}",
            f"{test.median_outside:+.2f}",
            f"{test.p_value:.3g}",
        )
        for test in tests
    ]
    return table_lines(("fine detail", "sharper", "smoother", "octaves inside", "outside", "p"), rows)


def write_side_by_side(pairs: Sequence[Pair], folder: Path) -> None:
    """Writes one video a pair into a folder, named like the forgery."""
    for pair in pairs:
        print(f"side by side: {side_by_side(pair, folder / pair.forged.name)}")


def report_fairness(tests: Sequence[SignTest]) -> int:
    """Prints the sign tests as a table; 1 where a fact of the files tells forgeries from twins, else 0."""
    rows = []
    for test in tests:
        verdict = "pass" if test.p_value > MIN_P_VALUE else "FAILED"
        rows.append((test.fact, str(test.above), str(test.below), str(test.ties), f"{test.p_value:.3g}", verdict))
    print("\n".join(table_lines(("fact", "forgery has more", "less", "equal", "p", ""), rows)))
    return 0 if all(test.p_value > MIN_P_VALUE for test in tests) else 1


def main(argv: list[str] | None = None) -> int:
    """Parses the call and runs it; a `DfkitError` is printed alone and ends with 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what dfkit forge wrote: videos/, labels.csv, forged.jsonl")
    parser.add_argument("--method", help="look at the forgeries of this method alone")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="contact sheet: twin, forgery, four times difference")
    parser.add_argument("--rows", type=int, default=8, help="forgeries on the contact sheet")
    parser.add_argument("--side-by-side", type=Path, metavar="DIR", help="a video a pair: twin left, forgery right")
    parser.add_argument("--fairness", action="store_true", help="sign test of each fact of the files")
    parser.add_argument("--detail", action="store_true", help="whether forgeries are sharper than their twins")
    parser.add_argument("--repost", choices=REPOSTS, action="append", default=[], help="copies as sharing leaves them")
    arguments = parser.parse_args(argv)
    if arguments.rows < 1:
        parser.error("--rows must be at least 1")
    try:
        return check_folder(arguments)
    except DfkitError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
