"""Plots of an evaluation as inline SVG: ROC, DET on normal-deviate axes, reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import NormalDist

import numpy as np

from dfkit.benchmarks.metrics import roc_curve
from dfkit.benchmarks.svg import Line, Square, curves
from dfkit.evaluation.calibration import ReliabilityBin

DET_TICKS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
DET_ENDS = (0.005, 0.995)
"""Rates beyond are drawn at the edge: 0 and 1 lie at infinity on these axes."""


def probit(rate: float) -> float:
    """Normal deviate of a rate, as a place in [0, 1] between the plot's ends."""
    low, high = (NormalDist().inv_cdf(end) for end in DET_ENDS)
    inside = min(max(rate, DET_ENDS[0]), DET_ENDS[1])
    return (NormalDist().inv_cdf(inside) - low) / (high - low)


def roc_plot(series: Sequence[tuple[str, str, np.ndarray, np.ndarray]]) -> str:
    """ROC of several levels: name, CSS class, labels and p_fake of each."""
    lines = []
    for name, css, labels, p_fake in series:
        fpr, tpr, _ = roc_curve(labels, p_fake)
        lines.append(Line(name, css, thinned(fpr, tpr)))
    return curves(lines, title="ROC by level", x_label="false alarms", y_label="fakes found")


def thinned(x: np.ndarray, y: np.ndarray, *, most: int = 400) -> tuple[tuple[float, float], ...]:
    """At most so many points of a curve, its ends included: tens of thousands would only make the page large."""
    places = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))
    return tuple((float(x[i]), float(y[i])) for i in places)


def det_plot(series: Sequence[tuple[str, str, np.ndarray, np.ndarray]]) -> str:
    """Misses against false alarms; a straight line is what normally distributed scores give.

    Source: Martin et al. 1997, The DET curve in assessment of detection task performance.
    """
    plot = Square()
    right, bottom = plot.left + plot.side, plot.top + plot.side
    parts = []
    for tick in DET_TICKS:
        x, y = plot.at(probit(tick), probit(tick))
        parts.append(f'<line x1="{x:.1f}" y1="{plot.top}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        parts.append(f'<line x1="{plot.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" class="m">{100 * tick:g}</text>')
        parts.append(f'<text x="{plot.left - 6}" y="{y + 4:.1f}" text-anchor="end" class="m">{100 * tick:g}</text>')
    parts += axis_names(plot, "false alarms, %", "misses, %")
    parts.append(plot.line([(0, 0), (1, 1)], "diagonal"))
    for _, css, labels, p_fake in series:
        fpr, tpr, _ = roc_curve(labels, p_fake)
        points = [(probit(a), probit(1 - b)) for a, b in thinned(fpr, tpr)]
        parts.append(plot.line(points, f"curve {css}"))
    return plot.draw("DET by level", parts)


def axis_names(plot: Square, x_label: str, y_label: str) -> list[str]:
    """The names below and beside a plot whose ticks are its own."""
    middle, turned = plot.left + plot.side / 2, plot.top + plot.side / 2
    below = plot.top + plot.side + 34
    return [
        f'<text x="{middle:.1f}" y="{below:.1f}" text-anchor="middle">{escape(x_label)}</text>',
        f'<g transform="rotate(-90 12 {turned})">'
        f'<text x="12" y="{turned + 4}" text-anchor="middle">{escape(y_label)}</text></g>',
    ]


def reliability_plot(bins: Sequence[ReliabilityBin]) -> str:
    """Share of fakes against mean p_fake of each bin; the dots' areas are the bins' counts."""
    plot = Square()
    parts = [*plot.frame("p_fake", "share of fakes"), plot.line([(0, 0), (1, 1)], "diagonal")]
    parts.append(plot.line([(row.mean_p_fake, row.share_fake) for row in bins], "curve c0"))
    most = max((row.num for row in bins), default=1)
    for row in bins:
        x, y = plot.at(row.mean_p_fake, row.share_fake)
        radius = 3 + 7 * (row.num / most) ** 0.5
        said = f"{row.num} videos with p_fake {row.low:.1f} to {row.high:.1f}: {row.share_fake:.0%} fake"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="c0"><title>{said}</title></circle>')
    return plot.draw("Reliability diagram", parts)
