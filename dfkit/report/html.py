"""The parts that report pages are made of: escaped tables, cards, figures, one document without outside files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dfkit.report.style import STYLE


def document(title: str, sections: Iterable[str], *, style: str = "") -> str:
    """A whole HTML page.

    Args:
        title: Of the window.
        sections: Body, as HTML.
        style: CSS after the common one.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def card(title: str, *parts: str) -> str:
    """A section: `title` as text in its heading, then `parts` as HTML."""
    return f'<section class="card"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def figure(svg: str, caption: str = "", *, below: str = "") -> str:
    """A drawing with its caption, as HTML.

    Args:
        svg: The drawing.
        caption: Text below it; none where empty.
        below: HTML between the drawing and the caption.
    """
    figcaption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{below}{figcaption}</figure>"


def note(text: str) -> str:
    """A paragraph of small print; `text` is escaped."""
    return f'<p class="note">{escape(text)}</p>'


def warnings_box(lines: Sequence[str]) -> str:
    """What a reader has to know first; nothing where there is nothing to say."""
    if not lines:
        return ""
    return f'<aside class="warn">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</aside>'


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Large figures, each a value and its name; both are escaped."""
    items = [f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in values]
    return f'<div class="tiles">{"".join(items)}</div>'


def facts_list(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values; the values are HTML."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, css: str = "", numbers: int = 0) -> str:
    """A table of cells that are HTML already.

    Args:
        head: Column names, as HTML.
        rows: One cell per column each, as HTML.
        css: Class of the table.
        numbers: How many columns at the end hold figures, and are right-aligned.
    """
    first = len(head) - numbers

    def cells(tag: str, row: Sequence[str]) -> str:
        html = []
        for place, cell in enumerate(row):
            css_class = ' class="n"' if place >= first else ""
            html.append(f"<{tag}{css_class}>{cell}</{tag}>")
        return "".join(html)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{css}"><thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
