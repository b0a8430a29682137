"""The app's JSON as a test needs it: of a bundle, with made-up times of a made-up phone."""

from __future__ import annotations

from typing import Any

from dfkit.benchmarks.latency import STAGES
from dfkit.benchmarks.phone import measured_files
from dfkit.runtime.bundle import Bundle


def phone_answer(bundle: Bundle) -> dict[str, Any]:
    """What a phone says that measured the bundle."""
    variant = f"tflite {bundle.manifest.backends['tflite'].recipe}"
    times = {"p50_ms": 40.0, "p90_ms": 45.5, "p99_ms": 60.0, "num": 100}
    heat = {"status": "none", "battery_c": 30.0}
    warm = {"status": "moderate", "battery_c": 38.0}
    return {
        "schema_version": 1,
        "measured_by": "phone",
        "name": bundle.manifest.name,
        "files": measured_files(bundle),
        "primary": variant,
        "latency_ms": {variant: {stage: times for stage in STAGES}},
        "fresh": {
            variant: {
                "import_ms": 310.0,
                "load_ms": 95.0,
                "first_ms": 55.0,
                "baseline_mb": 80.0,
                "peak_mb": 120.0,
                "num": 1,
            }
        },
        "sustained": [
            {"end_s": 10.0, "clip": times, "heat": heat},
            {"end_s": 600.0, "clip": {**times, "p50_ms": 44.0}, "heat": warm},
        ],
        "golden": {"passed": True, "num_outputs": 16, "num_controls": 8},
        "device": {
            "manufacturer": "<Maker>",
            "model": "One",
            "soc": "chip",
            "android": "14",
            "api": 34,
            "abi": "arm64-v8a",
            "num_cores": 8,
            "memory_gb": 8.0,
            "app": "0.1.0",
            "date": "2026-01-01T00:00:00Z",
        },
        "runtime": "tensorflow 2.21.0",
        "num_threads": 1,
        "repeats": 100,
        "warnings": [],
    }
