"""`dfkit bench`: measures a bundle, judges it by gates, writes JSON and a page."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfkit.benchmarks import gates
from dfkit.benchmarks.environment import Environment, read_environment
from dfkit.benchmarks.evidence import (
    LOGITS_FILE,
    Comparison,
    Parity,
    compare_precisions,
    compare_with_teacher,
    read_logits,
)
from dfkit.benchmarks.fresh import FreshStart, measure_fresh
from dfkit.benchmarks.gates import Gate, GateResult
from dfkit.benchmarks.latency import Percentiles, Variant, measure_latency
from dfkit.benchmarks.sizes import Sizes, measure_sizes
from dfkit.benchmarks.targets import STRAIGHT, TargetResult, compare_targets, conversion_seconds
from dfkit.benchmarks.whole_way import VideoTime, measure_whole_way
from dfkit.errors import BundleError
from dfkit.runtime.backends import Graphs, open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.files import write_atomically
from dfkit.runtime.predict import find_videos

logger = logging.getLogger(__name__)
REPORT_VERSION = 1
JSON_FILE, PAGE_FILE = "bench.json", "index.html"
REFERENCE_FOLDER, STRAIGHT_FOLDER = "fp32", "straight"


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured."""

    name: str
    bundle: Path
    sizes: Sizes
    primary: str
    """The variant that the gates judge."""
    latency: dict[str, dict[str, Percentiles]]
    """By variant, then by stage."""
    fresh: dict[str, FreshStart]
    """By variant."""
    fresh_video: FreshStart | None
    """The first video in a fresh process."""
    whole_way: list[VideoTime]
    parity: Parity | None
    comparison: Comparison | None
    gates: list[GateResult]
    targets: list[TargetResult]
    """Beside other ways of exporting; no gates."""
    environment: Environment
    command: str
    num_threads: int
    repeats: int
    warnings: tuple[str, ...]
    data: dict[str, Any]
    """What the manifest says about data and metrics."""
    exit_code: int
    json_path: Path
    page_path: Path

    def summary(self) -> list[str]:
        """Lines for the terminal: what was taken, the gates, where the report lies."""
        from dfkit.benchmarks.table import gate_lines, latency_lines, target_lines

        return [
            f"{self.bundle}: {self.primary}, threads: {self.num_threads}, {self.environment.cpu}",
            *latency_lines(self.latency),
            *target_lines(self.targets),
            *gate_lines(self.gates),
            *(f"warning: {line}" for line in self.warnings),
            f"report: {self.page_path}",
        ]

    def to_json(self) -> dict[str, Any]:
        """One document; numbers that are not finite are None."""
        return {
            "schema_version": REPORT_VERSION,
            "name": self.name,
            "exit_code": self.exit_code,
            "gates": [result.to_json() for result in self.gates],
            "targets": [result.to_json() for result in self.targets],
            "sizes": asdict(self.sizes),
            "primary": self.primary,
            "latency_ms": _plain({v: {s: asdict(p) for s, p in m.items()} for v, m in self.latency.items()}),
            "fresh": {name: _plain(asdict(start)) for name, start in self.fresh.items()},
            "fresh_video": _plain(asdict(self.fresh_video)) if self.fresh_video else None,
            "whole_way": [_plain(asdict(t) | {"real_time": t.real_time}) for t in self.whole_way],
            "parity": _parity_json(self.parity),
            "student_against_teacher": _comparison_json(self.comparison),
            "environment": asdict(self.environment),
            "command": self.command,
            "num_threads": self.num_threads,
            "repeats": self.repeats,
            "warnings": list(self.warnings),
            "data": _plain(self.data),
        }


