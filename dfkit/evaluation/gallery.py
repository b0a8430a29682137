"""`dfkit visualize`: a figure of every video, and an index page of all, with relative links."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.benchmarks.html import document, note
from dfkit.errors import ConfigError
from dfkit.runtime.detector import Detector
from dfkit.runtime.files import write_atomically
from dfkit.runtime.plot import FaceSampler, check_plotting, plot_video
from dfkit.runtime.predict import find_videos
from dfkit.runtime.results import VideoResult

INDEX_FILE = "index.html"
VERDICT_PILLS = {"real": "pass", "fake": "fail", "review": "open"}
STYLE = (
    ".gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px; }"
    ".gallery .card { margin: 0; padding: 12px; display: flex; gap: 12px; align-items: flex-start; min-width: 0; }"
    ".gallery img, .gallery .blank { width: 84px; height: 84px; border-radius: 8px; flex: none; }"
    ".gallery .blank { background: var(--grid); }"
    ".gallery p { overflow-wrap: anywhere; font-size: .92rem; margin: 0 0 4px; }"
    ".gallery a { color: inherit; }"
)


@dataclass(frozen=True)
class Entry:
    """One video of the page; file names are relative to it."""

    result: VideoResult
    figure: str
    thumbnail: str | None
    attention: str | None


@dataclass(frozen=True)
class Gallery:
    """What was drawn."""

    index: Path
    entries: tuple[Entry, ...]

    def summary(self) -> list[str]:
        """Lines for people."""
        lines = [line for entry in self.entries for line in entry.result.summary()]
        return [*lines, f"{len(self.entries)} figures: {self.index}"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        rows = [
            {**e.result.to_json(), "figure": e.figure, "thumbnail": e.thumbnail, "attention": e.attention}
            for e in self.entries
        ]
        return {"index": str(self.index), "videos": rows}


def draw_gallery(videos: Iterable[str | Path], detector: Detector, out_dir: str | Path) -> Gallery:
    """Scores videos and draws each; a checkpoint's attention, too.

    Args:
        videos: Files and folders.
        detector: Of a bundle or of a checkpoint.
        out_dir: New or empty folder.
    Returns:
        The drawn entries, most suspicious first in the page, in the videos' order here.
    Raises:
        ConfigError: No video was named, or the folder holds something already.
        MissingExtraError: matplotlib is not installed.
        DfkitError: A file cannot be written.
    """
    folder = Path(out_dir)
    check_plotting("figure.png")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} holds something already, and nothing is overwritten", fix="--out NEW_FOLDER")
    found = find_videos(videos)
    entries = [
        _draw_one(detector, video, folder, f"{number:03d}_{video.stem}") for number, video in enumerate(found, 1)
    ]
    write_atomically(folder / INDEX_FILE, render_index(entries, str(detector.bundle.path)))
    return Gallery(folder / INDEX_FILE, tuple(entries))


def _draw_one(detector: Detector, video: Path, folder: Path, name: str) -> Entry:
    sampler = FaceSampler()
    recorder = _record_attention(detector)
    result = detector.detect(video, watch=sampler.add)
    figure = f"figures/{name}.png"
    plot_video(result, sampler, folder / figure, point=detector.bundle.manifest.operating_point)
    attention = None
    if recorder is not None and recorder.worst_maps:
        from dfkit.evaluation.attention import draw_attention

        attention = f"figures/{name}.attention.png"
        clips = detector.last_clips if detector.bundle.manifest.clip_spec.preset == "clip2s" else []  # type: ignore[attr-defined]
        draw_attention(result, recorder, clips, folder / attention, fps=detector.bundle.manifest.clip_spec.fps)
    worst = result.worst_track
    faces = sampler.pick_suspects(worst) if worst else sampler.pick(None)
    thumbnail = f"figures/{name}.face.png" if faces else None
    if thumbnail:
        write_atomically(folder / thumbnail, png_of(faces[0].rgb))
    return Entry(result, figure, thumbnail, attention)


def _record_attention(detector: Detector) -> Any:
    """A recorder put into a checkpoint's network; None for a bundle, whose graphs give no maps."""
    graphs = getattr(detector, "torch_graphs", None)
    if graphs is None:
        return None
    from dfkit.evaluation.attention import AttentionRecorder

    recorder = AttentionRecorder()
    graphs.watch = recorder.add
    return recorder


def png_of(rgb: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a PNG file."""
    import cv2

    good, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert good
    return content.tobytes()


def render_index(entries: Iterable[Entry], model: str) -> str:
    """The index page: most suspicious first, then what got no score.

    Args:
        entries: Any order.
        model: Named in the heading.
    """
    ordered = sorted(entries, key=lambda e: -1.0 if e.result.p_fake is None else e.result.p_fake, reverse=True)
    counts: dict[str, int] = {}
    for entry in ordered:
        outcome = entry.result.verdict or entry.result.status
        counts[outcome] = counts.get(outcome, 0) + 1
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    head = (
        f'<p class="sub">dfkit visualize</p><header><h1>{len(ordered)} videos</h1></header>'
        f'<p class="sub">{escape(said)} · {escape(model)}</p>'
    )
    body = f'<div class="gallery">{"".join(_card(entry) for entry in ordered)}</div>'
    return document("dfkit visualize", [head, body, note("Click a video for its figure.")], style=STYLE)


def _card(entry: Entry) -> str:
    result = entry.result
    name = escape(Path(result.video).name)
    picture = (
        f'<img src="{quoted(entry.thumbnail)}" alt="face of {name}">'
        if entry.thumbnail
        else '<span class="blank"></span>'
    )
    said = result.verdict or result.status
    value = f" {result.p_fake:.3f}" if result.p_fake is not None else ""
    pill = f'<span class="pill {VERDICT_PILLS.get(said, "open")}">{escape(said)}{value}</span>'
    more = f' <a href="{quoted(entry.attention)}">attention</a>' if entry.attention else ""
    link = quoted(entry.figure)
    return (
        f'<div class="card"><a href="{link}">{picture}</a>'
        f'<div><p><a href="{link}">{name}</a></p>{pill}<span class="note">{more}</span></div></div>'
    )


def quoted(path: str | None) -> str:
    """A relative path as it stands in a link."""
    from urllib.parse import quote

    return quote(path or "")
