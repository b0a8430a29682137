"""What the start of the runtime costs, by phase, in fresh processes: `python -m tools.speed.start_speed BUNDLE`.

`--against FOLDER` takes turns with the dfkit that lies there. Processor time, which other work bends less
than a clock: medians, then the least, milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parents[2]


def phases(bundle: Path, backend: str) -> dict[str, float]:
    """Processor time of each phase of a start in this process, ms."""
    marks = {"python": time.process_time()}
    from dfkit.benchmarks.latency import make_inputs, time_clip
    from dfkit.runtime.backends import open_backend
    from dfkit.runtime.bundle import load_faces, open_bundle
    from dfkit.runtime.detector import Detector

    del Detector
    marks["imports"] = time.process_time()
    opened = open_bundle(bundle)
    marks["open_bundle"] = time.process_time()
    if backend == "onnx":
        import onnxruntime

        del onnxruntime
        marks["import onnxruntime"] = time.process_time()
    graphs = open_backend(opened, backend)  # type: ignore[arg-type]
    marks["open_backend"] = time.process_time()
    load_faces(opened.manifest, where=str(bundle))
    marks["face models"] = time.process_time()
    spec = opened.manifest.clip_spec
    time_clip(graphs, make_inputs(spec), spec)
    marks["first clip and the next"] = time.process_time()
    ends = list(marks.values())
    return {name: 1e3 * (end - begin) for name, begin, end in zip(marks, [0.0, *ends], ends, strict=False)}


def measure(bundle: Path, backend: str, folders: list[Path], repeats: int) -> dict[Path, list[dict[str, float]]]:
    """Phases of many starts of the dfkit of each folder, in turns; the first of each is not counted."""
    found: dict[Path, list[dict[str, float]]] = {folder: [] for folder in folders}
    command = [sys.executable, __file__, str(bundle.resolve()), "--backend", backend, "--once"]
    for turn in range(repeats + 1):
        for folder in folders:
            environment = {**os.environ, "PYTHONPATH": str(folder)}
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
            if turn:
                found[folder].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def main() -> None:
    """Measures and prints one line per dfkit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", choices=("tflite", "onnx"), default="tflite")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--repeats", type=int, default=13)
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(phases(arguments.bundle, arguments.backend)))
        return
    folders = [HERE] if arguments.against is None else [arguments.against.resolve(), HERE]
    for folder, runs in measure(arguments.bundle, arguments.backend, folders, arguments.repeats).items():
        totals = [{**run, "all": sum(run.values())} for run in runs]
        columns = {name: [run[name] for run in totals] for name in totals[0]}
        print(folder, *(f"{k} {statistics.median(v):.1f} ({min(v):.1f})" for k, v in columns.items()), sep="; ")


if __name__ == "__main__":
    main()
