"""What a finished run says of itself: `results.json`, and the lines on the terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dfkit.measures.protocol import stated_protocol
from dfkit.training.recorder import ModelKind

RESULTS_FILE, BEST_FILE = "results.json", "best.pth"


@dataclass(frozen=True)
class RunSummary:
    """Checkpoint and metrics of a finished run."""

    kind: ModelKind
    data_dir: str
    run_dir: str
    checkpoint: str
    best_epoch: int
    """From 0 on."""
    seconds: float
    """Wall-clock time of the training."""
    metrics: dict[str, Any]
    """`summarize` of `val` and of `test`, by name."""
    notes: tuple[str, ...] = ()
    """The baseline's comparison and the audit's warnings."""
    epochs: int = 0
    """How many were trained; 0 where a run of an older dfkit does not say."""
    steps: int = 0
    """Steps of the optimizer; as `epochs`."""
    pseudo_labels: dict[str, Any] | None = None
    """Rounds on unlabelled videos, see `dfkit.training.pseudo_labels`; None where there were none."""

    def summary(self) -> list[str]:
        """The summary as lines of text."""
        lines = [
            f"{self.kind} from {self.data_dir} -> {self.checkpoint} (epoch {self.best_epoch + 1}, {self.seconds:.0f} s)"
        ]
        for split in ("val", "test"):
            facts = self.metrics.get(split, {})
            if not facts.get("videos"):
                lines.append(f"{split}: no such part in the split, so nothing is reported on it")
                continue
            video = facts["video"]
            lines.append(
                f"{split}: video AUC {format_metric(video['auc'])}, "
                f"balanced accuracy {format_metric(video['balanced_accuracy'])} "
                f"({facts['videos']} videos, {facts['groups']} groups)"
            )
            lines.append(f"  {stated_protocol(facts)}")
            lines += [facts[key] for key in ("warning", "warning_one_class") if key in facts]
        return [*lines, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Content of `results.json`."""
        return {**vars(self), "notes": list(self.notes)}


def format_metric(value: float | None) -> str:
    """A metric with three decimals; None is `not defined`."""
    return "not defined" if value is None else f"{value:.3f}"


def read_run(folder: Path) -> RunSummary | None:
    """Summary of a finished run; None where the folder holds none. Its paths are those of the folder as named here."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    known = {field.name: content[field.name] for field in fields(RunSummary) if field.name in content}
    # Those in the file are relative to the folder that the run was started in.
    here = {"run_dir": str(folder), "checkpoint": str(folder / BEST_FILE)}
    return RunSummary(**{**known, **here, "notes": tuple(known["notes"])})


def video_auc(run: RunSummary, split: str) -> float | None:
    """Video AUC of a run on the split `val` or `test`; None where it is undefined."""
    value: float | None = run.metrics.get(split, {}).get("video", {}).get("auc")
    return value
