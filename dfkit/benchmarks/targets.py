"""What an export is measured against: size and time beside the straight conversion and ONNX Runtime, in one run.

Unlike gates these compare with other ways of doing the same: what has no counterpart at hand is not measured, and says
which command makes it. Ratios are of medians over the same interleaved rounds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dfkit.benchmarks.cold_start import ColdStart
from dfkit.benchmarks.evidence import Parity
from dfkit.benchmarks.latency import Percentiles
from dfkit.benchmarks.sizes import Sizes
from dfkit.errors import DataError
from dfkit.measures import gates
from dfkit.measures.finite import finite_or_none
from dfkit.measures.gates import Direction, Gate

STRAIGHT = "straight tflite fp32"
"""Variant: the student at the teacher's CNN widths, converted without any rewriting."""
ONNX_FLOAT = "onnx fp32"
TIMES_FILE = "export.json"
MAX_MODEL_MB, AIM_MODEL_MB = 0.85, 0.7
MIN_AGAINST_STRAIGHT, AIM_AGAINST_STRAIGHT = 9.0, 20.0
MIN_AGAINST_FLOAT, AIM_AGAINST_FLOAT = 1.5, 3.0
MIN_AGAINST_ONNX, AIM_AGAINST_ONNX = 1.4, 2.5
NEXT_CLIP_EXTRA_MS = 0.3
"""On top of half the encode time and of `score` over a whole clip."""
MAX_CONVERSION_S, AIM_CONVERSION_S = 60.0, 20.0
AIM_P_CHANGE = 0.02
NO_STRAIGHT = "no straight conversion: dfkit export --int8 --format all --reference makes one"
NO_FLOAT = "no float TFLite graphs: dfkit export --int8 makes them"
SLOWER_INT8 = (
    "INT8 is the slower one on this processor: where size does not matter, export without --int8; a student of stem "
    "patch4 gains by INT8 (distill.stem)"
)
NO_ONNX = "no float ONNX graphs: dfkit export --int8 --format all makes them"
TargetVerdict = Literal["aim met", "met", "missed", "measured", "not measured"]


@dataclass(frozen=True)
class TargetResult:
    """One figure of the export, with what is asked of it and what is aimed at."""

    figure: str
    unit: str
    value: float | None
    direction: Direction
    at_least: float | None
    """None where a figure is only reported."""
    aim: float | None
    note: str = ""

    @property
    def verdict(self) -> TargetVerdict:
        """How far the value gets; NaN misses."""
        if self.value is None:
            return "not measured"
        if self.at_least is None:
            return "measured"
        if self.aim is not None and Gate(self.figure, self.direction, self.aim).holds(self.value):
            return "aim met"
        return "met" if Gate(self.figure, self.direction, self.at_least).holds(self.value) else "missed"

    def to_json(self) -> dict[str, Any]:
        """The fields and the verdict as a JSON object; a value that is not finite is None."""
        return {**vars(self), "value": finite_or_none(self.value), "verdict": self.verdict}


