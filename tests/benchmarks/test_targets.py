"""The comparison table: ratios by hand, and what is not there is not measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from dfkit.benchmarks.cold_start import ColdStart
from dfkit.benchmarks.evidence import Parity
from dfkit.benchmarks.latency import Percentiles
from dfkit.benchmarks.rows import target_lines
from dfkit.benchmarks.sizes import Sizes
from dfkit.benchmarks.targets import ONNX_FLOAT, STRAIGHT, TargetResult, compare_targets, conversion_seconds
from dfkit.errors import DataError

INT8, FLOAT = "tflite mixed_int8", "tflite fp32"
SIZES = Sizes(model_mb={"tflite": 1.0}, manifest_mb=0.02, face_models_mb={}, phone_mb={"tflite": 2.5}, bundle_mb=3.0)


def times(clip: float, encode: float, next_clip: float) -> dict[str, Percentiles]:
    stages = {"clip": clip, "encode_clip": encode, "score": clip - encode, "next_clip": next_clip}
    return {name: Percentiles(value, 2 * value, 3 * value, 10) for name, value in stages.items()}


def cold_start(peak: float | None) -> ColdStart:
    return ColdStart(100.0, 20.0, 30.0, 50.0, peak, 3)


def parity(flips: int, change: float) -> Parity:
    return Parity(300, flips, 0, 3, change, 0.0, 0.0, ())


def table(**changes: object) -> dict[str, TargetResult]:
    values: dict = {
        "primary": INT8,
        "sizes": SIZES,
        "latency": {
            INT8: times(10, 9, 5.7),
            STRAIGHT: times(95, 40, 20),
            ONNX_FLOAT: times(30, 25, 15),
            FLOAT: times(20, 18, 12),
        },
        "cold_starts": {INT8: cold_start(60), ONNX_FLOAT: cold_start(None)},
        "parity": parity(1, 0.03),
        "seconds": {"tflite fp32": 15.0, "tflite int8": 1.5, "straight": 90.0},
        **changes,
    }
    return {result.figure: result for result in compare_targets(**values)}


def test_figures_by_hand() -> None:
    found = table()
    expected = {
        "model file": (1.0, "missed"),
        "one clip, straight FP32 over INT8": (9.5, "met"),
        "one clip, the same student in FP32 over INT8": (2.0, "met"),
        "one clip, ONNX Runtime FP32 over INT8": (3.0, "aim met"),
        # Half of 9 ms, 1 ms and 0.3 ms are 5.8 ms.
        "next clip of a stream, half the encode time + score + 0.3 ms": (5.7, "met"),
        # Without the straight conversion, which is no part of the bundle.
        "conversion, all stages": (16.5, "aim met"),
        "INT8 against FP32: flips": (1, "met"),
        "INT8 against FP32: change of p_fake": (0.03, "met"),
        "peak memory of a fresh process": (60, "measured"),
        "cold start: load and first clip": (50, "measured"),
    }
    assert {name: (pytest.approx(result.value), result.verdict) for name, result in found.items()} == expected
    assert found["one clip, straight FP32 over INT8"].note == "95.00 ms over 10.00 ms"


def test_what_misses() -> None:
    slow = {
        INT8: times(40, 30, 26),
        STRAIGHT: times(45, 40, 20),
        ONNX_FLOAT: times(30, 25, 15),
        FLOAT: times(30, 25, 15),
    }
    found = table(latency=slow, parity=parity(4, 0.06), seconds={"tflite fp32": 61})
    missed = {name for name, result in found.items() if result.verdict == "missed"}
    assert "INT8 is the slower one" in found["one clip, the same student in FP32 over INT8"].note
    assert missed == {
        "model file",
        "one clip, straight FP32 over INT8",
        "one clip, the same student in FP32 over INT8",
        "one clip, ONNX Runtime FP32 over INT8",
        "next clip of a stream, half the encode time + score + 0.3 ms",
        "conversion, all stages",
        "INT8 against FP32: flips",
        "INT8 against FP32: change of p_fake",
    }
    broken = table(parity=parity(0, math.nan))
    assert {broken[f"INT8 against FP32: {what}"].verdict for what in ("flips", "change of p_fake")} == {"missed"}
    assert broken["INT8 against FP32: flips"].to_json()["value"] is None


def test_what_is_not_there_is_not_measured() -> None:
    found = table(latency={INT8: times(10, 9, 6)}, parity=None, seconds={})
    unmeasured = [result for result in found.values() if result.verdict == "not measured"]
    assert len(unmeasured) == 6
    assert "--reference" in found["one clip, straight FP32 over INT8"].note
    lines = target_lines(list(found.values()))
    assert any("not measured" in line for line in lines)


def test_seconds_as_noted(tmp_path: Path) -> None:
    assert conversion_seconds(tmp_path) == {}
    (tmp_path / "export.json").write_text(json.dumps({"conversion_s": {"tflite fp32": 3.5}}))
    assert conversion_seconds(tmp_path) == {"tflite fp32": 3.5}
    (tmp_path / "export.json").write_text("[]")
    with pytest.raises(DataError, match=r"export\.json"):
        conversion_seconds(tmp_path)
