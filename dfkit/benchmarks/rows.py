"""Gates, latencies and export targets as the terminal's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dfkit.benchmarks.latency import STAGE_NAMES, STAGES, Percentiles
from dfkit.benchmarks.phone import PhoneRun, Times
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


PHONE_COLUMNS = ("measured by", "one clip", "next clip", "cold start", "peak", "without a pause")


def phone_rows(phones: Sequence[PhoneRun]) -> list[tuple[str, ...]]:
    """A row a phone: who measured, p50 / p90 / p99 in ms, load and first clip, memory, and what ten minutes did."""
    return [
        (
            f"{run.title}, {run.device.soc}, {run.num_threads} threads, {run.device.date[:10]}",
            _three(run.stages["clip"]),
            _three(run.stages["next_clip"]),
            _cold_start(run),
            format_value(run.cold_start.peak_mb, "MB"),
            _without_a_pause(run),
        )
        for run in phones
    ]


def _three(times: Times) -> str:
    return f"{times.p50_ms:.1f} / {times.p90_ms:.1f} / {times.p99_ms:.1f} ms"


def _cold_start(run: PhoneRun) -> str:
    start = run.cold_start
    if start.import_ms is None:
        return "not measured: the app was at work before"
    return f"{start.import_ms:.0f} + {start.load_ms:.0f} + {start.first_ms:.0f} ms"


def _without_a_pause(run: PhoneRun) -> str:
    if not run.sustained:
        return "not measured"
    first, last = run.sustained[0], run.sustained[-1]
    warm = last.heat.status or "not told"
    battery = "" if last.heat.battery_c is None else f", battery {last.heat.battery_c:.0f} °C"
    times = f"p50 {first.clip.p50_ms:.1f} to {last.clip.p50_ms:.1f} ms"
    return f"{last.end_s / 60:.0f} min: {times}, thermal state {warm}{battery}"


def phone_lines(phones: Sequence[PhoneRun]) -> list[str]:
    """What phones measured, as a table; nothing without one."""
    return table_lines(PHONE_COLUMNS, phone_rows(phones)) if phones else []


def target_lines(targets: Sequence[TargetResult]) -> list[str]:
    """The comparison with other ways of exporting, one line each."""
    rows = []
    for result in targets:
        value = format_value(result.value, result.unit)
        rows.append((result.figure, value, *format_target_limits(result), result.verdict, result.note))
    return table_lines(("figure", "value", "at least", "aim", "", "rests on"), rows)
