"""Size and latency of candidates as INT8 graphs: exported, loaded and timed, never estimated.

The two signatures are converted apart, since `encode` depends on the CNN widths alone: C x G candidates cost
C small conversions and C x G of `score`. A candidate is then run as the phone runs it, T times `encode` and once
`score`, all candidates in turn within one run. Its size is that of both files; one file with both signatures is
smaller by what they share, well under 1 % (the chosen candidate is checked as one file).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.benchmarks.latency import Percentiles, Variant, measure_latency
from dfkit.clip import ClipSpec
from dfkit.distill.search.candidates import Candidate
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.converter import convert_graphs
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.export.recipes import INT8_DEFAULT, recipe_named
from dfkit.export.signature import encode_example, score_example
from dfkit.files import write_atomically
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.manifest import Backend

BYTES_PER_MB = 1e6
CalibrationClips = Sequence[dict[str, np.ndarray]]
"""Inputs of clips by name, as `tflite.quantize` takes them."""


@dataclass(frozen=True)
class CandidateMeasurement:
    """Size and latency of one candidate's INT8 graph, on one thread."""

    label: str
    """Of the candidate."""
    model_mb: float
    """Decimal MB."""
    clip_p50_ms: float
    """Whole clip: T times `encode` and once `score`."""
    clip_p90_ms: float
    encode_p50_ms: float
    """`encode` for all pictures of a clip."""
    score_p50_ms: float
    """`score` of a clip."""

    def meets(self, target_mb: float | None, target_ms: float | None) -> bool:
        """Whether size and p50 are within the targets; None is no limit."""
        small_enough = target_mb is None or self.model_mb <= target_mb
        fast_enough = target_ms is None or self.clip_p50_ms <= target_ms
        return small_enough and fast_enough

    def excess(self, target_mb: float | None, target_ms: float | None) -> float:
        """The larger of size and p50, each as a multiple of its target; 0 without targets."""
        multiples = []
        if target_mb is not None:
            multiples.append(self.model_mb / target_mb)
        if target_ms is not None:
            multiples.append(self.clip_p50_ms / target_ms)
        return max(multiples, default=0.0)


