"""How fast single parts are: `python -m tools.speed.component_speed [--out FILE.json]`.

Parts that are no stage of preparing or training, each timed alone in this process, on one thread. The clock is the
processor's, which goes on only while this process runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfkit.benchmarks.rows import gate_lines
from dfkit.clip import CLIP2S
from dfkit.errors import DfkitError
from dfkit.measures.environment import Environment, read_environment
from dfkit.measures.gates import Gate, GateResult, exit_code
from dfkit.runtime.backends import BackendName
from dfkit.runtime.scoring import ClipScorer
from dfkit.runtime.stream import PushedSound

REPORT_VERSION = 1
HEAD_S = 2.0
"""Length of the synthetic head that is made."""
MIN_HEAD_REAL_TIME = 1.0
"""A head takes no longer than it lasts; 1.7 where this limit was set."""
STREAM_S = 3600.0
"""Length of the stream without a face."""
MIN_STREAM_REAL_TIME = 200.0
"""Sound that nobody is seen to speak costs next to nothing; 1,076 where this limit was set."""
SOUND_RATE, PICTURES_PER_S = 48_000, 25
"""Of that stream: its sound comes in blocks of one picture's length."""
MAX_LOAD = 0.5
"""Processes that wanted a core before the measurement; more means that others were at work."""


@dataclass(frozen=True)
class PartTime:
    """One part: how much it made, and how long that took."""

    name: str
    amount: float
    """What was made, such as seconds of video."""
    cpu_s: float
    """Median processor seconds of the repeats."""
    at_least: float
    """Lowest rate that passes."""
    unit: str
    """Of the rate."""

    @property
    def rate(self) -> float:
        """Amount per processor second."""
        return self.amount / self.cpu_s


@dataclass(frozen=True)
class ComponentSpeedReport:
    """Everything that was measured."""

    parts: tuple[PartTime, ...]
    gates: tuple[GateResult, ...]
    environment: Environment
    repeats: int
    command: str
    exit_code: int

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        load = "unknown" if self.environment.load is None else f"{self.environment.load:.1f}"
        head = f"{self.environment.cpu}, one thread, load before {load}; medians of {self.repeats}"
        return [head, *gate_lines(self.gates)]

    def to_json(self) -> dict[str, Any]:
        """One document with every field."""
        content = {"schema_version": REPORT_VERSION, **asdict(self)}
        return {**content, "gates": [gate.to_json() for gate in self.gates]}


def measure_components(*, repeats: int) -> ComponentSpeedReport:
    """Times every part on this machine.

    Args:
        repeats: Timed runs of each part, after one that warms up.
    Raises:
        MissingExtraError: scikit-image, which holds the head's portrait, is not installed.
    """
    environment = read_environment()
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="dfkit-speed-") as folder:
            path = Path(folder) / "head.mp4"
            head_s = _median_cpu_s(lambda: _make_head(path), repeats)
        stream_s = _median_cpu_s(_push_stream, repeats)
    finally:
        cv2.setNumThreads(num_threads)
    parts = (
        PartTime("making a synthetic head", HEAD_S, head_s, MIN_HEAD_REAL_TIME, "x real time"),
        PartTime("sound of an hour without a face", STREAM_S, stream_s, MIN_STREAM_REAL_TIME, "x real time"),
    )
    gates = judge(parts, environment)
    command = f"python -m tools.speed.component_speed --repeats {repeats}"
    return ComponentSpeedReport(parts, gates, environment, repeats, command, exit_code(gates))


def judge(parts: Sequence[PartTime], environment: Environment) -> tuple[GateResult, ...]:
    """Holds each part against its limit; others on the cores excuse a failure, but take no pass away.

    Args:
        parts: As measured.
        environment: What the figures stand for; its load tells whether others were at work.
    """
    busy = environment.load is not None and environment.load > MAX_LOAD
    results = []
    for part in parts:
        gate = Gate(f"{part.name}, one core", ">=", part.at_least, part.unit)
        excused = busy and not gate.holds(part.rate)
        note = f"{part.rate:.2f} with others at work: load {environment.load:.1f}" if excused else environment.cpu
        results.append(gate.judge(None if excused else part.rate, note=note))
    return tuple(results)


def _make_head(path: Path) -> None:
    from dfkit.synthetic.heads import make_head_video
    from dfkit.synthetic.speakers import PRESETS

    make_head_video(path, PRESETS[0], seconds=HEAD_S, seed=0)


class _NoGraphs:
    """A model that is never asked: without a face there is no clip."""

    name: BackendName = "tflite"
    recipe = "fp32"
    num_threads = 1

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise AssertionError("a face was encoded in a stream without faces")

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("a clip was scored in a stream without faces")


def _push_stream() -> None:
    """What a stream does with its sound while no face is in view; tracking is a row of `media_speed`."""
    sound = PushedSound(SOUND_RATE, CLIP2S.audio.sample_rate)
    sound.first_picture_s = 0.0
    scorer = ClipScorer(_NoGraphs(), CLIP2S, sound, calibration_temperature=1.0, where="no model")
    block = np.zeros(SOUND_RATE // PICTURES_PER_S, np.float32)
    for index in range(round(STREAM_S * PICTURES_PER_S)):
        sound.push(block, index / PICTURES_PER_S)
        scorer.push([], index)


def _median_cpu_s(work: Callable[[], None], repeats: int) -> float:
    work()
    times_s = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times_s.append(time.process_time() - started)
    return statistics.median(times_s)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, writes JSON where asked; 0, 1 or 3 by the gates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(argv)
    if chosen.repeats < 1:
        parser.error("--repeats must be at least 1")
    try:
        report = measure_components(repeats=chosen.repeats)
    except DfkitError as error:
        print(f"dfkit: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(report.summary()))
    if chosen.out is not None:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
