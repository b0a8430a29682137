"""Figures of attention: how much each stream gets over a video's time, and the most suspicious clip's maps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.files import write_atomically
from dfkit.models.mmms_ba import NetworkOutput
from dfkit.runtime.plot import VERDICT_COLORS, check_plotting, printable
from dfkit.runtime.results import ClipScore, VideoResult


class AttentionRecorder:
    """Records the attention that each time step of each clip gets, and the whole maps of the most suspicious clip.

    Memory grows by one row per map and clip: 1.2 kB a second of video for three modalities.
    """

    def __init__(self) -> None:
        self.received: list[dict[str, np.ndarray]] = []
        """Per clip, by map: (T_y,) attention that each step of the attended stream gets, mean over the T_x steps of the
        attending stream; sums to 1."""
        self.worst_maps: dict[str, np.ndarray] = {}
        """By name: (T_x, T_y) of the clip with the highest fake-minus-real margin of its logits."""
        self.worst_index = -1
        """That clip's place in `received`; -1 before the first clip."""
        self._worst_margin = -np.inf

    def add(self, output: NetworkOutput) -> None:
        """Records the output for a batch of one clip."""
        maps = {name: value[0].cpu().numpy() for name, value in output.attention.items()}
        margin = float(output.clip_logits[0, 1] - output.clip_logits[0, 0])
        if margin > self._worst_margin:
            self._worst_margin, self.worst_maps, self.worst_index = margin, maps, len(self.received)
        self.received.append({name: value.mean(axis=0) for name, value in maps.items()})


def attention_over_time(
    received: list[dict[str, np.ndarray]], spans_s: list[tuple[float, float]], *, steps_per_s: float
) -> dict[str, np.ndarray]:
    """Joins overlapping clips: attention per step relative to even attention.

    Args:
        received: Per clip, by map: (T_y,), summing to 1.
        spans_s: Start and end of each clip.
        steps_per_s: Time resolution of the result.
    Returns:
        By map: (S,) over the video from 0 s on, 1 where a step gets what even attention would give it; NaN where
        no clip is.
    """
    num_steps = max(1, round(max(end_s for _, end_s in spans_s) * steps_per_s))
    joined: dict[str, np.ndarray] = {}
    for name in received[0]:
        sums, counts = np.zeros(num_steps), np.zeros(num_steps)
        for clip, (start_s, end_s) in zip(received, spans_s, strict=True):
            first, last = round(start_s * steps_per_s), min(num_steps, max(round(end_s * steps_per_s), 1))
            relative = clip[name] * len(clip[name])
            # Step n of the result takes the clip's step at the same time.
            clip_steps = ((np.arange(last - first) + 0.5) * len(relative) / max(last - first, 1)).astype(int)
            sums[first:last] += relative[np.minimum(clip_steps, len(relative) - 1)]
            counts[first:last] += 1
        joined[name] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return joined


def attention_label(name: str) -> str:
    """A map's name for people: `face_lip` becomes `face looks at lip`."""
    attending, attended = name.split("_")
    return f"{attending} looks at {attended}" if attending != attended else f"{attending} looks at itself"


