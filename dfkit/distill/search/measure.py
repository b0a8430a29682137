"""Size and latency of candidates as INT8 graphs: exported, loaded and timed, never estimated.

The two signatures are converted apart: `encode` depends on the CNN alone, `score` on its last width and the GRUs. So
S sizes and stems, C shares and G GRU widths cost S x C small conversions and C x G of `score`. A candidate is then run
as the phone runs it, T times `encode` and once `score`, all candidates in turn within one run, in INT8 and in float32.
Its size is that of both files; one file with both signatures is smaller by what they share, well under 1 % (the chosen
candidate is checked as one file).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dfkit.benchmarks.latency import Percentiles, Variant, measure_latency
from dfkit.clip import ClipSpec
from dfkit.distill.search.candidates import Candidate
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.converter import convert_graphs
from dfkit.export.graph import EncodeGraph
from dfkit.export.recipes import INT8_DEFAULT, recipe_named
from dfkit.export.signature import SIDE_PX, encode_example
from dfkit.files import write_atomically
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.manifest import Backend

BYTES_PER_MB = 1e6
INT8_SUFFIX, FLOAT_SUFFIX = ".tflite", ".fp32.tflite"
Part = Literal["encode", "score"]
CalibrationClips = Sequence[dict[str, np.ndarray]]
"""Inputs of clips by name, as `tflite.quantize` takes them."""


@dataclass(frozen=True)
class CandidateMeasurement:
    """Size and latency of one candidate's INT8 graph, and of its float32 one, on one thread."""

    label: str
    """Of the candidate."""
    model_mb: float
    """Decimal MB, INT8."""
    clip_p50_ms: float
    """Whole clip: T times `encode` and once `score`."""
    clip_p90_ms: float
    encode_p50_ms: float
    """`encode` for all pictures of a clip."""
    score_p50_ms: float
    """`score` of a clip."""
    fp32_mb: float
    """Decimal MB of the same network in float32."""
    fp32_clip_p50_ms: float
    """Whole clip in float32."""

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


@dataclass(frozen=True)
class ExportedGraphs:
    """One or both signatures of a candidate as .tflite content."""

    int8: bytes
    fp32: bytes


@dataclass(frozen=True)
class OpenedCandidate:
    """A candidate's graphs, ready to run, and their sizes in bytes."""

    int8: TfliteGraphs
    fp32: TfliteGraphs
    int8_bytes: int
    fp32_bytes: int


