"""Students and their baselines over several seeds: their folders, the best one, and mean and standard deviation.

One lucky run is not a result: with more than one seed every metric is a mean and a standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dfkit.files import copy_file
from dfkit.measures.spread import Spread, spread
from dfkit.training.run_summary import BEST_FILE, RunSummary, video_auc

Variant = Literal["student", "scratch", "prune_only"]
"""The distilled student and its baselines."""
BASELINES: tuple[Variant, ...] = ("scratch", "prune_only")
VARIANT_NAMES: dict[Variant, str] = {
    "student": "distilled student",
    "scratch": "same widths from scratch, by labels",
    "prune_only": "pruned only, by labels",
}


@dataclass(frozen=True)
class StudentSummary(RunSummary):
    """The kept student, and the metrics of all variants and seeds."""

    variants: tuple[dict[str, Any], ...] = ()
    """Per variant `name`, folders of its `runs`, `epochs` and `steps` of each, and `val_auc` and `test_auc` by video,
    mean and std over seeds."""

    def summary(self) -> list[str]:
        """The report as lines of text."""
        lines = super().summary()
        if len(self.variants) == 1 and len(self.variants[0]["runs"]) == 1:
            return lines
        count = len(self.variants[0]["runs"])
        rows = [
            f"{VARIANT_NAMES[row['name']]}: video AUC validation {format_spread(row['val_auc'])}, "
            f"test {format_spread(row['test_auc'])}"
            for row in self.variants
        ]
        seeds = f"{count} seeds, mean ± standard deviation (ddof 1)" if count > 1 else "one seed: no spread"
        return [*lines, f"{training_length(self.variants)}, {seeds}:", *(f"  {row}" for row in rows)]

    def to_json(self) -> dict[str, Any]:
        """Content of `results.json`."""
        return {**super().to_json(), "variants": list(self.variants)}


def training_length(variants: Sequence[Mapping[str, Any]]) -> str:
    """Whether all runs took as many steps, in words; where `patience` ended some early, what each variant took.

    Args:
        variants: As `StudentSummary.variants` has them.
    """
    steps = {taken for row in variants for taken in row["steps"]}
    if steps == {0}:
        return "steps unknown (runs of an older dfkit)"
    if len(steps) == 1:
        return "at equal steps"
    taken = "; ".join(
        f"{VARIANT_NAMES[row['name']]} {' and '.join(map(str, row['steps']))} steps "
        f"({' and '.join(map(str, row['epochs']))} epochs)"
        for row in variants
    )
    return f"not at equal steps ({taken})"


def format_spread(value: Mapping[str, Any]) -> str:
    """Mean and standard deviation as text.

    Args:
        value: `mean`, `std` and `values`, as `Spread.to_json` gives them.
    """
    return Spread(value["mean"], value["std"], tuple(value["values"])).text()


def run_folder(run_dir: Path, variant: Variant, seed: int, num_seeds: int) -> Path:
    """Folder of one run; a single seed has none of its own below its variant's."""
    folder = run_dir if variant == "student" else run_dir / f"baseline_{variant}"
    return folder if num_seeds == 1 else folder / f"seed-{seed}"


def best_run(runs: Sequence[RunSummary]) -> RunSummary:
    """The run with the highest video AUC on validation, the first of equals; the test split has no say."""

    def validation_auc(run: RunSummary) -> float:
        auc = video_auc(run, "val")
        return -1.0 if auc is None else auc

    return max(runs, key=validation_auc)


def summarize_runs(
    run_dir: Path, runs: Mapping[Variant, Sequence[RunSummary]], *, notes: tuple[str, ...]
) -> StudentSummary:
    """Summarizes all runs, and copies the best student's checkpoint into the run folder.

    Args:
        run_dir: Folder of all runs.
        runs: One run per seed of each variant; `student` first.
        notes: Added to those of the best run.
    """
    best = best_run(runs["student"])
    target = run_dir / BEST_FILE
    if Path(best.checkpoint) != target:
        copy_file(best.checkpoint, target)
    rows = tuple(
        {
            "name": variant,
            "runs": [run.run_dir for run in variant_runs],
            "epochs": [run.epochs for run in variant_runs],
            "steps": [run.steps for run in variant_runs],
            "val_auc": spread([video_auc(run, "val") for run in variant_runs]).to_json(),
            "test_auc": spread([video_auc(run, "test") for run in variant_runs]).to_json(),
        }
        for variant, variant_runs in runs.items()
    )
    summary = {field.name: getattr(best, field.name) for field in fields(RunSummary)}
    summary |= {
        "run_dir": str(run_dir),
        "checkpoint": str(target),
        "notes": tuple(dict.fromkeys((*best.notes, *notes))),
    }
    return StudentSummary(**summary, variants=rows)
