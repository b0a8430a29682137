"""Tables of what `tools.gpu.experiment` found: `python -m tools.gpu.table PACK DIR`, as Markdown.

Networks are measured over the families that their folds left out, as `dfkit evaluate` measures a run that left families
out; of several seeds the mean and the standard deviation stand beside the interval of the first.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dfkit.measures.decision import p_fake_of_margin
from dfkit.measures.left_out import HeldOutScore, LeftOutFamily, LeftOutResult, measure_left_out
from dfkit.measures.spread import spread
from tools.gpu.crops import SEEN
from tools.gpu.jobs import Row, read_rows

FORMS = ("raw", "reduced")
STUDENT_FIGURES = (("divergence", 1e3), ("p_change", 1.0), ("same_verdict", 100.0), ("auc", 1.0))


def read_facts(pack: Path) -> tuple[Row, np.ndarray]:
    """Facts of a pack, and the part of each video in each fold."""
    with np.load(pack) as stored:
        return json.loads(stored["facts"].tobytes()), stored["parts"]


def left_out(rows: Sequence[Row], facts: Row, parts: np.ndarray, form: str) -> LeftOutResult:
    """A network's AUC over the families of its folds.

    Args:
        rows: Of one network and seed, one per fold.
        facts: Of the pack.
        parts: (F, V).
        form: `raw` or `reduced`.
    """
    scores, folds_of = [], defaultdict(list)
    for row in rows:
        folds_of[re.sub(r" \(\d+ of \d+\)$", "", row["family"])].append(row["fold"])
        # The real videos of `seen` are those of `unseen`: they are counted once.
        margins = {**row[f"seen_{form}"]["margins"], **row[f"unseen_{form}"]["margins"]}
        for number, margin in margins.items():
            video = facts["videos"][int(number)]
            part = "seen" if parts[row["fold"]][int(number)] == SEEN else "test"
            p_fake = float(p_fake_of_margin(np.array([margin]), calibration_temperature=1.0)[0])
            scores.append(HeldOutScore(number, video["label"], video["group"], row["fold"], part, p_fake))
    families = [LeftOutFamily(name, (name,), tuple(folds)) for name, folds in folds_of.items()]
    return measure_left_out(scores, families)


def network_table(rows: Sequence[Row], facts: Row, parts: np.ndarray) -> list[str]:
    """Lines of the table of networks; a seed that lacks folds which another has is not in it."""
    lines = [
        "| network | seeds | unseen, raw | worst family | seen, raw | unseen, reduced | worst family |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    found: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if "unseen_raw" in row:
            found[row["row"]][row["seed"]].append(row)
    for name, seeds in found.items():
        most = max(map(len, seeds.values()))
        whole = [each for each in seeds.values() if len(each) == most]
        if whole:
            folds = "" if most == len(parts) - 1 else f" ({most} of {len(parts) - 1} folds)"
            results = {form: [left_out(each, facts, parts, form) for each in whole] for form in FORMS}
            cells = [str(len(whole))]
            for form in FORMS:
                first = results[form][0]
                cells += [
                    figure([r.mean.value for r in results[form]], first.mean.low, first.mean.high),
                    f"{first.worst.value:.2f} {first.worst_family}",
                ]
                if form == "raw":
                    cells.append(figure([r.seen.value for r in results[form]], first.seen.low, first.seen.high))
            lines.append(f"| {name}{folds} | {' | '.join(cells)} |")
    return lines


def figure(values: Sequence[float], low: float, high: float) -> str:
    """Mean of the seeds with the first one's interval."""
    text = f"{values[0]:.2f}" if len(values) == 1 else spread(list(values)).text()
    return f"{text} [{low:.2f}, {high:.2f}]"


def student_table(rows: Sequence[Row]) -> list[str]:
    """Lines of the table of students: mean and standard deviation over seeds."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if "divergence" in row:
            found[row["row"]].append(row)
    lines = [
        "| student | seeds, steps | divergence, millinats | mean change of p_fake | same verdict, % | AUC, labels |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in sorted(found.items()):
        cells = [spread([row[key] * scale for row in each]).text() for key, scale in STUDENT_FIGURES]
        lines.append(f"| {name} | {len(each)}, {each[0]['steps']} | {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path)
    parser.add_argument("rows", type=Path, help="folder of `tools.gpu.experiment`")
    arguments = parser.parse_args(argv)
    facts, parts = read_facts(arguments.pack)
    rows = read_rows(arguments.rows)
    print("\n".join([*student_table(rows), "", *network_table(rows, facts, parts)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
