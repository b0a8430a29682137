"""Gates, latencies and export targets as the terminal's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dfkit.benchmarks.latency import STAGE_NAMES, STAGES, Percentiles
from dfkit.benchmarks.targets import TargetResult
from dfkit.measures.gates import GateResult
from dfkit.report.table import format_number, table_lines


def format_limit(result: GateResult) -> str:
    """A gate's condition, such as `< 3.2 MB`."""
    return f"{result.gate.direction} {format_number(result.gate.limit)} {result.gate.unit}".rstrip()


def format_value(value: float | None, unit: str) -> str:
    """A measured figure with its unit, such as `1.04 MB`; `-` where it was not measured."""
    return "-" if value is None else f"{format_number(value)} {unit}".rstrip()


def format_target_limits(result: TargetResult) -> list[str]:
    """What is asked of a figure and what is aimed at, such as `<= 1.2`; `-` where nothing is."""
    limits = (result.at_least, result.aim)
    return ["-" if limit is None else f"{result.direction} {format_number(limit)}" for limit in limits]


def gate_lines(results: Sequence[GateResult]) -> list[str]:
    """The gates as a table, one line each."""
    rows = []
    for result in results:
        value = format_value(result.value, result.gate.unit)
        rows.append((result.gate.metric, value, format_limit(result), result.verdict, result.note))
    return table_lines(("gate", "value", "limit", "", "rests on"), rows)


def latency_lines(latency: Mapping[str, Mapping[str, Percentiles]]) -> list[str]:
    """Latency as a table: a line per stage, p50 and p90 of each variant."""
    stages = [stage for stage in STAGES if all(stage in times for times in latency.values())]
    rows = []
    for stage in stages:
        cells = [f"{times[stage].p50_ms:.2f} / {times[stage].p90_ms:.2f}" for times in latency.values()]
        rows.append((STAGE_NAMES[stage], *cells))
    return table_lines(("p50 / p90 in ms", *latency), rows)


def target_lines(targets: Sequence[TargetResult]) -> list[str]:
    """The comparison with other ways of exporting, one line each."""
    rows = []
    for result in targets:
        value = format_value(result.value, result.unit)
        rows.append((result.figure, value, *format_target_limits(result), result.verdict, result.note))
    return table_lines(("figure", "value", "at least", "aim", "", "rests on"), rows)