def conversion_seconds(reference: Path) -> dict[str, float]:
    """Seconds per stage as the export noted them; empty where it did not.

    Raises:
        DataError: The file is there and not readable.
    """
    path = reference / TIMES_FILE
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["conversion_s"]
        return {str(name): float(value) for name, value in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not what dfkit export writes: {error}", fix="export again") from error


def compare_targets(
    primary: str,
    sizes: Sizes,
    latency: Mapping[str, Mapping[str, Percentiles]],
    cold_starts: Mapping[str, ColdStart],
    parity: Parity | None,
    seconds: Mapping[str, float],
) -> list[TargetResult]:
    """Judges every figure of the export against what is asked of it.

    Args:
        primary: Name of the variant that ships.
        sizes: All sizes.
        latency: By variant and stage.
        cold_starts: By variant.
        parity: None without logits of both precisions.
        seconds: From `conversion_seconds`.
    Returns:
        One result per figure, always all of them.
    """
    backend = primary.split(maxsplit=1)[0]
    shipped = latency[primary]
    size = TargetResult("model file", "MB", sizes.model_mb[backend], "<=", MAX_MODEL_MB, AIM_MODEL_MB, primary)
    return [
        size,
        _ratio("one clip, straight FP32 over INT8", shipped, latency.get(STRAIGHT), _STRAIGHT_LIMITS, NO_STRAIGHT),
        _float_ratio(primary, latency),
        _ratio("one clip, ONNX Runtime FP32 over INT8", shipped, latency.get(ONNX_FLOAT), _ONNX_LIMITS, NO_ONNX),
        _next_clip(shipped),
        _conversion(seconds),
        *_precision(parity),
        *_cold_start(primary, cold_starts),
    ]


_STRAIGHT_LIMITS = (MIN_AGAINST_STRAIGHT, AIM_AGAINST_STRAIGHT)
_ONNX_LIMITS = (MIN_AGAINST_ONNX, AIM_AGAINST_ONNX)


def _ratio(
    figure: str,
    shipped: Mapping[str, Percentiles],
    baseline: Mapping[str, Percentiles] | None,
    limits: tuple[float, float],
    missing: str,
) -> TargetResult:
    """Median time of one clip of a baseline over that of the shipped variant."""
    if baseline is None:
        return TargetResult(figure, "x", None, ">=", *limits, missing)
    shipped_ms, baseline_ms = shipped["clip"].p50_ms, baseline["clip"].p50_ms
    note = f"{baseline_ms:.2f} ms over {shipped_ms:.2f} ms"
    return TargetResult(figure, "x", baseline_ms / shipped_ms, ">=", *limits, note)


def _float_ratio(primary: str, latency: Mapping[str, Mapping[str, Percentiles]]) -> TargetResult:
    """The same student in FP32 over what ships, on the same runtime."""
    float_name = f"{primary.split(maxsplit=1)[0]} fp32"
    figure, limits = "one clip, the same student in FP32 over INT8", (MIN_AGAINST_FLOAT, AIM_AGAINST_FLOAT)
    if float_name == primary:
        return TargetResult(figure, "x", None, ">=", *limits, "what ships is FP32")
    result = _ratio(figure, latency[primary], latency.get(float_name), limits, NO_FLOAT)
    if result.value is not None and result.value < 1:
        result = replace(result, note=f"{result.note}; {SLOWER_INT8}")
    return result


def _next_clip(shipped: Mapping[str, Percentiles]) -> TargetResult:
    limit = shipped["encode_clip"].p50_ms / 2 + shipped["score"].p50_ms + NEXT_CLIP_EXTRA_MS
    figure = f"next clip of a stream, half the encode time + score + {NEXT_CLIP_EXTRA_MS:g} ms"
    if "next_clip" not in shipped:
        return TargetResult(figure, "ms", None, "<=", limit, None, "this preset knows no stream")
    return TargetResult(figure, "ms", shipped["next_clip"].p50_ms, "<=", limit, None)


def _conversion(seconds: Mapping[str, float]) -> TargetResult:
    stages = {name: value for name, value in seconds.items() if name != "straight"}
    note = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    total = sum(stages.values()) if stages else None
    return TargetResult(
        "conversion, all stages", "s", total, "<=", MAX_CONVERSION_S, AIM_CONVERSION_S, note or "the export noted none"
    )


def _precision(parity: Parity | None) -> list[TargetResult]:
    flips, change = "INT8 against FP32: flips", "INT8 against FP32: change of p_fake"
    if parity is None:
        note = "no logits of both precisions"
        return [
            TargetResult(flips, "clips", None, "<=", 1, 0, note),
            TargetResult(change, "", None, "<=", gates.MAX_P_CHANGE, AIM_P_CHANGE, note),
        ]
    note = f"{parity.num_clips} clips"
    broken = math.isnan(parity.max_p_change)
    return [
        TargetResult(flips, "clips", math.nan if broken else parity.num_flips, "<=", parity.max_flips, 0, note),
        TargetResult(change, "", parity.max_p_change, "<=", gates.MAX_P_CHANGE, AIM_P_CHANGE, note),
    ]


def _cold_start(primary: str, cold_starts: Mapping[str, ColdStart]) -> list[TargetResult]:
    shipped = cold_starts[primary]
    peaks_mb = {name: start.peak_mb for name, start in cold_starts.items() if start.peak_mb is not None}
    peaks = ", ".join(f"{name} {peak_mb:.0f}" for name, peak_mb in peaks_mb.items())
    starts = ", ".join(f"{name} {start.load_ms + start.first_ms:.0f}" for name, start in cold_starts.items())
    start_ms = shipped.load_ms + shipped.first_ms
    return [
        TargetResult("peak memory of a fresh process", "MB", shipped.peak_mb, "<=", None, None, peaks),
        TargetResult("cold start: load and first clip", "ms", start_ms, "<=", None, None, starts),
    ]
