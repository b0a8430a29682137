"""A search as table and plot: `search.csv` and `search.png`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkit.config import SearchConfig
from dfkit.data.catalog import write_atomically
from dfkit.distill.variants import Spread
from dfkit.errors import MissingExtraError
from dfkit.runtime.files import write_atomically as write_bytes_atomically
from dfkit.search.measure import Figures
from dfkit.search.points import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV_FILE, PLOT_FILE = "search.csv", "search.png"
FIGURE_INCHES = (9.0, 4.2)
DPI = 130
COLOR_VAL, COLOR_TEST, COLOR_LIMIT, COLOR_MUTED = "#1d4ed8", "#d97706", "#b91c1c", "#9ca3af"
NUDGE = 0.006
"""Share of the axis by which validation and test are moved apart, so that equal ones are both seen."""


def write_report(
    folder: Path, points: Sequence[Point], measured: Sequence[Figures], best: str, search: SearchConfig
) -> None:
    """Writes the table and the plot.

    Args:
        folder: Of the search.
        points: What was distilled.
        measured: Every candidate that was timed.
        best: Label of the point that is taken.
        search: The targets.
    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    write_atomically(folder / CSV_FILE, table_csv(points, measured, best))
    write_bytes_atomically(folder / PLOT_FILE, plot_png(points, best, search))


def table_csv(points: Sequence[Point], measured: Sequence[Figures], best: str) -> str:
    """One row per timed candidate; AUC columns are empty where it was not distilled."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["label", "model_mb", "clip_p50_ms", "clip_p90_ms", "encode_p50_ms", "score_p50_ms", "meets", "taken", "seeds"]
        + [f"{part}_auc_{figure}" for part in ("val", "test") for figure in ("mean", "std")]
    )
    by_label = {point.figures.label: point for point in points}
    for row in sorted(measured, key=lambda figures: figures.clip_p50_ms):
        point = by_label.get(row.label)
        # Where one candidate was distilled its figures are those of the one file.
        shown = row if point is None else point.figures
        cells: list[Any] = [row.label, f"{shown.model_mb:.6f}"]
        cells += [
            f"{value:.3f}" for value in (shown.clip_p50_ms, shown.clip_p90_ms, shown.encode_p50_ms, shown.score_p50_ms)
        ]
        if point is None:
            writer.writerow([*cells, "", "no", "", "", "", "", ""])
            continue
        auc = [_number(value) for part in (point.val_auc, point.test_auc) for value in (part.mean, part.std)]
        meets, taken = ("yes" if flag else "no" for flag in (point.meets, row.label == best))
        writer.writerow([*cells, meets, taken, len(point.val_auc.values), *auc])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def plot_png(points: Sequence[Point], best: str, search: SearchConfig) -> bytes:
    """AUC against time and against size, mean and standard deviation over seeds.

    Args:
        points: What was distilled.
        best: Label of the point that is taken; it gets a ring.
        search: Targets are dashed lines.
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
    times = [point.figures.clip_p50_ms for point in points]
    sizes = [point.figures.model_mb for point in points]
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
    axes: Axes, points: Sequence[Point], places: Sequence[float], best: str, limit: float | None, name: str
) -> None:
    width = (max(places) - min(places)) or max(places)
    for label, color, marker, side in (("validation", COLOR_VAL, "o", -1), ("test", COLOR_TEST, "s", 1)):
        found = [
            (place + side * NUDGE * width, auc.mean, auc.std or 0.0)
            for place, auc in ((place, _of(point, label)) for place, point in zip(places, points, strict=True))
            if auc.mean is not None
        ]
        axes.errorbar(
            [place for place, _, _ in found],
            [mean for _, mean, _ in found],
            yerr=[std for _, _, std in found],
            fmt=marker,
            color=color,
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=f"{label} part",
        )
    for place, point in zip(places, points, strict=True):
        if point.figures.label == best and point.val_auc.mean is not None:
            ring: dict[str, Any] = {"s": 160, "facecolors": "none", "edgecolors": COLOR_VAL, "linewidths": 1.5}
            axes.scatter([place - NUDGE * width], [point.val_auc.mean], label="taken, by validation", **ring)
    if limit is not None:
        axes.axvline(limit, color=COLOR_LIMIT, linestyle="--", linewidth=1.2, label="target")
    axes.axhline(0.5, color=COLOR_MUTED, linewidth=1)
    axes.set_xlabel(name)
    axes.set_xlim(left=0)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side_name in ("top", "right"):
        axes.spines[side_name].set_visible(False)


def _of(point: Point, part: str) -> Spread:
    return point.val_auc if part == "validation" else point.test_auc
