"""`dfkit bench`: measures a bundle, judges it by gates, writes JSON and a page."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkit.benchmarks.adb import Request, measure_on_phone
from dfkit.benchmarks.cold_start import ColdStart, measure_cold_start
from dfkit.benchmarks.end_to_end import VideoTiming, measure_end_to_end
from dfkit.benchmarks.evidence import (
    LOGITS_FILE,
    Comparison,
    LogitsRow,
    Parity,
    compare_precisions,
    compare_with_teacher,
    find_test_video,
    read_logits,
)
from dfkit.benchmarks.latency import Percentiles, Variant, measure_latency
from dfkit.benchmarks.phone import PhoneRun, read_phone_file
from dfkit.benchmarks.report import BenchReport
from dfkit.benchmarks.sizes import Sizes, measure_sizes
from dfkit.benchmarks.targets import STRAIGHT, compare_targets, conversion_seconds
from dfkit.console import note
from dfkit.errors import BundleError
from dfkit.files import write_atomically
from dfkit.measures import gates
from dfkit.measures.environment import read_environment
from dfkit.measures.gates import Gate, GateResult
from dfkit.media.listing import is_pattern
from dfkit.named_inputs import require_videos
from dfkit.runtime.backends import BACKEND_ORDER, Graphs, open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.predict import find_videos

logger = logging.getLogger(__name__)
JSON_FILE, PAGE_FILE = "bench.json", "index.html"
REFERENCE_FOLDER, STRAIGHT_FOLDER = "fp32", "straight"


def bench(
    bundle_path: str | Path,
    *,
    videos: Sequence[str | Path] = (),
    out_dir: str | Path,
    repeats: int = 100,
    num_threads: int = 1,
    allow_unjudged: bool = False,
    phones: PhoneSource | None = None,
) -> BenchReport:
    """Measures a bundle and writes its report.

    What lies beside the bundle in `<bundle>.reference/` is used where it is there: `fp32/`, the float bundle,
    `straight/`, the straight conversion, `logits.jsonl`, and `export.json`.

    Args:
        bundle_path: Bundle folder or .zip.
        videos: Files and folders whose time from file to verdict is measured; left out, a test video that
            `logits.jsonl` names, where its file is there.
        out_dir: Where `bench.json` and `index.html` go.
        repeats: Timed clips per variant.
        num_threads: Threads of the model.
        allow_unjudged: Whether a gate with too little data leaves the exit code at 0.
        phones: What phones measured of this bundle, read before anything is measured here.
    Returns:
        The report; its `exit_code` is 0, 1 (a gate failed) or 3 (a gate could not be judged).
    Raises:
        BundleError: The bundle or its float twin cannot be used.
        DfkitError: A measurement or the report's files failed.
    """
    from dfkit.benchmarks.page import render_page

    environment = read_environment()
    bundle = open_bundle(bundle_path)
    reference = reference_of(bundle.path)
    rows = read_logits(reference / LOGITS_FILE)
    require_videos([path for path in map(Path, videos) if not is_pattern(path)])
    files = find_videos(videos) if videos else _take_test_video(rows)
    runs = (phones or PhoneSource()).read(bundle, repeats=repeats, num_threads=num_threads)
    variants = open_variants(bundle, reference, num_threads=num_threads)
    primary = next(iter(variants))
    timings = _measure_timings(bundle, variants, files, repeats=repeats, num_threads=num_threads)
    with _step("evidence"):
        parity = compare_precisions(rows, bundle.manifest)
        comparison = compare_with_teacher(rows, bundle.manifest)
    sizes = measure_sizes(bundle)
    backend = variants[primary][1].name
    results = judge(
        sizes,
        timings.latency[primary],
        timings.end_to_end,
        parity,
        comparison,
        backend=backend,
        num_threads=num_threads,
    )
    report = BenchReport(
        name=bundle.manifest.name,
        bundle=bundle.path,
        sizes=sizes,
        primary=primary,
        latency=timings.latency,
        cold_starts=timings.cold_starts,
        cold_start_video=timings.cold_start_video,
        end_to_end=timings.end_to_end,
        parity=parity,
        comparison=comparison,
        gates=results,
        targets=compare_targets(
            primary, sizes, timings.latency, timings.cold_starts, parity, conversion_seconds(reference)
        ),
        environment=environment,
        command=command_line(),
        num_threads=num_threads,
        repeats=repeats,
        warnings=tuple(bundle.manifest.warnings),
        data=_data_of(bundle),
        exit_code=gates.exit_code(results, allow_unjudged=allow_unjudged),
        json_path=Path(out_dir) / JSON_FILE,
        page_path=Path(out_dir) / PAGE_FILE,
        phones=runs,
    )
    write_atomically(report.json_path, json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    write_atomically(report.page_path, render_page(report))
    return report


def _take_test_video(rows: Sequence[LogitsRow]) -> list[Path]:
    video = find_test_video(rows)
    note(f"no video was named: {'none of the test split is at hand' if video is None else f'taking {video}'}")
    return [] if video is None else [video]


@dataclass(frozen=True)
class PhoneSource:
    """Where measurements by phones come from."""

    imports: tuple[Path, ...] = ()
    """The app's JSON, as somebody sent it."""
    is_asked: bool = False
    """Whether a phone that is connected measures now."""
    serial: str | None = None
    """Of that phone; None takes the only one."""
    sustained_s: float = 600.0
    """Its work without a pause."""

    def read(self, bundle: Bundle, *, repeats: int, num_threads: int) -> tuple[PhoneRun, ...]:
        """All measurements, files first.

        Raises:
            PhoneError: A file cannot be used, or no phone answers.
        """
        runs = [read_phone_file(path, bundle) for path in self.imports]
        if self.is_asked:
            runs.append(measure_on_phone(bundle, Request(self.sustained_s, repeats, num_threads), serial=self.serial))
        return tuple(runs)


