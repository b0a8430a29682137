"""Students and their baselines over several seeds: where each run lies, which is kept, and how far they spread.

One lucky run is not a result: with more than one seed every figure is a mean and a standard deviation.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dfkit.distill.train import RunSummary

Variant = Literal["student", "scratch", "prune_only"]
BASELINES: tuple[Variant, ...] = ("scratch", "prune_only")
VARIANT_NAMES: dict[Variant, str] = {
    "student": "distilled student",
    "scratch": "same widths from scratch, by labels",
    "prune_only": "pruned only, by labels",
}
RESULTS_FILE = "results.json"
BEST_FILE = "best.pth"


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: float | None
    """None where a seed has no value."""
    std: float | None
    """The sample's (ddof 1); None with fewer than two seeds."""
    values: tuple[float | None, ...]

    def text(self) -> str:
        """Such as `0.912 ± 0.031`."""
        if self.mean is None:
            return "not defined"
        return f"{self.mean:.3f}" if self.std is None else f"{self.mean:.3f} ± {self.std:.3f}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of one figure.

    Args:
        values: One per seed; None or NaN where it is not defined.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not values or len(known) < len(values):
        return Spread(None, None, tuple(values))
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, tuple(values))


@dataclass(frozen=True)
class StudentSummary(RunSummary):
    """The kept student, and all runs that stand beside it."""

    variants: tuple[dict[str, Any], ...] = ()
    """Per kind of run its `name`, seeds and video AUC of validation and test, mean and std over seeds."""

    def summary(self) -> list[str]:
        """Lines for people."""
        lines = super().summary()
        if len(self.variants) == 1 and len(self.variants[0]["runs"]) == 1:
            return lines
        count = len(self.variants[0]["runs"])
        beside = [
            f"{VARIANT_NAMES[row['name']]}: video AUC validation {shown(row['val_auc'])}, test {shown(row['test_auc'])}"
            for row in self.variants
        ]
        seeds = f"{count} seeds, mean ± standard deviation (ddof 1)" if count > 1 else "one seed: no spread"
        return [*lines, f"at equal steps, {seeds}:", *(f"  {line}" for line in beside)]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**super().to_json(), "variants": list(self.variants)}


def shown(value: Mapping[str, Any]) -> str:
    """`Spread.text` of a stored spread."""
    return Spread(value["mean"], value["std"], tuple(value["values"])).text()


def folder_of(run_dir: Path, variant: Variant, seed: int, num_seeds: int) -> Path:
    """Where one run lies; one seed alone needs no folder of its own."""
    folder = run_dir if variant == "student" else run_dir / f"baseline_{variant}"
    return folder if num_seeds == 1 else folder / f"seed-{seed}"


def read_run(folder: Path) -> RunSummary | None:
    """What a finished run left; None where there is none."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    known = {field.name: content[field.name] for field in fields(RunSummary)}
    return RunSummary(**{**known, "notes": tuple(known["notes"])})


def video_auc(run: RunSummary, part: str) -> float | None:
    """Video AUC of a run on `val` or `test`; None where it is not defined."""
    value: float | None = run.metrics.get(part, {}).get("video", {}).get("auc")
    return value


def best_run(runs: Sequence[RunSummary]) -> RunSummary:
    """The run with the highest video AUC on validation; the first of equals. The test part has no say."""
    scores = [video_auc(run, "val") for run in runs]
    return max(zip(scores, runs, strict=True), key=lambda pair: -1.0 if pair[0] is None else pair[0])[1]


def keep_checkpoint(source: Path, target: Path) -> None:
    """Copies a checkpoint, whole or not at all."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def join_runs(run_dir: Path, runs: Mapping[Variant, Sequence[RunSummary]], *, notes: tuple[str, ...]) -> StudentSummary:
    """The summary of all runs; the best student's checkpoint is copied up if it lies in a folder of its own.

    Args:
        run_dir: Folder of the whole.
        runs: Per kind one run per seed; `student` first.
        notes: Lines for people, behind those of the best run.
    """
    best = best_run(runs["student"])
    target = run_dir / BEST_FILE
    if Path(best.checkpoint) != target:
        keep_checkpoint(Path(best.checkpoint), target)
    rows = tuple(
        {
            "name": variant,
            "runs": [run.run_dir for run in found],
            "val_auc": spread([video_auc(run, "val") for run in found]).to_json(),
            "test_auc": spread([video_auc(run, "test") for run in found]).to_json(),
        }
        for variant, found in runs.items()
    )
    whole = {field.name: getattr(best, field.name) for field in fields(RunSummary)}
    changed = {"run_dir": str(run_dir), "checkpoint": str(target), "notes": (*best.notes, *notes)}
    return StudentSummary(**{**whole, **changed}, variants=rows)
