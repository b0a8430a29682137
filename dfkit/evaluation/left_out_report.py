"""The joined folds of a run that left families out, as lines of text and as JSON; `left_out_page` renders it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfkit.evaluation.by_column import ColumnTable
from dfkit.training.left_out import LeftOutRun


@dataclass(frozen=True)
class LeftOutReport:
    """What the models of a run are worth on families that they never saw, beside those that they did."""

    name: str
    command: str
    date: str
    run: LeftOutRun
    data_path: str
    columns: tuple[ColumnTable, ...]
    """The same scores by the values of columns."""
    warnings: tuple[str, ...]
    videos: tuple[dict[str, Any], ...]
    """Each held-out score with the video's path and method."""
    output_dir: str = ""

    def summary(self) -> list[str]:
        """The report as lines of text."""
        return [
            f"{self.run.run_dir} on {self.data_path}: {len(self.run.families)} families left out by {self.run.by}, "
            f"{self.run.result.num_groups} groups",
            *self.run.summary(),
            *(line for table in self.columns for line in table.summary()),
            *(f"warning: {text}" for text in self.warnings),
            f"report: {self.output_dir}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of `report.json`; NaN is None."""
        return {
            "name": self.name,
            "kind": "dfkit evaluate --run",
            "command": self.command,
            "date": self.date,
            "run": self.run.run_dir,
            "data": self.data_path,
            "by": self.run.by,
            "protocol": None if self.run.protocol is None else self.run.protocol.to_json(),
            "folds_hash": self.run.folds_hash,
            "left_out": {name: result.to_json() for name, result in self.run.results.items()},
            "not_measured": list(self.run.missing),
            "columns": [table.to_json() for table in self.columns],
            "warnings": list(self.warnings),
            "videos": list(self.videos),
            "output": self.output_dir,
        }
