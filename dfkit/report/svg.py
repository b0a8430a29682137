"""Plots as inline SVG, drawn by hand so that a report needs no plotting package and no network.

Colours are CSS variables of the page, so that one drawing serves light and dark. Widths are units of the
viewBox: the page scales a plot to the width it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 460
"""Narrow, so that a phone shows the letters at about the size they are drawn in."""
ROW_PX = 44
BAR_PX = 14
INSET = 4
ROUND_STEPS = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10)
"""Ends of an axis within a power of ten: their quarters have few digits."""


@dataclass(frozen=True)
class Bar:
    """A horizontal bar of one or more parts laid end to end."""

    label: str
    parts: tuple[tuple[float, str], ...]
    """Length and CSS class of each part."""
    text: str
    """Written behind the bar."""


@dataclass(frozen=True)
class Dots:
    """A series of points of a scatter plot."""

    name: str
    css: str
    points: tuple[tuple[float, float], ...]
    titles: tuple[str, ...] = ()
    """Shown on hover, one per point."""


@dataclass(frozen=True)
class Line:
    """A polyline of a square plot."""

    name: str
    css: str
    points: tuple[tuple[float, float], ...]


def nice_end(value: float) -> float:
    """A round number not below a value, whose quarters are round, too."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    candidates = [step * power for step in ROUND_STEPS]
    return next(candidate for candidate in candidates if candidate >= value * (1 - 1e-9))


def _svg(height: float, title: str, parts: Sequence[str], *, width: float = WIDTH) -> str:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return "".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>"])


def _text(x: float, y: float, text: str, *, anchor: str = "start", css: str = "t") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(text)}</text>'


def bar_chart(
    bars: Sequence[Bar], *, title: str, unit: str, limit: float | None = None, end: float | None = None
) -> str:
    """Horizontal bars from zero on.

    Args:
        bars: From top to bottom.
        title: Read out by screen readers.
        unit: Of the axis.
        limit: Marked by a dashed line; the axis reaches it.
        end: End of the axis; a round number past the longest bar when left out.
    Returns:
        One SVG element.
    """
    longest = max([sum(length for length, _ in bar.parts) for bar in bars] + [limit or 0.0])
    end = end or nice_end(longest * 1.02)
    scale = (WIDTH - 2 * INSET) / end
    bottom = ROW_PX * len(bars) + 4
    parts = []
    for tick in np.linspace(0, end, 5):
        x = INSET + tick * scale
        parts.append(f'<line x1="{x:.1f}" y1="2" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        name = f"{tick:g} {unit}" if tick == end else f"{tick:g}"
        anchor = "middle"
        if tick == 0:
            anchor = "start"
        elif tick == end:
            anchor = "end"
        parts.append(_text(x, bottom + 15, name, anchor=anchor, css="m"))
    for row, bar in enumerate(bars):
        parts += _bar_parts(bar, row * ROW_PX, scale)
    if limit is not None:
        x = INSET + limit * scale
        parts.append(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}" class="limit"/>')
    return _svg(bottom + 22, title, parts)


def _bar_parts(bar: Bar, top: float, scale: float) -> list[str]:
    parts = [
        _text(INSET, top + 17, _shortened(bar.label)),
        _text(WIDTH - INSET, top + 17, bar.text, anchor="end", css="v"),
    ]
    x = float(INSET)
    for length, css in bar.parts:
        width = max(length * scale, 0)
        parts.append(f'<rect x="{x:.1f}" y="{top + 23}" width="{width:.1f}" height="{BAR_PX}" class="{css}"/>')
        x += width
    return parts


def _shortened(label: str, longest: int = 40) -> str:
    return label if len(label) <= longest else f"{label[: longest // 2]}…{label[-(longest // 2 - 1) :]}"


@dataclass(frozen=True)
class Square:
    """A plot with both axes from 0 to 1."""

    side: float = 300.0
    left: float = 46.0
    top: float = 8.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place of a value on the drawing."""
        return self.left + x * self.side, self.top + (1 - y) * self.side

    def frame(self, x_label: str, y_label: str) -> list[str]:
        """Grid, ticks and names of the axes."""
        parts = []
        for tick in (0, 0.25, 0.5, 0.75, 1):
            x, _ = self.at(tick, 0)
            _, y = self.at(0, tick)
            right, bottom = self.left + self.side, self.top + self.side
            parts.append(f'<line x1="{x:.1f}" y1="{self.top}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
            parts.append(f'<line x1="{self.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
            parts.append(_text(x, bottom + 16, f"{tick:g}", anchor="middle", css="m"))
            parts.append(_text(self.left - 6, y + 4, f"{tick:g}", anchor="end", css="m"))
        middle = self.left + self.side / 2
        parts.append(_text(middle, self.top + self.side + 34, x_label, anchor="middle"))
        turned = self.top + self.side / 2
        parts.append(f'<g transform="rotate(-90 12 {turned})">{_text(12, turned + 4, y_label, anchor="middle")}</g>')
        return parts

    def line(self, points: Sequence[tuple[float, float]], css: str) -> str:
        """A polyline through points in [0, 1] x [0, 1], as an SVG element of a CSS class."""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return f'<polyline points="{places}" class="{css}"/>'

    def draw(self, title: str, parts: Sequence[str]) -> str:
        """The whole plot as an SVG element, drawn from its parts."""
        return _svg(self.top + self.side + 42, title, parts, width=self.left + self.side + 12)


def scatter(
    series: Sequence[Dots], *, title: str, x_label: str, y_label: str, thresholds: tuple[float | None, float | None]
) -> str:
    """Dots in the unit square with the diagonal of agreement.

    Args:
        series: Drawn in order.
        title: Read out by screen readers.
        x_label: Name of the x axis.
        y_label: Name of the y axis.
        thresholds: Dashed lines on x and on y, where given.
    Returns:
        One SVG element.
    """
    plot = Square()
    parts = [*plot.frame(x_label, y_label), plot.line([(0, 0), (1, 1)], "diagonal")]
    across, up = thresholds
    if across is not None:
        parts.append(plot.line([(across, 0), (across, 1)], "limit"))
    if up is not None:
        parts.append(plot.line([(0, up), (1, up)], "limit"))
    for dots in series:
        titles = dots.titles or ("",) * len(dots.points)
        for point, shown in zip(dots.points, titles, strict=True):
            x, y = plot.at(*point)
            hover = f"<title>{escape(shown)}</title>" if shown else ""
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{dots.css}">{hover}</circle>')
    return plot.draw(title, parts)


def curves(lines: Sequence[Line], *, title: str, x_label: str, y_label: str) -> str:
    """Lines in the unit square with the diagonal of guessing.

    Args:
        lines: Drawn in order.
        title: Read out by screen readers.
        x_label: Name of the x axis.
        y_label: Name of the y axis.
    Returns:
        One SVG element.
    """
    plot = Square()
    parts = [*plot.frame(x_label, y_label), plot.line([(0, 0), (1, 1)], "diagonal")]
    parts += [plot.line(line.points, f"curve {line.css}") for line in lines]
    return plot.draw(title, parts)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Names with their colours, as HTML.

    Args:
        entries: CSS class and name of each.
    """
    items = "".join(f'<span><i class="{css}"></i>{escape(name)}</span>' for css, name in entries)
    return f'<p class="legend">{items}</p>'