class CandidateBench:
    """Exports candidates into a folder, each graph once, and times them."""

    def __init__(
        self, folder: Path, spec: ClipSpec, prune: Callable[[Candidate], MMMSBA], clips: CalibrationClips
    ) -> None:
        """Sets up the bench; nothing is exported yet.

        Args:
            folder: Keeps the graphs, so that an interrupted search converts none of them twice.
            spec: Contract of the clips that students take.
            prune: Makes a candidate's network, in eval mode.
            clips: Calibration clips, see `tflite.quantize`.
        """
        self.folder, self.spec, self.prune, self.clips = folder, spec, prune, clips
        self.recipe = recipe_named(INT8_DEFAULT)

    def encode_file(self, candidate: Candidate) -> bytes:
        """Content of the INT8 .tflite with a candidate's `encode`; shared by candidates of equal CNN widths."""
        network = self.prune(candidate)

        def make() -> bytes:
            plain = convert_graphs([("encode", EncodeGraph(network).eval(), encode_example(network, self.spec))])
            return compact(tflite.quantize(plain, self.recipe, network, self.spec, self.clips))

        return self._export_once(f"encode-{candidate.cnn_label}.tflite", make)

    def score_file(self, candidate: Candidate) -> bytes:
        """Content of the INT8 .tflite with a candidate's `score`."""
        network = self.prune(candidate)

        def make() -> bytes:
            example = score_example(network, self.spec)
            plain = convert_graphs([("score", ScoreGraph(network, self.spec).eval(), example)])
            return compact(tflite.quantize(plain, self.recipe.without_pictures(), network, self.spec, ()))

        return self._export_once(f"score-{candidate.label}.tflite", make)

    def part_bytes(self, candidate: Candidate) -> int:
        """Size of a candidate's `encode` and `score` together, in bytes."""
        encode = len(self.encode_file(candidate)) if candidate.spec.pictures else 0
        return encode + len(self.score_file(candidate))

    def whole_file(self, candidate: Candidate) -> bytes:
        """Content of one INT8 .tflite with both signatures, as `dfkit export` writes it."""
        network = self.prune(candidate)

        def make() -> bytes:
            plain = tflite.convert(network, self.spec)
            return compact(tflite.quantize(plain, self.recipe, network, self.spec, self.clips))

        return self._export_once(f"whole-{candidate.label}.tflite", make)

    def _export_once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Content of a file in the folder, made if it is not there."""
        path = self.folder / name
        if path.is_file():
            return path.read_bytes()
        content = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        return content

    def open_parts(self, candidate: Candidate) -> tuple[TfliteGraphs, int]:
        """A candidate's graphs from its two files, and their size together in bytes."""
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
        return graphs, sum(len(content) for content in files.values())

    def open_whole(self, candidate: Candidate) -> tuple[TfliteGraphs, int]:
        """A candidate's graphs from one file, and its size in bytes."""
        content = self.whole_file(candidate)
        backend = tflite.describe(content, self.prune(candidate), self.spec, self.recipe.name)
        files = {tflite.MODEL_FILE: content}
        return TfliteGraphs(backend, files, num_threads=1, where=candidate.label), len(content)

    def measure(self, opened: dict[str, tuple[TfliteGraphs, int]], *, repeats: int) -> list[CandidateMeasurement]:
        """Times graphs in turn, on one thread.

        Args:
            opened: Graphs and size in bytes, by label.
            repeats: Timed clips of each.
        Returns:
            One measurement per label, in the order given.
        """
        variants = [Variant(label, graphs) for label, (graphs, _) in opened.items()]
        latency = measure_latency(variants, self.spec, repeats=repeats)
        return [make_measurement(label, size, latency[label]) for label, (_, size) in opened.items()]


def make_measurement(label: str, num_bytes: int, stages: dict[str, Percentiles]) -> CandidateMeasurement:
    """Measurement of one candidate.

    Args:
        label: Of the candidate.
        num_bytes: Of its graphs.
        stages: Latency of `clip`, `encode_clip` and `score`.
    """
    clip = stages["clip"]
    return CandidateMeasurement(
        label=label,
        model_mb=num_bytes / BYTES_PER_MB,
        clip_p50_ms=clip.p50_ms,
        clip_p90_ms=clip.p90_ms,
        encode_p50_ms=stages["encode_clip"].p50_ms,
        score_p50_ms=stages["score"].p50_ms,
    )


def candidates_to_time(
    candidates: Sequence[Candidate], bytes_of: Callable[[Candidate], int], target_mb: float | None
) -> list[Candidate]:
    """Candidates worth timing: once one is too large, all that are wider everywhere are left out unconverted.

    The narrowest is always there, so that the error about a target that nothing meets can name what is reached.

    Args:
        candidates: In any order.
        bytes_of: Exports one and gives its size; called from the narrowest on.
        target_mb: Size limit; None leaves none out.
    Returns:
        From the narrowest to the widest.
    """
    order = sorted(candidates, key=all_widths)
    if target_mb is None:
        return order
    kept: list[Candidate] = []
    too_large: list[Candidate] = []
    for candidate in order:
        if any(is_wider(candidate, other) for other in too_large):
            continue
        if bytes_of(candidate) / BYTES_PER_MB > target_mb:
            too_large.append(candidate)
            if kept:
                continue
        kept.append(candidate)
    return kept


def is_wider(one: Candidate, other: Candidate) -> bool:
    """Whether no width of the one is below the other's."""
    return all(width >= other_width for width, other_width in zip(all_widths(one), all_widths(other), strict=True))


def all_widths(candidate: Candidate) -> tuple[int, ...]:
    """Channels of the face layers, channels of the lip layers, GRU units."""
    spec = candidate.spec
    return (*spec.face_channels, *spec.lip_channels, spec.gru_hidden)
