"""`dfkit visualize`: a figure of every video, and an index page of all, with relative links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from dfkit.errors import ConfigError
from dfkit.files import write_atomically
from dfkit.report.html import document, note
from dfkit.runtime.detector import Detector
from dfkit.runtime.one_video import detect_one
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
class GalleryEntry:
    """One video of the page; file names are relative to the page."""

    result: VideoResult
    figure: str
    """Plot of the video's score over time."""
    thumbnail: str | None
    """Most suspicious face; None where no face was found."""
    attention: str | None
    """Attention maps; None for a bundle, and where no clip was scored."""


@dataclass(frozen=True)
class Gallery:
    """The drawn index page and its entries, in the order of the videos."""

    index: Path
    entries: tuple[GalleryEntry, ...]

    def summary(self) -> list[str]:
        """The videos' verdicts and the path of the index page, as lines of text."""
        lines = [line for entry in self.entries for line in entry.result.summary()]
        return [*lines, f"{len(self.entries)} figures: {self.index}"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object: the index page and one row per video."""
        rows = [
            {
                **entry.result.to_json(),
                "figure": entry.figure,
                "thumbnail": entry.thumbnail,
                "attention": entry.attention,
            }
            for entry in self.entries
        ]
        return {"index": str(self.index), "videos": rows}


def draw_gallery(videos: Iterable[str | Path], detector: Detector, out_dir: str | Path) -> Gallery:
    """Scores videos and draws a figure of each; of a checkpoint its attention, too.

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
    entries = [
        _draw_one(detector, video, folder, f"{number:03d}_{video.stem}")
        for number, video in enumerate(find_videos(videos), 1)
    ]
    write_atomically(folder / INDEX_FILE, render_index(entries, str(detector.bundle.path)))
    return Gallery(folder / INDEX_FILE, tuple(entries))


def _draw_one(detector: Detector, video: Path, folder: Path, name: str) -> GalleryEntry:
    sampler = FaceSampler()
    recorder = _record_attention(detector)
    result = detect_one(detector, video, watch=sampler.add)
    figure = f"figures/{name}.png"
    decision = detector.bundle.manifest.decision_by(result.modalities)
    plot_video(result, sampler, folder / figure, point=decision.operating_point)
    attention = None
    if recorder is not None and recorder.worst_maps:
        from dfkit.evaluation.attention import draw_attention

        attention = f"figures/{name}.attention.png"
        clip_spec = detector.bundle.manifest.clip_spec
        clips = detector.last_clips if clip_spec.preset == "clip2s" else []  # type: ignore[attr-defined]
        draw_attention(result, recorder, clips, folder / attention, fps=clip_spec.fps)
    worst = result.worst_track
    faces = sampler.pick_suspects(worst) if worst else sampler.pick(None)
    thumbnail = f"figures/{name}.face.png" if faces else None
    if thumbnail:
        write_atomically(folder / thumbnail, encode_png(faces[0].rgb))
    return GalleryEntry(result, figure, thumbnail, attention)


def _record_attention(detector: Detector) -> Any:
    """A recorder put into a checkpoint's network; None for a bundle, whose graphs give no maps."""
    graphs = getattr(detector, "torch_graphs", None)
    if graphs is None:
        return None
    from dfkit.evaluation.attention import AttentionRecorder

    recorder = AttentionRecorder()
    graphs.on_output = recorder.add
    return recorder


def encode_png(rgb: np.ndarray) -> bytes:
    """Content of a PNG file.

    Args:
        rgb: (H, W, 3) uint8.
    """
    import cv2

    encoded, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert encoded
    return content.tobytes()


def render_index(entries: Iterable[GalleryEntry], model: str) -> str:
    """HTML of the index page: most suspicious video first, videos without a score last.

    Args:
        entries: In any order.
        model: Path of the model, named in the heading.
    """
    ordered = sorted(entries, key=_suspicion, reverse=True)
    counts = Counter(entry.result.verdict or entry.result.status for entry in ordered)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    head = (
        f'<p class="sub">dfkit visualize</p><header><h1>{len(ordered)} videos</h1></header>'
        f'<p class="sub">{escape(outcomes)} · {escape(model)}</p>'
    )
    body = f'<div class="gallery">{"".join(_card(entry) for entry in ordered)}</div>'
    return document("dfkit visualize", [head, body, note("Click a video for its figure.")], style=STYLE)


def _suspicion(entry: GalleryEntry) -> float:
    return -1.0 if entry.result.p_fake is None else entry.result.p_fake


def _card(entry: GalleryEntry) -> str:
    result = entry.result
    name = escape(Path(result.video).name)
    if entry.thumbnail:
        picture = f'<img src="{_link(entry.thumbnail)}" alt="face of {name}">'
    else:
        picture = '<span class="blank"></span>'
    outcome = result.verdict or result.status
    value = f" {result.p_fake:.3f}" if result.p_fake is not None else ""
    pill = f'<span class="pill {VERDICT_PILLS.get(outcome, "open")}">{escape(outcome)}{value}</span>'
    attention = f' <a href="{_link(entry.attention)}">attention</a>' if entry.attention else ""
    link = _link(entry.figure)
    return (
        f'<div class="card"><a href="{link}">{picture}</a>'
        f'<div><p><a href="{link}">{name}</a></p>{pill}<span class="note">{attention}</span></div></div>'
    )


def _link(file: str) -> str:
    """A relative address; a name that is not UTF-8 keeps its bytes, as a browser asks the disk for them."""
    return quote(file, errors="surrogateescape")
