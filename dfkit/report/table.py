"""Numbers as text, and the tables that the terminal shows."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

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


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of cells, one line each (a cell that is too wide is folded)."""
    # ASCII only: a Windows console of another code page cannot print box-drawing characters.
    table = Table(box=box.ASCII, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=TABLE_WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]
