"""What candidates weigh and how long they take, as INT8 graphs: exported, loaded and timed, never estimated.

The two signatures are converted apart, since `encode` depends on the CNN widths alone: a family of C x G widths costs
C small conversions and C x G of `score`. A candidate is then run as the phone runs it, T times `encode` and once
`score`, all candidates in turn within one run. Its size is that of both files; one file with both signatures is
smaller by what they share, well under 1 % (the chosen candidate is converted whole, and judged by that).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.benchmarks.latency import Percentiles, Variant, measure_latency
from dfkit.clip import ClipSpec
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.converter import convert_graphs
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.recipes import INT8_DEFAULT, recipe_named
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.files import write_atomically
from dfkit.runtime.manifest import Backend
from dfkit.search.family import Candidate

BYTES_PER_MB = 1e6
Clips = Sequence[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Figures:
    """Size and time of one candidate's INT8 graph."""

    label: str
    model_mb: float
    """Decimal MB."""
    clip_p50_ms: float
    clip_p90_ms: float
    encode_p50_ms: float
    """All pictures of a clip."""
    score_p50_ms: float

    def meets(self, target_mb: float | None, target_ms: float | None) -> bool:
        """Whether size and p50 are within the targets; a target that is None holds."""
        light = target_mb is None or self.model_mb <= target_mb
        return light and (target_ms is None or self.clip_p50_ms <= target_ms)

    def excess(self, target_mb: float | None, target_ms: float | None) -> float:
        """The worse of size and time as a multiple of its target; 0 without targets."""
        parts = [self.model_mb / target_mb] if target_mb is not None else []
        parts += [self.clip_p50_ms / target_ms] if target_ms is not None else []
        return max(parts, default=0.0)


class Workbench:
    """Exports candidates into a folder, each part once, and times them."""

    def __init__(self, folder: Path, spec: ClipSpec, prune: Callable[[Candidate], MMMSBA], clips: Clips) -> None:
        """Takes the tools.

        Args:
            folder: Keeps the parts, so that an interrupted search converts none of them twice.
            spec: The clips that students take.
            prune: Gives a candidate's network, in eval mode.
            clips: Calibration clips, see `tflite.quantize`.
        """
        self.folder, self.spec, self.prune, self.clips = folder, spec, prune, clips
        self.recipe = recipe_named(INT8_DEFAULT)

    def encode_file(self, candidate: Candidate) -> bytes:
        """The INT8 `encode` of a candidate's CNN widths."""
        network = self.prune(candidate)

        def make() -> bytes:
            plain = convert_graphs([("encode", EncodeGraph(network).eval(), tflite.encode_example(network, self.spec))])
            return compact(tflite.quantize(plain, self.recipe, network, self.spec, self.clips))

        return self._kept(f"encode-{candidate.cnn_label}.tflite", make)

    def score_file(self, candidate: Candidate) -> bytes:
        """The INT8 `score` of a candidate."""
        network = self.prune(candidate)

        def make() -> bytes:
            example = tflite.score_example(network, self.spec)
            plain = convert_graphs([("score", ScoreGraph(network, self.spec).eval(), example)])
            return compact(tflite.quantize(plain, self.recipe.without_pictures(), network, self.spec, ()))

        return self._kept(f"score-{candidate.label}.tflite", make)

    def part_bytes(self, candidate: Candidate) -> int:
        """Bytes of a candidate's two files together."""
        encode = len(self.encode_file(candidate)) if candidate.spec.pictures else 0
        return encode + len(self.score_file(candidate))

    def whole_file(self, candidate: Candidate) -> bytes:
        """Both signatures in one INT8 file, as `dfkit export --int8` writes it."""
        network = self.prune(candidate)

        def make() -> bytes:
            plain = tflite.convert(network, self.spec)
            return compact(tflite.quantize(plain, self.recipe, network, self.spec, self.clips))

        return self._kept(f"whole-{candidate.label}.tflite", make)

    def _kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        path = self.folder / name
        if path.is_file():
            return path.read_bytes()
        content = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        return content

    def open_parts(self, candidate: Candidate) -> tuple[TfliteGraphs, int]:
        """A candidate's graphs from its two files, and their bytes together."""
        network = self.prune(candidate)
        files = {"score.tflite": self.score_file(candidate)}
        if network.spec.pictures:
            files["encode.tflite"] = self.encode_file(candidate)
        encode = None
        if "encode.tflite" in files:
            encode = tflite.describe_signature(
                files["encode.tflite"], network, self.spec, "encode", file="encode.tflite"
            )
        score = tflite.describe_signature(files["score.tflite"], network, self.spec, "score", file="score.tflite")
        backend = Backend(recipe=self.recipe.name, encode=encode, score=score)
        graphs = TfliteGraphs(backend, files, num_threads=1, where=candidate.label)
        return graphs, sum(map(len, files.values()))

    def open_whole(self, candidate: Candidate) -> tuple[TfliteGraphs, int]:
        """A candidate's graphs from one file, and its bytes."""
        content = self.whole_file(candidate)
        backend = tflite.describe(content, self.prune(candidate), self.spec, self.recipe.name)
        files = {tflite.MODEL_FILE: content}
        return TfliteGraphs(backend, files, num_threads=1, where=candidate.label), len(content)

    def measure(self, opened: dict[str, tuple[TfliteGraphs, int]], *, repeats: int) -> list[Figures]:
        """Times graphs in turn, on one thread.

        Args:
            opened: Graphs and bytes by label.
            repeats: Timed clips of each.
        Returns:
            In the order given.
        """
        variants = [Variant(label, graphs) for label, (graphs, _) in opened.items()]
        latency = measure_latency(variants, self.spec, repeats=repeats)
        return [figures_of(label, size, latency[label]) for label, (_, size) in opened.items()]


def figures_of(label: str, num_bytes: int, stages: dict[str, Percentiles]) -> Figures:
    """One row of a measurement."""
    clip = stages["clip"]
    return Figures(
        label=label,
        model_mb=num_bytes / BYTES_PER_MB,
        clip_p50_ms=clip.p50_ms,
        clip_p90_ms=clip.p90_ms,
        encode_p50_ms=stages["encode_clip"].p50_ms,
        score_p50_ms=stages["score"].p50_ms,
    )


def promising(
    family: Sequence[Candidate], bytes_of: Callable[[Candidate], int], target_mb: float | None
) -> list[Candidate]:
    """Candidates worth timing: once one is too heavy, all that are wider everywhere are left out unconverted.

    The narrowest is always there, so that a target which nothing meets is answered with what is reached.

    Args:
        family: Candidates.
        bytes_of: Exports one and gives its bytes; called from the narrowest on.
        target_mb: Size limit; None leaves none out.
    """
    order = sorted(family, key=lambda c: (*c.spec.face_channels, *c.spec.lip_channels, c.spec.gru_hidden))
    if target_mb is None:
        return order
    kept: list[Candidate] = []
    too_heavy: list[Candidate] = []
    for candidate in order:
        if any(is_wider(candidate, other) for other in too_heavy):
            continue
        if bytes_of(candidate) / BYTES_PER_MB > target_mb:
            too_heavy.append(candidate)
            if kept:
                continue
        kept.append(candidate)
    return kept


def is_wider(one: Candidate, other: Candidate) -> bool:
    """Whether no width of the one is below the other's."""
    mine, theirs = ((*c.spec.face_channels, *c.spec.lip_channels, c.spec.gru_hidden) for c in (one, other))
    return all(a >= b for a, b in zip(mine, theirs, strict=True))