@dataclass(frozen=True)
class _Timings:
    """All that is measured with a clock."""

    latency: dict[str, dict[str, Percentiles]]
    """By variant, then by stage."""
    cold_starts: dict[str, ColdStart]
    """By variant."""
    cold_start_video: ColdStart | None
    """Of the first video; None where no video was given."""
    end_to_end: list[VideoTiming]


def _measure_timings(
    bundle: Bundle,
    variants: dict[str, tuple[Bundle, Graphs]],
    files: Sequence[Path],
    *,
    repeats: int,
    num_threads: int,
) -> _Timings:
    """Latency, cold start and time from file to verdict, one after the other: nothing else of ours runs meanwhile."""
    _, primary_graphs = next(iter(variants.values()))
    with _step("latency"):
        timed_variants = [Variant(name, graphs, of.manifest.clip_spec) for name, (of, graphs) in variants.items()]
        latency = measure_latency(timed_variants, repeats=repeats)
    cold_start_video = None
    with _step("cold start"):
        cold_starts = {
            name: measure_cold_start(variant_bundle.path, backend=graphs.name, num_threads=num_threads)
            for name, (variant_bundle, graphs) in variants.items()
        }
        if files:
            cold_start_video = measure_cold_start(
                bundle.path, backend=primary_graphs.name, num_threads=num_threads, repeats=1, video=files[0]
            )
    with _step("whole way"):
        end_to_end = measure_end_to_end(bundle, primary_graphs, files)
    return _Timings(latency, cold_starts, cold_start_video, end_to_end)


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
    for each in bundles:
        for backend in sorted(each.manifest.backends, key=BACKEND_ORDER.index):
            graphs = open_backend(each, backend, num_threads=num_threads)
            variants.setdefault(f"{backend} {graphs.recipe}", (each, graphs))
    straight_folder = reference / STRAIGHT_FOLDER
    if straight_folder.exists():
        straight = _open_straight(straight_folder, bundle)
        variants[STRAIGHT] = (straight, open_backend(straight, "tflite", num_threads=num_threads))
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
    """The straight conversion, which differs from the bundle's network in its CNNs and what they see alone."""
    straight = open_bundle(path)
    any_cnn = {"face_channels": 0, "lip_channels": 0, "stem": ""}
    network, straight_network = ({**b.manifest.network, **any_cnn} for b in (bundle, straight))
    spec = bundle.manifest.clip_spec
    if (straight_network, straight.manifest.clip_spec.with_pictures_of(spec)) != (network, spec):
        raise BundleError(
            f"{path} holds another network than bundle {bundle.path}",
            fix="export again with --reference, or remove the folder to measure without it",
        )
    return straight


def judge(
    sizes: Sizes,
    latency: dict[str, Percentiles],
    end_to_end: Sequence[VideoTiming],
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
        end_to_end: Timed files; without one that got a verdict the gate is not judged.
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
        _judge_end_to_end(end_to_end),
        *_judge_parity(parity),
        *_judge_comparison(comparison),
    ]


def _judge_clip(clip: Percentiles, *, num_threads: int) -> GateResult:
    gate = Gate("p90 of one clip, encode and score", "<", gates.MAX_CLIP_MS, "ms")
    if num_threads != 1:
        return gate.judge(None, note=f"{clip.p90_ms:.1f} ms on {num_threads} threads; the limit is for one")
    return gate.judge(clip.p90_ms, note=f"{clip.num} clips on one thread of this machine, which is no phone")


def _judge_end_to_end(timings: Sequence[VideoTiming]) -> GateResult:
    gate = Gate("file to verdict, slowest file", ">=", gates.MIN_REAL_TIME, "x real time")
    scored = [timed for timed in timings if timed.status == "ok"]
    if not scored:
        reason = (
            f"none of {len(timings)} videos got a verdict"
            if timings
            else "no video was named, and none of the test split is at hand"
        )
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
    """The shell command that started this process, with the program's folder left out."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Shows on a terminal, while the block runs, what is being measured."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"measuring {name}"):
        yield


def _data_of(bundle: Bundle) -> dict[str, Any]:
    """What the manifest says about operating point, calibration and metrics, as JSON values."""
    manifest = bundle.manifest
    return {
        "threshold": manifest.operating_point.threshold,
        "operating_point": manifest.operating_point.name,
        "aggregation": manifest.aggregation.model_dump(mode="json"),
        "calibration": manifest.calibration.model_dump(mode="json"),
        "calibration_set": manifest.calibration_set,
        "metrics": manifest.metrics,
    }