def draw_attention(
    result: VideoResult, recorder: AttentionRecorder, clips: list[ClipScore], path: str | Path, *, fps: float
) -> Path:
    """Draws the attention of a video into a file.

    Args:
        result: Of the video; it has a score.
        recorder: Holds the network's attention for the clips, in their order.
        clips: The scored clips; empty for `uniform50`, where the one clip is the video.
        path: File to write; the suffix is the file type.
        fps: Frames per second of the clip contract.
    Returns:
        The path.
    Raises:
        MissingExtraError: matplotlib is not installed.
        DfkitError: The file cannot be written.
    """
    check_plotting(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    worst = result.worst_track
    assert worst is not None
    spans = {n: (clip.start_s, clip.end_s) for n, clip in enumerate(clips) if clip.track_id == worst.track_id}
    if not clips:
        spans = {0: (0.0, worst.frames[-1][0])}
    received = [recorder.received[n] for n in spans]
    joined = attention_over_time(received, list(spans.values()), steps_per_s=fps)
    figure = Figure(layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    columns = max(3, -(-len(recorder.worst_maps) // 2))
    map_rows = -(-len(recorder.worst_maps) // columns)
    figure.set_size_inches(12, 1.9 + 0.42 * len(joined) + 3.1 * map_rows)
    name, font = printable(Path(result.video).name)
    options: dict[str, Any] = {"fontfamily": font} if font else {"fontweight": "bold"}
    figure.suptitle(f"{name}   attention", fontsize=14, **options)
    subfigures: Any = figure.subfigures(2, 1, height_ratios=[1.5 + 0.42 * len(joined), 3.1 * map_rows])
    upper, lower = subfigures
    _draw_over_time(upper, result, joined, fps)
    _draw_maps(lower, recorder, clips, columns, spans)
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:].lower(), dpi=110)
    return write_atomically(path, content.getvalue())


def _draw_over_time(figure: Any, result: VideoResult, joined: dict[str, np.ndarray], fps: float) -> None:
    worst = result.worst_track
    assert worst is not None
    rows = figure.subplots(len(joined) + 1, 1, sharex=True, height_ratios=[2.4, *([1] * len(joined))])
    curve = rows[0]
    curve.plot(*zip(*worst.frames, strict=True), color=VERDICT_COLORS.get(result.verdict or "", "#111827"), lw=1)
    curve.set_ylim(-0.02, 1.02)
    curve.set_ylabel("P(fake)")
    curve.grid(alpha=0.25, lw=0.6)
    values = np.concatenate(list(joined.values()))
    highest = max(2.0, float(np.nanquantile(values, 0.995)))
    mesh = None
    for axes, (name, row) in zip(rows[1:], joined.items(), strict=True):
        edges = np.arange(len(row) + 1) / fps
        mesh = axes.pcolormesh(edges, [0, 1], row[None], cmap="magma", vmin=0, vmax=highest, shading="flat")
        axes.set_yticks([0.5], [attention_label(name)], fontsize=9)
        axes.set_facecolor("#e5e7eb")
    rows[-1].set_xlabel("seconds")
    figure.colorbar(mesh, ax=list(rows[1:]), pad=0.01, fraction=0.02, aspect=20, label="times even")


def _draw_maps(
    figure: Any,
    recorder: AttentionRecorder,
    clips: list[ClipScore],
    columns: int,
    spans: dict[int, tuple[float, float]],
) -> None:
    if clips:
        worst_clip = clips[recorder.worst_index]
        start_s, end_s = worst_clip.start_s, worst_clip.end_s
    else:
        start_s, end_s = spans[0]
    figure.suptitle(f"most suspicious clip, {start_s:.1f} to {end_s:.1f} s", fontsize=10, color="#6b7280")
    even = {name: values * values.shape[1] for name, values in recorder.worst_maps.items()}
    highest = max(2.0, *(float(values.max()) for values in even.values()))
    drawn: list[Any] = []
    for place, (name, values) in enumerate(even.items()):
        axes = figure.add_subplot(-(-len(even) // columns), columns, place + 1)
        image = axes.imshow(
            values,
            cmap="magma",
            vmin=0,
            vmax=highest,
            aspect="auto",
            origin="lower",
            extent=(start_s, end_s, start_s, end_s),
            interpolation="nearest",
        )
        attending, attended = name.split("_")
        axes.set_title(attention_label(name), fontsize=9)
        axes.set_xlabel(f"{attended}, s", fontsize=8)
        axes.set_ylabel(f"{attending}, s", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
        drawn.append(axes)
    bar = figure.colorbar(image, ax=drawn, fraction=0.02, pad=0.01, aspect=30, label="times even")
    bar.ax.tick_params(labelsize=7)