def bench(
    bundle_path: str | Path,
    *,
    videos: Sequence[str | Path] = (),
    out_dir: str | Path,
    repeats: int = 100,
    num_threads: int = 1,
    allow_unjudged: bool = False,
) -> BenchReport:
    """Measures a bundle and writes its report.

    What lies beside the bundle in `<bundle>.reference/` is used where it is there: `fp32/`, the float bundle,
    `straight/`, the straight conversion, `logits.jsonl`, and `export.json`.

    Args:
        bundle_path: Bundle folder or .zip.
        videos: Files and folders for the whole way from file to verdict.
        out_dir: Where `bench.json` and `index.html` go.
        repeats: Timed clips per variant.
        num_threads: Threads of the model.
        allow_unjudged: Whether a gate with too little data leaves the exit code at 0.
    Returns:
        The report; its `exit_code` is 0, 1 (a gate failed) or 3 (a gate could not be judged).
    Raises:
        BundleError: The bundle or its float twin cannot be used.
        DfkitError: A measurement or the report's files failed.
    """
    from dfkit.benchmarks.page import render_page

    environment = read_environment()
    bundle = open_bundle(bundle_path)
    files = find_videos(videos) if videos else []
    reference = reference_of(bundle.path)
    rows = read_logits(reference / LOGITS_FILE)
    variants = open_variants(bundle, reference, num_threads=num_threads)
    primary = next(iter(variants))
    times = _measure_times(bundle, variants, files, repeats=repeats, num_threads=num_threads)
    with _step("evidence"):
        parity = compare_precisions(rows, bundle.manifest)
        comparison = compare_with_teacher(rows, bundle.manifest)
    sizes = measure_sizes(bundle)
    backend = variants[primary][1].name
    results = judge(
        sizes, times.latency[primary], times.whole_way, parity, comparison, backend=backend, num_threads=num_threads
    )
    report = BenchReport(
        name=bundle.manifest.name,
        bundle=bundle.path,
        sizes=sizes,
        primary=primary,
        latency=times.latency,
        fresh=times.fresh,
        fresh_video=times.fresh_video,
        whole_way=times.whole_way,
        parity=parity,
        comparison=comparison,
        gates=results,
        targets=compare_targets(primary, sizes, times.latency, times.fresh, parity, conversion_seconds(reference)),
        environment=environment,
        command=command_line(),
        num_threads=num_threads,
        repeats=repeats,
        warnings=tuple(bundle.manifest.warnings),
        data=_data_of(bundle),
        exit_code=gates.exit_code(results, allow_unjudged=allow_unjudged),
        json_path=Path(out_dir) / JSON_FILE,
        page_path=Path(out_dir) / PAGE_FILE,
    )
    write_atomically(report.json_path, json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    write_atomically(report.page_path, render_page(report))
    return report


@dataclass(frozen=True)
class _Times:
    """What the clock says."""

    latency: dict[str, dict[str, Percentiles]]
    fresh: dict[str, FreshStart]
    fresh_video: FreshStart | None
    whole_way: list[VideoTime]


def _measure_times(
    bundle: Bundle,
    variants: dict[str, tuple[Bundle, Graphs]],
    files: Sequence[Path],
    *,
    repeats: int,
    num_threads: int,
) -> _Times:
    """Latency, cold start and the whole way, one after the other: nothing else of ours runs meanwhile."""
    graphs = next(graphs for _, graphs in variants.values())
    with _step("latency"):
        timed = [Variant(name, opened) for name, (_, opened) in variants.items()]
        latency = measure_latency(timed, bundle.manifest.clip_spec, repeats=repeats)
    fresh_video = None
    with _step("cold start"):
        fresh = {
            name: measure_fresh(own.path, backend=opened.name, num_threads=num_threads)
            for name, (own, opened) in variants.items()
        }
        if files:
            fresh_video = measure_fresh(
                bundle.path, backend=graphs.name, num_threads=num_threads, repeats=1, video=files[0]
            )
    with _step("whole way"):
        whole_way = measure_whole_way(bundle, graphs, files)
    return _Times(latency, fresh, fresh_video, whole_way)


def reference_of(bundle_path: Path) -> Path:
    """Where the export leaves what only measuring needs: `<bundle>.reference`, without `.zip`."""
    stem = bundle_path.name.removesuffix(".zip")
    return bundle_path.resolve().with_name(f"{stem}.reference")


def open_variants(bundle: Bundle, reference: Path, *, num_threads: int) -> dict[str, tuple[Bundle, Graphs]]:
    """Loads every backend of the bundle and of its float twin.

    Args:
        bundle: Verified bundle.
        reference: From `reference_of`; need not exist.
        num_threads: Threads of each interpreter.
    Returns:
        Bundle and graphs by name, such as `tflite mixed_int8`; the one that the gates judge comes first.
    Raises:
        BundleError: A graph cannot be loaded, or the twin is another network's.
    """
    bundles = [bundle]
    for twin in (reference / REFERENCE_FOLDER, reference / f"{REFERENCE_FOLDER}.zip"):
        if twin.exists():
            bundles.append(_open_twin(twin, bundle))
            break
    variants: dict[str, tuple[Bundle, Graphs]] = {}
    for own in bundles:
        for backend in sorted(own.manifest.backends, key=("tflite", "onnx").index):
            opened = open_backend(own, backend, num_threads=num_threads)
            variants.setdefault(f"{backend} {opened.recipe}", (own, opened))
    straight = reference / STRAIGHT_FOLDER
    if straight.exists():
        rival = _open_straight(straight, bundle)
        variants[STRAIGHT] = (rival, open_backend(rival, "tflite", num_threads=num_threads))
    return variants


def _open_twin(path: Path, bundle: Bundle) -> Bundle:
    twin = open_bundle(path)
    if (twin.manifest.network, twin.manifest.clip_spec) != (bundle.manifest.network, bundle.manifest.clip_spec):
        raise BundleError(
            f"{path} holds another network than bundle {bundle.path}",
            fix="export again, or remove the folder to measure without a float twin",
        )
    return twin


def _open_straight(path: Path, bundle: Bundle) -> Bundle:
    """The straight conversion, which differs from the bundle's network in its CNN widths alone."""
    rival = open_bundle(path)
    mine, other = ({**b.manifest.network, "face_channels": 0, "lip_channels": 0} for b in (bundle, rival))
    if (mine, bundle.manifest.clip_spec) != (other, rival.manifest.clip_spec):
        raise BundleError(
            f"{path} holds another network than bundle {bundle.path}",
            fix="export again with --reference, or remove the folder to measure without it",
        )
    return rival


def judge(
    sizes: Sizes,
    latency: dict[str, Percentiles],
    whole_way: Sequence[VideoTime],
    parity: Parity | None,
    comparison: Comparison | None,
    *,
    backend: str,
    num_threads: int,
) -> list[GateResult]:
    """Holds the measurements against the gates.

    Args:
        sizes: All sizes.
        latency: By stage, of the variant that ships.
        whole_way: Timed files; without one that got a verdict the gate is not judged.
        parity: None without logits of both precisions.
        comparison: None without held-out videos of both models.
        backend: The variant's backend.
        num_threads: Threads that latency was measured with; the gate is for one.
    Returns:
        One result per gate, always all of them.
    """
    return [
        Gate("model file", "<", gates.MAX_PHONE_MB, "MB").judge(sizes.model_mb[backend]),
        Gate("model, manifest and face models", "<", gates.MAX_PHONE_MB, "MB").judge(
            sizes.phone_mb[backend], note="all that a phone needs to decide"
        ),
        _judge_clip(latency["clip"], num_threads=num_threads),
        _judge_way(whole_way),
        *_judge_parity(parity),
        *_judge_comparison(comparison),
    ]


def _judge_clip(clip: Percentiles, *, num_threads: int) -> GateResult:
    gate = Gate("p90 of one clip, encode and score", "<", gates.MAX_CLIP_MS, "ms")
    if num_threads != 1:
        return gate.judge(None, note=f"{clip.p90_ms:.1f} ms on {num_threads} threads; the limit is for one")
    return gate.judge(clip.p90_ms, note=f"{clip.num} clips on one thread of this machine, which is no phone")


def _judge_way(whole_way: Sequence[VideoTime]) -> GateResult:
    gate = Gate("file to verdict, slowest file", ">=", gates.MIN_REAL_TIME, "x real time")
    scored = [timed for timed in whole_way if timed.status == "ok"]
    if not scored:
        reason = f"none of {len(whole_way)} videos got a verdict" if whole_way else "no video was given"
        return gate.judge(None, note=reason)
    slowest = min(scored, key=lambda timed: timed.real_time)
    return gate.judge(slowest.real_time, note=f"{slowest.video}, {slowest.width} x {slowest.height}")


def _judge_parity(parity: Parity | None) -> list[GateResult]:
    above = Gate(f"INT8 flips where FP32's margin is over {gates.MARGIN:g}", "<=", 0, "clips")
    flips = Gate("INT8 flips", "<=", parity.max_flips if parity else 1, "clips")
    change = Gate("largest change of p_fake by INT8", "<=", gates.MAX_P_CHANGE)
    if parity is None:
        return [gate.judge(None, note="no logits of both precisions") for gate in (above, flips, change)]
    note = f"{parity.num_clips} clips"
    # A NaN in the logits makes p_fake NaN and counts as no flip: all three fail with it.
    broken = math.isnan(parity.max_p_change)
    values = (parity.num_flips_above_margin, parity.num_flips, parity.max_p_change)
    return [
        gate.judge(math.nan if broken else value, note="an answer is not finite" if broken else note)
        for gate, value in zip((above, flips, change), values, strict=True)
    ]


def _judge_comparison(comparison: Comparison | None) -> list[GateResult]:
    drop = Gate("accuracy below the teacher, upper end", "<=", gates.MAX_ACCURACY_DROP, "points")
    ratio = Gate("AUC over the teacher's, lower end", ">=", gates.MIN_AUC_RATIO)
    if comparison is None:
        return [gate.judge(None, note="no held-out videos with both models' answers") for gate in (drop, ratio)]
    if comparison.not_judged:
        return [gate.judge(None, note=comparison.not_judged) for gate in (drop, ratio)]
    ends = ((drop, comparison.accuracy_drop_points.high), (ratio, comparison.auc_ratio.low))
    reasons = (comparison.accuracy_drop_points.reason, comparison.auc_ratio.reason)
    return [
        gate.judge(end, note=reason or f"{comparison.teacher.num} videos, 95 % interval over groups")
        for (gate, end), reason in zip(ends, reasons, strict=True)
    ]


def command_line() -> str:
    """The command of this process, with the path of the program left out."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Shows what is being measured, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"measuring {name}"):
        yield


def _plain(value: Any) -> Any:
    """Numbers that are not finite as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parity_json(parity: Parity | None) -> dict[str, Any] | None:
    if parity is None:
        return None
    return {key: value for key, value in _plain(asdict(parity)).items() if key != "points"}


def _comparison_json(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    scores = comparison.scores
    return {
        "split": comparison.split,
        "num_videos": len(scores.videos),
        "num_groups": len(set(scores.groups)),
        "num_left_out": scores.num_left_out,
        "not_judged": comparison.not_judged,
        "teacher": comparison.teacher.to_json(),
        "student": comparison.student.to_json(),
        "student_shipped": comparison.student_shipped.to_json(),
        "accuracy_drop_points": _plain(asdict(comparison.accuracy_drop_points)),
        "auc_ratio": _plain(asdict(comparison.auc_ratio)),
        "videos": [
            {"video": video, "label": int(label), "teacher": float(t), "student": float(s)}
            for video, label, t, s in zip(scores.videos, scores.labels, scores.teacher, scores.student, strict=True)
        ],
    }


def _data_of(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "threshold": manifest.operating_point.threshold,
        "operating_point": manifest.operating_point.name,
        "calibration": manifest.calibration.model_dump(mode="json"),
        "calibration_set": manifest.calibration_set,
        "metrics": manifest.metrics,
    }
