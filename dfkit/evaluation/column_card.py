"""The table of a column's values, as a card of a page."""

from __future__ import annotations

from html import escape

from dfkit.evaluation.by_column import ColumnTable
from dfkit.report.html import card, note, table


def column_card(found: ColumnTable) -> str:
    """The table of a column's values, as HTML."""
    rows = [[escape(cell) for cell in row] for row in found.rows()]
    return card(f"By {found.column}", table([escape(name) for name in found.HEAD], rows, numbers=1), note(found.note))
