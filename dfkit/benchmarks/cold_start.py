"""Cold start and peak memory, each in a process of its own: `python -m dfkit.benchmarks.cold_start BUNDLE`.

The process prints one line of JSON. What it measures is what an application would see that loads a bundle and
scores its first clip, or with `--video` its first file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dfkit.measures.child_process import run_for_json

TIMEOUT_S = 600


@dataclass(frozen=True)
class ColdStart:
    """Start of an application that loads a bundle: times in ms, memory in MB, medians over several processes."""

    import_ms: float
    """Importing the Python packages of the runtime."""
    load_ms: float
    """Verifying the bundle and loading the graphs."""
    first_ms: float
    """Scoring the first clip (or file)."""
    baseline_mb: float | None
    """Resident before the bundle is opened: Python and its packages."""
    peak_mb: float | None
    """Largest resident size; None where the system does not say."""
    num: int
    """Processes measured."""


def measure_cold_start(
    bundle: Path, *, backend: str, num_threads: int, repeats: int = 3, video: Path | None = None
) -> ColdStart:
    """Starts processes and takes the median of what they report.

    Args:
        bundle: Bundle folder or .zip.
        backend: `tflite` or `onnx`.
        num_threads: Threads of the model.
        repeats: Processes to start, one after the other.
        video: Scores this file instead of one clip of noise.
    Returns:
        The median of each figure.
    Raises:
        DfkitError: A process failed; its last line is in the message.
    """
    command = [sys.executable, "-m", "dfkit.benchmarks.cold_start", str(bundle.resolve())]
    command += ["--backend", backend, "--threads", str(num_threads)]
    command += ["--video", str(video.resolve())] if video else []
    runs = []
    for _ in range(repeats):
        runs.append(run_for_json(command, name="a fresh process", no_answer="no measurement", timeout_s=TIMEOUT_S))
    medians = {key: _median([run[key] for run in runs]) for key in runs[0]}
    return ColdStart(num=repeats, **medians)  # type: ignore[arg-type]


def _median(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None


def resident_mb(field: str) -> float | None:
    """Resident memory of this process.

    On Linux from /proc: `ru_maxrss` survives exec, so that a child of a large process reports its parent's
    peak. Elsewhere `ru_maxrss`, which knows the peak only.

    Args:
        field: `VmRSS` (now) or `VmHWM` (peak).
    Returns:
        MB, or None where the system does not say.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text(encoding="ascii", errors="replace").splitlines())
        return next((int(parts[1]) * 1024 / 1e6 for parts in lines if parts[0] == f"{field}:"), None)
    if field != "VmHWM":
        return None
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(argv: list[str] | None = None) -> None:
    """Measures in this process and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", choices=("tflite", "onnx"), required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--video", type=Path)
    arguments = parser.parse_args(argv)
    start = time.perf_counter()
    from dfkit.benchmarks.latency import make_inputs, time_clip
    from dfkit.runtime.backends import open_backend
    from dfkit.runtime.bundle import open_bundle
    from dfkit.runtime.detector import Detector

    imported, baseline_mb = time.perf_counter(), resident_mb("VmRSS")
    bundle = open_bundle(arguments.bundle)
    if arguments.video:
        detector = Detector(bundle, backend=arguments.backend, num_threads=arguments.threads)
        loaded = time.perf_counter()
        detector.detect(arguments.video)
        first_s = time.perf_counter() - loaded
    else:
        graphs = open_backend(bundle, arguments.backend, num_threads=arguments.threads)
        loaded = time.perf_counter()
        inputs = make_inputs(bundle.manifest.clip_spec)
        first_s = time_clip(graphs, inputs, bundle.manifest.clip_spec)["clip"][0]
    result = {
        "import_ms": (imported - start) * 1e3,
        "load_ms": (loaded - imported) * 1e3,
        "first_ms": first_s * 1e3,
        "baseline_mb": baseline_mb,
        "peak_mb": resident_mb("VmHWM"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