class CandidateBench:
    """Exports candidates into a folder, each graph once, and times them."""

    def __init__(self, folder: Path, prune: Callable[[Candidate], MMMSBA], clips: CalibrationClips) -> None:
        """Sets up the bench; nothing is exported yet.

        Args:
            folder: Keeps the graphs, so that an interrupted search converts none of them twice.
            prune: Makes a candidate's network, in eval mode.
            clips: Calibration clips, see `tflite.quantize`. Candidates of other sides get them resized: what is
                measured here is size and time, which ranges do not change.
        """
        self.folder, self.prune, self.clips = folder, prune, clips
        self.recipe = recipe_named(INT8_DEFAULT)
        self._interpreters: dict[str, Any] = {}
        """Of every file that was opened, by name: 72 candidates share 24 of `encode` and 12 of `score`."""

    def encode_graphs(self, candidate: Candidate) -> ExportedGraphs:
        """A candidate's `encode`; shared by candidates of equal CNNs and sides."""

        def convert(network: MMMSBA, spec: ClipSpec) -> bytes:
            return convert_graphs([("encode", EncodeGraph(network).eval(), encode_example(network, spec))])

        return self._export_once(f"encode-{candidate.encode_label}", candidate, convert)

    def score_graphs(self, candidate: Candidate) -> ExportedGraphs:
        """A candidate's `score`; shared by sizes and stems."""
        return self._export_once(f"score-{candidate.score_label}", candidate, tflite.convert_score, pictures=False)

    def whole_graphs(self, candidate: Candidate) -> ExportedGraphs:
        """Both signatures in one file, as `dfkit export` writes it."""
        return self._export_once(f"whole-{candidate.label}", candidate, tflite.convert)

    def part_bytes(self, candidate: Candidate) -> int:
        """Size of a candidate's INT8 `encode` and `score` together, in bytes."""
        encode = len(self.encode_graphs(candidate).int8) if candidate.spec.pictures else 0
        return encode + len(self.score_graphs(candidate).int8)

    def _clips_for(self, candidate: Candidate) -> CalibrationClips:
        sides = {m: getattr(candidate.clip_spec.picture, SIDE_PX[m]) for m in candidate.spec.pictures}
        return [clip | {m: resize(clip[m], side) for m, side in sides.items()} for clip in self.clips]

    def _export_once(
        self,
        name: str,
        candidate: Candidate,
        convert: Callable[[MMMSBA, ClipSpec], bytes],
        *,
        pictures: bool = True,
    ) -> ExportedGraphs:
        """Content of two files in the folder, made if they are not there; the INT8 one comes last."""
        float_path, path = self.folder / f"{name}{FLOAT_SUFFIX}", self.folder / f"{name}{INT8_SUFFIX}"
        if not path.is_file() or not float_path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            network, spec = self.prune(candidate), candidate.clip_spec
            recipe = self.recipe if pictures else self.recipe.without_pictures()
            clips = self._clips_for(candidate) if pictures else ()
            plain = convert(network, spec)
            write_atomically(float_path, compact(plain))
            write_atomically(path, compact(tflite.quantize(plain, recipe, network, spec, clips)))
        return ExportedGraphs(path.read_bytes(), float_path.read_bytes())

    def open_parts(self, candidate: Candidate) -> OpenedCandidate:
        """A candidate's graphs out of a file per signature."""
        parts: dict[Part, tuple[str, ExportedGraphs]] = {
            "score": (f"score-{candidate.score_label}", self.score_graphs(candidate))
        }
        if candidate.spec.pictures:
            parts["encode"] = (f"encode-{candidate.encode_label}", self.encode_graphs(candidate))
        return self._opened(candidate, parts)

    def open_whole(self, candidate: Candidate) -> OpenedCandidate:
        """A candidate's graphs out of one file."""
        whole = f"whole-{candidate.label}", self.whole_graphs(candidate)
        return self._opened(
            candidate, {"encode": whole, "score": whole} if candidate.spec.pictures else {"score": whole}
        )

    def _opened(self, candidate: Candidate, parts: dict[Part, tuple[str, ExportedGraphs]]) -> OpenedCandidate:
        """A candidate's graphs out of files that are loaded once.

        Args:
            candidate: Whose.
            parts: Name and content of the file of each signature.
        """
        network = self.prune(candidate)
        files = {key: f"{name}{INT8_SUFFIX}" for key, (name, _) in parts.items()}
        int8 = {files[key]: graphs.int8 for key, (_, graphs) in parts.items()}
        float_files = {key: f"{name}{FLOAT_SUFFIX}" for key, (name, _) in parts.items()}
        fp32 = {float_files[key]: graphs.fp32 for key, (_, graphs) in parts.items()}
        return OpenedCandidate(
            self._graphs_of(candidate, network, files, int8),
            self._graphs_of(candidate, network, float_files, fp32),
            sum(map(len, int8.values())),
            sum(map(len, fp32.values())),
        )

    def _graphs_of(
        self, candidate: Candidate, network: MMMSBA, files: dict[Part, str], content: dict[str, bytes]
    ) -> TfliteGraphs:
        spec = candidate.clip_spec
        signatures = {
            key: tflite.describe_signature(content[file], network, spec, key, file=file) for key, file in files.items()
        }
        backend = Backend(recipe=self.recipe.name, encode=signatures.get("encode"), score=signatures["score"])
        return TfliteGraphs(backend, content, num_threads=1, where=candidate.label, interpreters=self._interpreters)

    def measure(self, opened: dict[Candidate, OpenedCandidate], *, repeats: int) -> list[CandidateMeasurement]:
        """Times graphs in turn, on one thread.

        Args:
            opened: Graphs of each candidate.
            repeats: Timed clips of each.
        Returns:
            One measurement per candidate, in the order given.
        """
        variants = []
        for each, graphs in opened.items():
            variants.append(Variant(each.label, graphs.int8, each.clip_spec))
            variants.append(Variant(f"{each.label}{FLOAT_SUFFIX}", graphs.fp32, each.clip_spec))
        latency = measure_latency(variants, repeats=repeats)
        return [
            make_measurement(
                each.label,
                (graphs.int8_bytes, graphs.fp32_bytes),
                (latency[each.label], latency[f"{each.label}{FLOAT_SUFFIX}"]),
            )
            for each, graphs in opened.items()
        ]


def resize(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures (N, s, s, 3) uint8 at another side, by means of areas."""
    import cv2

    if pictures.shape[1] == side:
        return pictures
    return np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in pictures])


def make_measurement(
    label: str, num_bytes: tuple[int, int], stages: tuple[Mapping[str, Percentiles], Mapping[str, Percentiles]]
) -> CandidateMeasurement:
    """Measurement of one candidate.

    Args:
        label: Of the candidate.
        num_bytes: Of its INT8 and its float32 graphs.
        stages: Latency of `clip`, `encode_clip` and `score`, likewise.
    """
    int8, fp32 = stages
    return CandidateMeasurement(
        label=label,
        model_mb=num_bytes[0] / BYTES_PER_MB,
        clip_p50_ms=int8["clip"].p50_ms,
        clip_p90_ms=int8["clip"].p90_ms,
        encode_p50_ms=int8["encode_clip"].p50_ms,
        score_p50_ms=int8["score"].p50_ms,
        fp32_mb=num_bytes[1] / BYTES_PER_MB,
        fp32_clip_p50_ms=fp32["clip"].p50_ms,
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
    """Channels of the face layers, channels of the lip layers, GRU units; stem and sides do not change the size."""
    spec = candidate.spec
    return (*spec.face_channels, *spec.lip_channels, spec.gru_hidden)
