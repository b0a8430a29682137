"""A figure of one video: sampled faces and the most suspicious ones, P(fake) against time, a heat strip per face.

Any length takes the same way: faces are sampled while the video is scored, in a store that thins itself out.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfkit.errors import ConfigError, MissingExtraError
from dfkit.files import write_atomically
from dfkit.measures.decision import OperatingPoint, verdict_of
from dfkit.measures.spacing import evenly_spaced
from dfkit.media.stream import FaceFrame
from dfkit.runtime.results import TrackResult, VideoResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACES_SHOWN = 8
SUSPECTS_SHOWN = 3
PICTURES_KEPT = 300
"""Faces held while a video is scored, 11 MB of thumbnails: which are suspicious is known at the end only."""
SUSPECTS_APART_S = 0.5
"""Neighbouring frames show the same face: the most suspicious ones are taken from different moments."""
THUMBNAIL_STEP = 2
"""Every second pixel of the face crop: 112 px are enough at this size."""
PLOT_SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
MAX_STRIPS = 6
COLOR_REAL, COLOR_FAKE, COLOR_REVIEW, COLOR_MUTED = "#2166ac", "#b2182b", "#d97706", "#6b7280"
VERDICT_COLORS = {"real": COLOR_REAL, "fake": COLOR_FAKE, "review": COLOR_REVIEW}
MATCH_S = 0.06
"""A sampled face takes the score of a frame this near: 1.5 grid steps at 25 fps."""
TRACK_COLORS = ("#111827", "#7c3aed", "#0d9488", "#b45309", "#be185d", "#4d7c0f")
KOREAN_FONTS = (
    "Noto Sans CJK",
    "Noto Sans KR",
    "Nanum",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "UnDotum",
)


@dataclass(frozen=True)
class Thumbnail:
    """A reduced face crop of one track at one time."""

    track_id: int
    t_s: float
    rgb: np.ndarray
    """(112, 112, 3) uint8."""


class FaceSampler:
    """Keeps evenly spread faces of a stream of unknown length.

    Each time more pictures are held than wanted, every second one is dropped and the step doubled: memory stays
    bounded, and what is left is spread over all that was seen.
    """

    def __init__(self, num_shown: int = FACES_SHOWN, *, num_held: int = PICTURES_KEPT) -> None:
        """Starts empty.

        Args:
            num_shown: How many spread pictures are shown in the end.
            num_held: How many moments are held at most, to choose the most suspicious ones from.
        """
        self._num_shown, self._num_held = num_shown, max(num_held, 2 * num_shown)
        self._step = 1
        self._by_index: dict[int, list[Thumbnail]] = {}

    def add(self, face: FaceFrame) -> None:
        """Takes a thumbnail of a face, if its moment is one of those held; faces come in order of time."""
        if face.index % self._step:
            return
        small = face.face[::THUMBNAIL_STEP, ::THUMBNAIL_STEP].copy()
        self._by_index.setdefault(face.index, []).append(Thumbnail(face.track_id, face.t_s, small))
        if len(self._by_index) > self._num_held:
            self._step *= 2
            self._by_index = {i: faces for i, faces in self._by_index.items() if i % self._step == 0}

    def pick(self, track_id: int | None) -> list[Thumbnail]:
        """The faces to show, in order of time: of one track, or of whichever is there where it is None."""
        candidates: list[Thumbnail] = []
        for _, faces in sorted(self._by_index.items()):
            matching = [face for face in faces if track_id is None or face.track_id == track_id]
            candidates += matching[:1]
        if len(candidates) <= self._num_shown:
            return candidates
        return [candidates[place] for place in evenly_spaced(len(candidates), self._num_shown)]

    def pick_suspects(self, track: TrackResult, num_shown: int = SUSPECTS_SHOWN) -> list[Thumbnail]:
        """The faces of a track with the highest scores among those held, at different moments, highest first."""
        scored: list[tuple[float, Thumbnail]] = []
        for faces in self._by_index.values():
            for face in faces:
                p_fake = _frame_score(track, face.t_s) if face.track_id == track.track_id else None
                if p_fake is not None:
                    scored.append((p_fake, face))
        suspects: list[Thumbnail] = []
        for _, face in sorted(scored, key=lambda pair: (-pair[0], pair[1].t_s)):
            if all(abs(face.t_s - other.t_s) >= SUSPECTS_APART_S for other in suspects):
                suspects.append(face)
        return suspects[:num_shown]


def check_plotting(path: str | Path) -> None:
    """Says before any work whether a figure can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: Not a file type of figures.
    """
    if Path(path).suffix.lower() not in PLOT_SUFFIXES:
        raise ConfigError(f"{path} is no figure file", fix=f"end its name with one of {', '.join(PLOT_SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", "plot") from error


def default_font() -> str:
    """Name of the font that matplotlib uses when not told otherwise."""
    from matplotlib import font_manager

    return font_manager.FontProperties().get_name()


@lru_cache(maxsize=64)
def font_for(text: str) -> str | None:
    """Name of an installed font that has a glyph for every character of a text.

    matplotlib's own font comes first, then fonts with Korean, then the rest. None where there is none.
    """
    from matplotlib import font_manager

    default = default_font()
    # By name, each with the file of one of its weights: the weights of a family share their characters.
    files = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist}
    ordered = sorted(files, key=lambda name: (name != default, not name.startswith(KOREAN_FONTS), name))
    return next((name for name in ordered if _has_glyphs(files[name], text)), None)


def _has_glyphs(font_file: str, text: str) -> bool:
    from matplotlib import ft2font

    try:
        face = ft2font.FT2Font(font_file)
    except (RuntimeError, OSError):
        return False
    return all(face.get_char_index(ord(character)) for character in text)


def printable(text: str) -> tuple[str, str | None]:
    """A text that can be drawn, and the font to draw it with.

    Where no font has the glyphs, characters outside ASCII are written as \\uXXXX: visible, unlike boxes.
    The font is None where matplotlib's own will do.
    """
    # Control characters (a file name may hold a line break) have no glyph in any font.
    text = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    font = font_for(text.replace("\n", ""))
    shown = text if font else text.encode("ascii", "backslashreplace").decode("ascii")
    # matplotlib reads two dollar signs as mathematics.
    return shown.replace("$", r"\$"), None if font == default_font() else font


def plot_video(result: VideoResult, sampler: FaceSampler, path: str | Path, *, point: OperatingPoint) -> Path:
    """Draws one video's figure.

    Args:
        result: Of any status; without a score the figure says why.
        sampler: The faces seen while it was scored.
        path: Where to; the suffix is the file type.
        point: Threshold and review band.
    Returns:
        The path.
    Raises:
        MissingExtraError: matplotlib is not installed.
        DfkitError: The file cannot be written.
    """
    check_plotting(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figure, not pyplot: no window system is touched and no global state left behind.
    figure = Figure(layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    _write_title(figure, result)
    _write_remarks(figure, result)
    worst = result.worst_track
    faces = sampler.pick(worst.track_id if worst else None)
    if worst is None:
        _lay_out_reason(figure, result, faces)
    else:
        _lay_out_scores(figure, result, (faces, sampler.pick_suspects(worst)), worst, point)
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:].lower(), dpi=110)
    return write_atomically(path, content.getvalue())


def _lay_out_reason(figure: Figure, result: VideoResult, faces: list[Thumbnail]) -> None:
    figure.set_size_inches(12, 3.2 if faces else 1.6)
    rows = figure.add_gridspec(2 if faces else 1, 1)
    if faces:
        _draw_faces(figure, rows[0].subgridspec(1, FACES_SHOWN, wspace=0.04), faces, None, None)
    axes = figure.add_subplot(rows[len(faces) > 0])
    axes.axis("off")
    text, font = printable("\n".join(textwrap.wrap(result.reason or result.status, 110)))
    kwargs: dict[str, Any] = {"fontfamily": font} if font else {}
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=12, transform=axes.transAxes, **kwargs)


def _lay_out_scores(
    figure: Figure,
    result: VideoResult,
    faces: tuple[list[Thumbnail], list[Thumbnail]],
    worst: TrackResult,
    point: OperatingPoint,
) -> None:
    """Three rows: spread and most suspicious faces, curves, strips."""
    strips = result.tracks[:MAX_STRIPS]
    strip_height = 0.32 * len(strips) + 0.1
    figure.set_size_inches(12, 5.3 + strip_height)
    rows = figure.add_gridspec(3, 1, height_ratios=[1.35, 2.7, strip_height])
    # One grid for both, so that all pictures are of one size; the narrow column parts them.
    ratios = [1] * FACES_SHOWN + [0.15] + [1] * SUSPECTS_SHOWN
    row = rows[0].subgridspec(1, len(ratios), width_ratios=ratios, wspace=0.04)
    for shown, first, title in ((faces[0], 0, "over the video"), (faces[1], FACES_SHOWN + 1, "most suspicious")):
        _draw_faces(figure, [row[first + place] for place in range(len(shown))], shown, worst, point)
        if shown:
            figure.axes[-len(shown)].set_title(title, fontsize=9, color=COLOR_MUTED, loc="left")
    curve = figure.add_subplot(rows[1])
    strip = figure.add_subplot(rows[2], sharex=curve)
    _draw_curves(curve, result, point)
    mesh = _draw_strips(strip, strips, point)
    figure.colorbar(mesh, ax=[curve, strip], pad=0.01, fraction=0.02, aspect=40, label="P(fake)")


def _write_title(figure: Figure, result: VideoResult) -> None:
    name, font = printable(Path(result.video).name)
    headline = result.status if result.p_fake is None else f"{result.verdict}   P(fake) {result.p_fake:.3f}"
    color = VERDICT_COLORS.get(result.verdict or "", "#111827")
    # Bold only in matplotlib's own font: another one may not have it, and would be warned about.
    kwargs: dict[str, Any] = {"fontfamily": font} if font else {"fontweight": "bold"}
    figure.suptitle(f"{name}   {headline}", fontsize=14, color=color, **kwargs)


def _write_remarks(figure: Figure, result: VideoResult) -> None:
    """Below everything: why it is `review`, and what of the file was read."""
    read = [] if result.read is None or result.read.missing is not None else [f"read {result.read.text}"]
    lines = [line for remark in [*result.remarks(), *read] for line in textwrap.wrap(remark, 150)]
    if lines:
        text, font = printable("\n".join(lines))
        kwargs: dict[str, Any] = {"fontfamily": font} if font else {}
        figure.supxlabel(text, fontsize=9, color=COLOR_MUTED, x=0.01, ha="left", **kwargs)


def _draw_faces(
    figure: Figure, cells: Any, faces: list[Thumbnail], track: TrackResult | None, point: OperatingPoint | None
) -> None:
    for place, face in enumerate(faces):
        axes = figure.add_subplot(cells[place])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.imshow(face.rgb)
        label, color = f"{face.t_s:.1f} s", COLOR_MUTED
        p_fake = None if track is None else _frame_score(track, face.t_s)
        if p_fake is not None and point is not None:
            label, color = f"{label}   P {p_fake:.2f}", VERDICT_COLORS[verdict_of(p_fake, point)]
        axes.set_xlabel(label, fontsize=9)
        for spine in axes.spines.values():
            spine.set_color(color)
            spine.set_linewidth(2.5)


def _frame_score(track: TrackResult, t_s: float) -> float | None:
    """P(fake) of the frame at a time; None where no clip covers it."""
    times = np.array([t for t, _ in track.frames])
    nearest = int(np.argmin(np.abs(times - t_s)))
    return track.frames[nearest][1] if abs(times[nearest] - t_s) <= MATCH_S else None


def _draw_curves(axes: Axes, result: VideoResult, point: OperatingPoint) -> None:
    if point.review_low < point.review_high:
        axes.axhspan(point.review_low, point.review_high, color=COLOR_REVIEW, alpha=0.15, label="review band", lw=0)
    axes.axhline(point.threshold, color=COLOR_FAKE, ls="--", lw=1.2, label=f"threshold {point.threshold:.2f}")
    _mark_worst_clip(axes, result)
    for place, track in enumerate(result.tracks):
        color = TRACK_COLORS[place % len(TRACK_COLORS)]
        times, values = _with_gaps(track)
        name = f"track {track.track_id}" if len(result.tracks) > 1 else "the face"
        # Which detector found it: a distant face has few pixels, and its score rests on them.
        name += "" if track.found_by is None else f" ({track.found_by.replace('_', ' ')})"
        axes.plot(times, values, color=color, lw=0.9, alpha=0.55)
        middles = [(start + end) / 2 for start, end, _ in track.clips]
        clips = [p for *_, p in track.clips]
        axes.plot(
            middles,
            clips,
            "o",
            ms=5.5,
            color=color,
            mec="white",
            mew=0.8,
            label=f"{name}: P {track.p_fake:.2f}",
        )
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(*_span(result.tracks))
    axes.set_ylabel("P(fake)   (line: frames, dots: clips)")
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelbottom=False)
    columns = min(len(result.tracks) + 3, 5)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=9, frameon=False)


def _mark_worst_clip(axes: Axes, result: VideoResult) -> None:
    worst = result.worst_clip
    assert worst is not None
    middle = (worst.start_s + worst.end_s) / 2
    # Its time stands in the legend: beside the mark it would lie on the curves, or past the end of the axes.
    label = f"most suspicious clip: {worst.start_s:.1f} to {worst.end_s:.1f} s, P {worst.p_fake:.2f}"
    axes.plot(middle, worst.p_fake, "o", ms=12, mfc="none", mec=COLOR_FAKE, mew=1.5, label=label, ls="")


def _span(tracks: tuple[TrackResult, ...]) -> tuple[float, float]:
    first = min(track.clips[0][0] for track in tracks)
    return (0.0 if first < 1 else first), max(track.clips[-1][1] for track in tracks)


def _with_gaps(track: TrackResult) -> tuple[np.ndarray, np.ndarray]:
    """Times and values with a NaN wherever the face was away, so that no line crosses the gap."""
    times = np.array([t for t, _ in track.frames])
    values = np.array([p for _, p in track.frames])
    steps = np.diff(times)
    holes = np.flatnonzero(steps > 1.5 * steps.min()) + 1
    # A hair after the last frame before the gap: times must rise for the heat strip's cells.
    return np.insert(times, holes, times[holes - 1] + steps.min()), np.insert(values, holes, np.nan)


def _draw_strips(axes: Axes, tracks: tuple[TrackResult, ...], point: OperatingPoint) -> Any:
    from matplotlib.colors import TwoSlopeNorm

    # White lies at the threshold, which must be strictly inside of the scale.
    norm = TwoSlopeNorm(min(max(point.threshold, 0.01), 0.99), 0.0, 1.0)
    mesh = None
    for place, track in enumerate(tracks):
        times, values = _with_gaps(track)
        edges = np.append(times, times[-1] + np.diff(times).min())
        mesh = axes.pcolormesh(edges, [place, place + 0.86], values[None], cmap="RdBu_r", norm=norm, shading="flat")
    axes.set_ylim(len(tracks) - 0.07, -0.07)
    axes.set_yticks([place + 0.43 for place in range(len(tracks))] if len(tracks) > 1 else [])
    axes.set_yticklabels([f"track {track.track_id}" for track in tracks] if len(tracks) > 1 else [])
    axes.set_xlabel("seconds")
    axes.set_facecolor("#e5e7eb")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return mesh
