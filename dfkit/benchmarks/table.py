"""Numbers as text, and the tables that the terminal shows."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dfkit.benchmarks.gates import GateResult
from dfkit.benchmarks.latency import STAGE_NAMES, STAGES, Percentiles
from dfkit.benchmarks.targets import TargetResult

TABLE_WIDTH = 110


def format_number(value: float | None, *, digits: int = 3) -> str:
    """A number with the given number of significant digits, whole numbers whole; `-` for None."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    if float(value).is_integer():
        return f"{value:.0f}"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{min(places, 6)}f}"


def format_limit(result: GateResult) -> str:
    """A gate's condition, such as `< 3.2 MB`."""
    return f"{result.gate.direction} {format_number(result.gate.limit)} {result.gate.unit}".rstrip()


def gate_lines(results: Sequence[GateResult]) -> list[str]:
    """The gates as a table, one line each."""
    table = _table("gate", "value", "limit", "", "rests on")
    for result in results:
        value = "-" if result.value is None else f"{format_number(result.value)} {result.gate.unit}".rstrip()
        table.add_row(result.gate.metric, value, format_limit(result), result.verdict, result.note)
    return _lines(table)


def latency_lines(latency: Mapping[str, Mapping[str, Percentiles]]) -> list[str]:
    """Latency as a table: a line per stage, p50 and p90 of each variant."""
    table = _table("p50 / p90 in ms", *latency)
    for stage in (stage for stage in STAGES if all(stage in m for m in latency.values())):
        cells = [f"{m[stage].p50_ms:.2f} / {m[stage].p90_ms:.2f}" for m in latency.values()]
        table.add_row(STAGE_NAMES[stage], *cells)
    return _lines(table)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of cells, one line each (a cell that is too wide is folded)."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*row)
    return _lines(table)


def target_lines(targets: Sequence[TargetResult]) -> list[str]:
    """The comparison with other ways of exporting, one line each."""
    table = _table("figure", "value", "at least", "aim", "", "rests on")
    for result in targets:
        value = "-" if result.value is None else f"{format_number(result.value)} {result.unit}".rstrip()
        limits = (
            "-" if limit is None else f"{result.direction} {format_number(limit)}"
            for limit in (result.at_least, result.aim)
        )
        table.add_row(result.figure, value, *limits, result.verdict, result.note)
    return _lines(table)


def _table(*columns: str) -> Table:
    # ASCII only: a Windows console of another code page cannot print box-drawing characters.
    table = Table(box=box.ASCII, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _lines(table: Table) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=TABLE_WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]
