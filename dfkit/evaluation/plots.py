"""Plots of an evaluation as inline SVG: ROC, DET on normal-deviate axes, reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import NormalDist

import numpy as np

from dfkit.evaluation.reliability import ReliabilityBin
from dfkit.measures.metrics import roc_curve
from dfkit.measures.spacing import evenly_spaced
from dfkit.report.svg import Line, Square, curves

DET_TICKS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
DET_ENDS = (0.005, 0.995)
"""Rates beyond are drawn at the edge: 0 and 1 lie at infinity on these axes."""


def probit(rate: float) -> float:
    """Normal deviate of a rate in [0, 1], scaled to a position in [0, 1] between `DET_ENDS`; clipped to them."""
    low, high = (NormalDist().inv_cdf(end) for end in DET_ENDS)
    clipped = min(max(rate, DET_ENDS[0]), DET_ENDS[1])
    return (NormalDist().inv_cdf(clipped) - low) / (high - low)


def roc_plot(series: Sequence[tuple[str, str, np.ndarray, np.ndarray]]) -> str:
    """ROC curves of several levels as an SVG.

    Args:
        series: Name, CSS class, labels (N,) and p_fake (N,) of each level.
    """
    lines = []
    for name, css, labels, p_fake in series:
        fpr, tpr, _ = roc_curve(labels, p_fake)
        lines.append(Line(name, css, thin_curve(fpr, tpr)))
    return curves(lines, title="ROC by level", x_label="false alarms", y_label="fakes found")


def thin_curve(x: np.ndarray, y: np.ndarray, *, max_points: int = 400) -> tuple[tuple[float, float], ...]:
    """Evenly chosen points of a curve, its ends included: tens of thousands would only make the page large.

    Args:
        x: (N,).
        y: (N,).
        max_points: At most so many are kept.
    """
    indices = evenly_spaced(len(x), max_points)
    return tuple((float(x[index]), float(y[index])) for index in indices)


def det_plot(series: Sequence[tuple[str, str, np.ndarray, np.ndarray]]) -> str:
    """DET curves, misses against false alarms, as an SVG; normally distributed scores give a straight line.

    Args:
        series: Name, CSS class, labels (N,) and p_fake (N,) of each level.
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
    parts += axis_labels(plot, "false alarms, %", "misses, %")
    parts.append(plot.line([(0, 0), (1, 1)], "diagonal"))
    for _, css, labels, p_fake in series:
        fpr, tpr, _ = roc_curve(labels, p_fake)
        points = [(probit(fpr_point), probit(1 - tpr_point)) for fpr_point, tpr_point in thin_curve(fpr, tpr)]
        parts.append(plot.line(points, f"curve {css}"))
    return plot.draw("DET by level", parts)


def axis_labels(plot: Square, x_label: str, y_label: str) -> list[str]:
    """SVG texts that name the axes of a plot which draws its own ticks."""
    middle, turned = plot.left + plot.side / 2, plot.top + plot.side / 2
    below = plot.top + plot.side + 34
    return [
        f'<text x="{middle:.1f}" y="{below:.1f}" text-anchor="middle">{escape(x_label)}</text>',
        f'<g transform="rotate(-90 12 {turned})">'
        f'<text x="12" y="{turned + 4}" text-anchor="middle">{escape(y_label)}</text></g>',
    ]


def reliability_plot(bins: Sequence[ReliabilityBin]) -> str:
    """Reliability diagram as an SVG: share of fakes against mean p_fake; a dot's area is its bin's count."""
    plot = Square()
    parts = [*plot.frame("p_fake", "share of fakes"), plot.line([(0, 0), (1, 1)], "diagonal")]
    parts.append(plot.line([(row.mean_p_fake, row.share_fake) for row in bins], "curve c0"))
    largest = max((row.num for row in bins), default=1)
    for row in bins:
        x, y = plot.at(row.mean_p_fake, row.share_fake)
        radius = 3 + 7 * (row.num / largest) ** 0.5
        tooltip = f"{row.num} videos with p_fake {row.low:.1f} to {row.high:.1f}: {row.share_fake:.0%} fake"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="c0"><title>{tooltip}</title></circle>')
    return plot.draw("Reliability diagram", parts)
