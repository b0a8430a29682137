"""What `dfkit bench` measured, as lines, as JSON and for the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfkit.benchmarks.cold_start import ColdStart
from dfkit.benchmarks.end_to_end import VideoTiming
from dfkit.benchmarks.evidence import Comparison, Parity
from dfkit.benchmarks.latency import Percentiles
from dfkit.benchmarks.phone import PhoneRun
from dfkit.benchmarks.rows import gate_lines, latency_lines, phone_lines, target_lines
from dfkit.benchmarks.sizes import Sizes
from dfkit.benchmarks.targets import TargetResult
from dfkit.measures.environment import Environment
from dfkit.measures.finite import finite_or_none
from dfkit.measures.gates import GateResult

REPORT_VERSION = 1


@dataclass(frozen=True)
class BenchReport:
    """All measurements of a bundle, with the gates' verdicts and what the numbers rest on."""

    name: str
    bundle: Path
    sizes: Sizes
    primary: str
    """The variant that the gates judge."""
    latency: dict[str, dict[str, Percentiles]]
    """By variant, then by stage."""
    cold_starts: dict[str, ColdStart]
    """By variant."""
    cold_start_video: ColdStart | None
    """Of the first video; None where no video was given."""
    end_to_end: list[VideoTiming]
    parity: Parity | None
    comparison: Comparison | None
    gates: list[GateResult]
    targets: list[TargetResult]
    """Beside other ways of exporting; no gates."""
    environment: Environment
    command: str
    num_threads: int
    repeats: int
    warnings: tuple[str, ...]
    data: dict[str, Any]
    """What the manifest says about data and metrics."""
    exit_code: int
    json_path: Path
    page_path: Path
    phones: tuple[PhoneRun, ...] = ()
    """What phones measured of this bundle, each by itself."""

    def summary(self) -> list[str]:
        """Lines for the terminal: what was taken, the gates, where the report lies."""
        return [
            f"{self.bundle}: {self.primary}, threads: {self.num_threads}, {self.environment.cpu}",
            *latency_lines(self.latency),
            *phone_lines(self.phones),
            *target_lines(self.targets),
            *gate_lines(self.gates),
            *([] if self.comparison is None else [f"student against teacher: {self.comparison.protocol}"]),
            *(f"warning: {line}" for line in self.warnings),
            f"report: {self.page_path}",
        ]

    def to_json(self) -> dict[str, Any]:
        """The JSON document that is written as `bench.json`; numbers that are not finite are None."""
        return {
            "schema_version": REPORT_VERSION,
            "name": self.name,
            "exit_code": self.exit_code,
            "gates": [result.to_json() for result in self.gates],
            "targets": [result.to_json() for result in self.targets],
            "sizes": asdict(self.sizes),
            "primary": self.primary,
            "latency_ms": _latency_json(self.latency),
            "phones": [run.model_dump(mode="json") for run in self.phones],
            "fresh": {name: _plain(asdict(start)) for name, start in self.cold_starts.items()},
            "fresh_video": _plain(asdict(self.cold_start_video)) if self.cold_start_video else None,
            "whole_way": [_plain(asdict(t) | {"real_time": t.real_time}) for t in self.end_to_end],
            "parity": _parity_json(self.parity),
            "student_against_teacher": _comparison_json(self.comparison),
            "environment": asdict(self.environment),
            "command": self.command,
            "num_threads": self.num_threads,
            "repeats": self.repeats,
            "warnings": list(self.warnings),
            "data": _plain(self.data),
        }


def _plain(value: Any) -> Any:
    """Numbers that are not finite as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return finite_or_none(value)


def _latency_json(latency: dict[str, dict[str, Percentiles]]) -> Any:
    by_variant = {}
    for variant, stages in latency.items():
        by_variant[variant] = {stage: asdict(percentiles) for stage, percentiles in stages.items()}
    return _plain(by_variant)


def _parity_json(parity: Parity | None) -> dict[str, Any] | None:
    if parity is None:
        return None
    return {key: value for key, value in _plain(asdict(parity)).items() if key != "points"}


def _comparison_json(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    scores = comparison.scores
    return {
        "split": comparison.split,
        "protocol": comparison.protocol,
        "num_videos": len(scores.videos),
        "num_groups": len(set(scores.groups)),
        "num_left_out": scores.num_left_out,
        "not_judged": comparison.not_judged,
        "teacher": comparison.teacher.to_json(),
        "student": comparison.student.to_json(),
        "student_shipped": comparison.student_shipped.to_json(),
        "accuracy_drop_points": _plain(asdict(comparison.accuracy_drop_points)),
        "auc_ratio": _plain(asdict(comparison.auc_ratio)),
        "videos": [
            {"video": video, "label": int(label), "teacher": float(teacher), "student": float(student)}
            for video, label, teacher, student in zip(
                scores.videos, scores.labels, scores.teacher, scores.student, strict=True
            )
        ],
    }
