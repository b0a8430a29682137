"""Table and plot of a search: `search.csv` and `search.png`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkit.config import SearchConfig
from dfkit.distill.search.measure import CandidateMeasurement
from dfkit.distill.search.points import SearchPoint
from dfkit.errors import MissingExtraError
from dfkit.files import write_atomically
from dfkit.measures.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV_FILE, PLOT_FILE = "search.csv", "search.png"
FIGURE_INCHES = (9.0, 4.2)
DPI = 130
COLOR_VAL, COLOR_TEST, COLOR_LIMIT, COLOR_MUTED = "#1d4ed8", "#d97706", "#b91c1c", "#9ca3af"
NUDGE = 0.006
"""Share of the axis by which validation and test points are moved apart, so that equal ones are both visible."""


def write_report(
    folder: Path,
    points: Sequence[SearchPoint],
    measurements: Sequence[CandidateMeasurement],
    best: str,
    search: SearchConfig,
    *,
    processor: str,
) -> None:
    """Writes the table and the plot.

    Args:
        folder: Of the search.
        points: The distilled candidates.
        measurements: Every candidate that was timed.
        best: Label of the point that is taken.
        search: The targets.
        processor: That the times were taken on.
    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    write_atomically(folder / CSV_FILE, table_csv(points, measurements, best, processor=processor))
    write_atomically(folder / PLOT_FILE, plot_png(points, best, search))


def table_csv(
    points: Sequence[SearchPoint], measurements: Sequence[CandidateMeasurement], best: str, *, processor: str
) -> str:
    """Content of `search.csv`: one row per timed candidate, with empty AUC columns where it was not distilled.

    Args:
        points: The distilled candidates.
        measurements: Every candidate that was timed.
        best: Label of the point that is taken.
        processor: That the times were taken on.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["label", "model_mb", "clip_p50_ms", "clip_p90_ms", "encode_p50_ms", "score_p50_ms"]
        + ["fp32_mb", "fp32_clip_p50_ms", "processor", "meets", "taken", "seeds"]
        + [f"{part}_auc_{figure}" for part in ("val", "test") for figure in ("mean", "std")]
    )
    by_label = {point.measurement.label: point for point in points}
    for row in sorted(measurements, key=lambda measurement: measurement.clip_p50_ms):
        point = by_label.get(row.label)
        # Where only one candidate was distilled, it was measured as one file.
        measurement = row if point is None else point.measurement
        times_ms = (
            measurement.clip_p50_ms,
            measurement.clip_p90_ms,
            measurement.encode_p50_ms,
            measurement.score_p50_ms,
        )
        cells: list[Any] = [row.label, f"{measurement.model_mb:.6f}", *(f"{time_ms:.3f}" for time_ms in times_ms)]
        cells += [f"{measurement.fp32_mb:.6f}", f"{measurement.fp32_clip_p50_ms:.3f}", processor]
        if point is None:
            writer.writerow([*cells, "", "no", "", "", "", "", ""])
            continue
        aucs = (point.val_auc.mean, point.val_auc.std, point.test_auc.mean, point.test_auc.std)
        cells += ["yes" if point.meets else "no", "yes" if row.label == best else "no"]
        cells += [len(point.val_auc.values), *(_format_auc(auc) for auc in aucs)]
        writer.writerow(cells)
    return text.getvalue()


def _format_auc(auc: float | None) -> str:
    return "" if auc is None else f"{auc:.4f}"


def plot_png(points: Sequence[SearchPoint], best: str, search: SearchConfig) -> bytes:
    """Content of `search.png`: AUC against latency and against size, mean and standard deviation over seeds.

    Args:
        points: The distilled candidates.
        best: Label of the point that is taken; it gets a ring.
        search: The targets, drawn as dashed lines.
    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    figure = Figure(figsize=FIGURE_INCHES, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    times = [point.measurement.clip_p50_ms for point in points]
    sizes = [point.measurement.model_mb for point in points]
    _draw(left, points, times, best, search.target_ms, "ms a clip, p50, one thread")
    _draw(right, points, sizes, best, search.target_mb, "MB, INT8 .tflite")
    left.set_ylabel("video AUC")
    seeds = len(points[0].val_auc.values)
    figure.suptitle(f"Students of one teacher, mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


def _draw(
    axes: Axes, points: Sequence[SearchPoint], x_values: Sequence[float], best: str, limit: float | None, name: str
) -> None:
    nudge = NUDGE * ((max(x_values) - min(x_values)) or max(x_values))
    val_aucs = [point.val_auc for point in points]
    test_aucs = [point.test_auc for point in points]
    _draw_aucs(axes, [x - nudge for x in x_values], val_aucs, fmt="o", color=COLOR_VAL, label="validation part")
    _draw_aucs(axes, [x + nudge for x in x_values], test_aucs, fmt="s", color=COLOR_TEST, label="test part")
    for x, point in zip(x_values, points, strict=True):
        if point.measurement.label == best and point.val_auc.mean is not None:
            ring: dict[str, Any] = {"s": 160, "facecolors": "none", "edgecolors": COLOR_VAL, "linewidths": 1.5}
            axes.scatter([x - nudge], [point.val_auc.mean], label="taken, by validation", **ring)
    if limit is not None:
        axes.axvline(limit, color=COLOR_LIMIT, linestyle="--", linewidth=1.2, label="target")
    axes.axhline(0.5, color=COLOR_MUTED, linewidth=1)
    axes.set_xlabel(name)
    axes.set_xlim(left=0)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side_name in ("top", "right"):
        axes.spines[side_name].set_visible(False)


def _draw_aucs(
    axes: Axes, x_values: Sequence[float], aucs: Sequence[Spread], *, fmt: str, color: str, label: str
) -> None:
    """Mean and standard deviation of each point; an undefined AUC is left out."""
    defined = [(x, auc.mean, auc.std or 0.0) for x, auc in zip(x_values, aucs, strict=True) if auc.mean is not None]
    axes.errorbar(
        [x for x, _, _ in defined],
        [mean for _, mean, _ in defined],
        yerr=[std for _, _, std in defined],
        fmt=fmt,
        color=color,
        markersize=5,
        capsize=3,
        linewidth=1.2,
        label=label,
    )
