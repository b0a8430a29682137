"""The card's part for whoever writes an app: the algorithm in words, its numbers from the manifest.

The words stand in `serving_clip2s.md` and `serving_uniform50.md`. There `{{key}}` becomes the value with its key behind
it, `{{=key}}` the value alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dfkit.runtime.backends import BACKEND_ORDER
from dfkit.runtime.golden_index import GOLDEN_VERSION
from dfkit.runtime.manifest import Manifest, Signature
from dfkit.runtime.serving import leaves

TITLE = "## Serving it: the exact contract"
SHARED = ("Files of this bundle", "Pictures as shown", "Graphs", "From logits to an answer", "Checking the graphs")
"""Sections of `clip2s` that hold under `uniform50`, too."""
_KEY = re.compile(r"\{\{(=?)([\w.]+)\}\}")


def serving_lines(manifest: Manifest) -> list[str]:
    """The section, in the order in which an app is written.

    Args:
        manifest: With `serving`.
    """
    assert manifest.serving is not None, "an export writes this section"
    intro, clip2s = read_sections("serving_clip2s.md")
    sections = clip2s
    if manifest.clip_spec.preset == "uniform50":
        own = read_sections("serving_uniform50.md")[1]
        files, *rest = ((title, clip2s[title]) for title in SHARED)
        sections = dict([files, *own.items(), *rest])
    numbered = [f"### {n}. {title}\n{text}" for n, (title, text) in enumerate(sections.items(), start=1)]
    return [TITLE, *fill("\n\n".join([intro, *numbered]), values_of(manifest)).splitlines(), ""]


def read_sections(name: str) -> tuple[str, dict[str, str]]:
    """A template's text before its first heading, and its sections by title."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    intro, *parts = re.split(r"^### ", text, flags=re.MULTILINE)
    split = (part.split("\n", 1) for part in parts)
    return intro.strip(), {title: body.strip() for title, body in split}


def fill(text: str, values: Mapping[str, Any]) -> str:
    """A template's text with its keys replaced.

    Raises:
        KeyError: A key that neither the manifest nor `values_of` has.
    """

    def replace(found: re.Match[str]) -> str:
        alone, key = found.groups()
        value = show_value(values[key])
        return value if alone or "." not in key else f"{value} (`{key}`)"

    return _KEY.sub(replace, text)


def show_value(value: Any) -> str:
    """A value for people; `1 ITU709, 5 ITU601` for a mapping, `(0.6, 1)` for a tuple."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, tuple):
        return f"({', '.join(show_value(item) for item in value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def values_of(manifest: Manifest) -> dict[str, Any]:
    """What the templates name: `serving` and `clip_spec` by key, what follows from them, and this bundle's lists."""
    assert manifest.serving is not None
    spec = manifest.clip_spec
    tracker = manifest.serving.tracker
    half = 0 if tracker is None else min(tracker.smooth_half, spec.look_ahead_frames)
    files = {entry.role: entry.file for entry in manifest.face_models.values()}
    return {
        **leaves(manifest.serving),
        **flat(spec, "clip_spec."),
        "max_gap_frames": spec.max_gap_frames,
        "look_ahead_frames": spec.look_ahead_frames,
        "window_before": half + 1 + spec.max_gap_frames,
        "num_samples": spec.num_samples,
        "lead_samples": spec.lead_samples,
        "hop_frames": spec.hop_frames,
        "face_detector": files.get("detector", ""),
        "face_landmarks": files.get("landmarks", ""),
        "face_full_range": files.get("full_range_detector", ""),
        "face_models": face_model_table(manifest),
        "graphs": graph_table(manifest),
        "backend_order": ", ".join(BACKEND_ORDER),
        "golden_version": GOLDEN_VERSION,
        "decision": decision_text(manifest),
    }


def flat(model: BaseModel, prefix: str) -> dict[str, Any]:
    """Values by path, such as `clip_spec.audio.n_fft`."""
    found: dict[str, Any] = {}
    for name, value in model:
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {f"{prefix}{name}": value}
    return found


def face_model_table(manifest: Manifest) -> str:
    """Role, file, size, hash, source and licence of each face model."""
    rows = []
    for name, entry in manifest.face_models.items():
        origin = f"{entry.source} | {entry.license}"
        rows.append(f"| {entry.role} | `{entry.file or name}` | {entry.bytes} | `{entry.sha256}` | {origin} |")
    return "\n".join(["| role | file | bytes | SHA-256 | source | licence |", f"|{' --- |' * 6}", *rows])


def graph_table(manifest: Manifest) -> str:
    """Every input and output of every graph, as the graph has them."""
    rows = ["| runtime | graph | tensor | holds | shape | type | scale | zero point |", f"|{' --- |' * 8}"]
    for runtime, backend in manifest.backends.items():
        for part, signature in (("encode", backend.encode), ("score", backend.score)):
            if signature is not None:
                rows += _tensor_rows(runtime, part, signature)
    return "\n".join(rows)


def _tensor_rows(runtime: str, part: str, signature: Signature) -> list[str]:
    graph = f"{part}: `{signature.file}`, `{signature.key}`"
    return [
        f"| {runtime} | {graph} | {way} `{entry.tensor}` | `{entry.name}` | {entry.shape} | {entry.dtype} | "
        f"{entry.scale:.9g} | {entry.zero_point} |"
        for way, entries in (("in", signature.inputs), ("out", signature.outputs))
        for entry in entries
    ]


def decision_text(manifest: Manifest) -> str:
    """The bundle's own rule, in full precision."""
    point, aggregation = manifest.operating_point, manifest.aggregation
    of_k = f", k = {aggregation.k}" if aggregation.name == "top_k" else ""
    return (
        f"aggregation `{aggregation.name}`{of_k}, temperature {manifest.calibration.calibration_temperature!r}, "
        f"threshold {point.threshold!r}, review from {point.review_low!r} to {point.review_high!r}"
    )
