"""How fast videos become clips: `python -m tools.speed.media_speed [--out FILE.json]`.

Makes its own test videos, prepares them on one thread in fresh processes, and compares with the usual way
(OpenCV's capture, a Haar cascade on each picture, librosa; one pass each) in the same run, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dfkit.benchmarks.rows import gate_lines
from dfkit.errors import DfkitError, MissingExtraError
from dfkit.measures.child_process import run_for_json
from dfkit.measures.environment import Environment, read_environment
from dfkit.measures.gates import Gate, GateResult, exit_code
from dfkit.report.table import format_number
from tools.speed.media_run import STAGE_NAMES, STAGES
from tools.speed.speed_videos import FPS, SpeedVideos, make_speed_videos

REPORT_VERSION = 1
MIN_REAL_TIME = {"360p": 8.0, "1080p": 3.0}
AIM_REAL_TIME = {"360p": 15.0, "1080p": 5.0}
MIN_SPEEDUP = 1.8
MAX_MEMORY_RATIO = 1.1
"""Peak memory of the longest against the middle video; a shard's 32 clips, 33 s of video, wait in memory."""
LONGER_S = (60.0, 180.0)
NUM_WORKER_VIDEOS = 8
REFERENCE_PICTURES = 20
"""Pictures of each video that the reference way sees: its cascade takes 0.2 s for one of 1080 lines."""
MIN_CORE_SHARE = 0.9
"""A worker that got less of a core than this had to share it: a speedup then says nothing."""
MAX_LOAD = 0.5
"""Processes that wanted a core before the measurement; more means that others were at work."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
TIMEOUT_S = 1800


@dataclass(frozen=True)
class MediaTime:
    """One size of video; medians over the repeats, on one thread."""

    size: str
    duration_s: float
    cpu_s: float
    """Processor seconds from file to shards."""
    wall_s: float
    stages_s: dict[str, float]
    """Processor seconds by `STAGES`, of the median run."""
    capture_s: float
    """Reference way: reading and cropping, per whole video."""
    haar_s: float
    librosa_s: float

    @property
    def real_time(self) -> float:
        """Seconds of video per processor second."""
        return self.duration_s / self.cpu_s

    @property
    def reference_s(self) -> float:
        """Processor seconds of the reference way."""
        return self.capture_s + self.haar_s + self.librosa_s


@dataclass(frozen=True)
class WorkerTime:
    """`prepare` over a folder of equal videos."""

    num_workers: int
    num_videos: int
    wall_s: float
    """All of it, with the start of the processes."""
    video_s: float
    """Median wall clock of one video."""
    start_s: float
    """What the whole takes beyond its videos: starting processes, loading packages and models."""
    core_share: float
    """Processor time over wall clock and workers; below 1 when something else wanted the cores."""


@dataclass(frozen=True)
class MediaSpeedReport:
    """Everything that was measured."""

    times: tuple[MediaTime, ...]
    workers: tuple[WorkerTime, ...]
    baseline_mb: float | None
    """Resident before a video is opened: Python, its packages, the face models."""
    peak_mb: dict[float, float | None]
    """By length of the video in seconds."""
    gates: tuple[GateResult, ...]
    environment: Environment
    repeats: int
    command: str
    exit_code: int

    @property
    def speedup(self) -> float:
        """Of two workers against one, start-up apart."""
        return _speedup(self.workers)

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        load = "unknown" if self.environment.load is None else f"{self.environment.load:.1f}"
        lines = [f"{self.environment.cpu}, one thread, load before {load}; medians of {self.repeats}"]
        lines += [line for time in self.times for line in _time_lines(time)]
        lines += [
            f"{w.num_workers} worker(s): {w.num_videos} videos in {w.wall_s:.1f} s, of it {w.start_s:.1f} s start-up; "
            f"{w.video_s:.2f} s a video, {w.core_share:.0%} of a core each"
            for w in self.workers
        ]
        peaks = ", ".join(f"{_mb(peak)} for {seconds:g} s" for seconds, peak in self.peak_mb.items())
        lines.append(f"peak memory: {peaks} of video; {_mb(self.baseline_mb)} before the first")
        return [*lines, *gate_lines(self.gates)]

    def to_json(self) -> dict[str, Any]:
        """One document with every field."""
        times = [asdict(t) | {"real_time": t.real_time, "reference_s": t.reference_s} for t in self.times]
        return {
            "schema_version": REPORT_VERSION,
            "exit_code": self.exit_code,
            "gates": [result.to_json() for result in self.gates],
            "times": times,
            "workers": [asdict(worker) for worker in self.workers],
            "speedup": self.speedup,
            "baseline_mb": self.baseline_mb,
            "peak_mb": {f"{seconds:g}": peak for seconds, peak in self.peak_mb.items()},
            "environment": asdict(self.environment),
            "repeats": self.repeats,
            "command": self.command,
        }


def bench_media(
    *, seconds: float = 10.0, repeats: int = 5, folder: Path | None = None, environment: Environment | None = None
) -> MediaSpeedReport:
    """Measures preparation on this machine.

    Args:
        seconds: Length of the videos that speed is measured with; at least 3.
        repeats: Timed runs of each video.
        folder: Where test videos go and stay; a temporary one where left out.
        environment: As it was before other measurements loaded the machine; read now where left out.
    Returns:
        The report; its `exit_code` is 0, 1 (a gate failed) or 3 (a gate could not be judged).
    Raises:
        MissingExtraError: The packages of the reference way or of the test videos are not installed.
        DfkitError: A measuring process failed.
    """
    for package in ("librosa", "litdata", "skimage"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")
    environment = environment or read_environment()
    with tempfile.TemporaryDirectory(prefix="dfkit-speed-") as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        videos = make_speed_videos(place, seconds=seconds, longer_s=LONGER_S)
        times = _measure_times(videos, place, repeats=repeats, seconds=seconds)
        workers = _measure_workers(videos.small, place)
        memory = {s: _run("memory", path) for s, path in ({seconds: videos.small} | videos.longer).items()}
    peaks = {s: found["peak_mb"] for s, found in memory.items()}
    results = judge(times, workers, peaks, environment)
    return MediaSpeedReport(
        times=times,
        workers=workers,
        baseline_mb=memory[seconds]["baseline_mb"],
        peak_mb=peaks,
        gates=results,
        environment=environment,
        repeats=repeats,
        command=f"python -m tools.speed.media_speed --seconds {seconds:g} --repeats {repeats}",
        exit_code=exit_code(results),
    )


def judge(
    times: Sequence[MediaTime],
    workers: Sequence[WorkerTime],
    peak_mb: Mapping[float, float | None],
    environment: Environment,
) -> tuple[GateResult, ...]:
    """Holds what was measured against the limits.

    Args:
        times: By size.
        workers: With one worker, then with two.
        peak_mb: By length in seconds, rising.
        environment: What the figures stand for; its load tells whether others were at work.
    """
    cpu, load = environment.cpu, environment.load
    busy = f"others were at work: load {load:.1f} before" if load is not None and load > MAX_LOAD else ""
    results = []
    for time in times:
        gate = Gate(f"preparing {time.size}, one core", ">=", MIN_REAL_TIME[time.size], "x real time")
        results.append(_judge_idle(gate, time.real_time, busy, f"{cpu}; aim {AIM_REAL_TIME[time.size]:g}x"))
    one, two = workers
    gate = Gate("two workers against one", ">=", MIN_SPEEDUP, "times as fast")
    shares = f"{one.core_share:.0%} and {two.core_share:.0%} of a core each"
    shared = "cores were shared" if min(one.core_share, two.core_share) < MIN_CORE_SHARE else ""
    results.append(_judge_idle(gate, _speedup(workers), busy or shared, f"{cpu}; {shares}; start-up apart"))
    (middle_s, middle), (longest_s, longest) = list(peak_mb.items())[-2:]
    gate = Gate(f"peak memory, {longest_s:g} s against {middle_s:g} s", "<=", MAX_MEMORY_RATIO, "times")
    ratio = longest / middle if middle is not None and longest is not None else None
    results.append(gate.judge(ratio, note=f"{_mb(middle)}, {_mb(longest)}"))
    return tuple(results)


def _judge_idle(gate: Gate, value: float, busy: str, note: str) -> GateResult:
    """Others on the cores can only make a figure worse: a pass stands, a failure does not count."""
    if busy and not gate.holds(value):
        return gate.judge(None, note=f"{format_number(value)} {gate.unit}, but {busy}; {note}")
    return gate.judge(value, note=note)


def _speedup(workers: Sequence[WorkerTime]) -> float:
    one, two = workers
    return two.num_workers * one.video_s / two.video_s


def _measure_times(videos: SpeedVideos, place: Path, *, repeats: int, seconds: float) -> tuple[MediaTime, ...]:
    sound = place / "head.wav"
    _write_wav(videos.small, sound, seconds)
    options = ["--sound", str(sound), "--repeats", str(repeats), "--reference-pictures", str(REFERENCE_PICTURES)]
    runs = _run("speed", videos.small, videos.large, options=options)["runs"]
    return (
        _media_time("360p", runs[str(videos.small)], seconds),
        _media_time("1080p", runs[str(videos.large)], seconds),
    )


def _media_time(size: str, runs: list[dict[str, Any]], seconds: float) -> MediaTime:
    ordered = sorted(runs, key=lambda run: float(run["cpu_s"]))
    middle = ordered[len(ordered) // 2]

    def whole(name: str) -> float:
        return statistics.median(run[name] / run["reference_pictures"] * seconds * FPS for run in runs)

    return MediaTime(
        size=size,
        duration_s=seconds,
        cpu_s=statistics.median(run["cpu_s"] for run in runs),
        wall_s=statistics.median(run["wall_s"] for run in runs),
        stages_s={stage: middle["stages_s"][stage] for stage in STAGES},
        capture_s=whole("capture_s"),
        haar_s=whole("haar_s"),
        librosa_s=statistics.median(run["librosa_s"] for run in runs),
    )


def _measure_workers(video: Path, place: Path) -> tuple[WorkerTime, ...]:
    folder = place / "real"
    folder.mkdir(exist_ok=True)
    for number in range(NUM_WORKER_VIDEOS):
        shutil.copyfile(video, folder / f"{number}.mp4")
    found = []
    for num_workers in (1, 2):
        run = _run("workers", folder, options=["--workers", str(num_workers)])
        video_s = statistics.median(run["videos_s"])
        found.append(
            WorkerTime(
                num_workers=num_workers,
                num_videos=NUM_WORKER_VIDEOS,
                wall_s=run["wall_s"],
                video_s=video_s,
                start_s=max(run["wall_s"] - video_s * NUM_WORKER_VIDEOS / num_workers, 0.0),
                core_share=run["cpu_s"] / (run["wall_s"] * num_workers),
            )
        )
    return tuple(found)


def _write_wav(video: Path, path: Path, seconds: float) -> None:
    import wave

    import numpy as np

    from dfkit.media.audio import read_waveform
    from tools.speed.speed_videos import SAMPLE_RATE

    count = round(seconds * SAMPLE_RATE)
    sound = read_waveform(video, sample_rate=SAMPLE_RATE, first_picture_s=0.0, num_samples=count)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def _run(task: str, *paths: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Measures in a fresh process with one thread."""
    command = [sys.executable, "-m", "tools.speed.media_run", task, *map(str, paths), *options]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    name = f"measuring '{task}'"
    return run_for_json(command, name=name, no_answer="nothing", timeout_s=TIMEOUT_S, environment=environment)


def _time_lines(time: MediaTime) -> list[str]:
    total = sum(time.stages_s.values())
    shares = ", ".join(f"{STAGE_NAMES[stage]} {time.stages_s[stage] / total:.0%}" for stage in STAGES)
    return [
        f"{time.size}: {time.real_time:.1f}x real time ({time.cpu_s:.2f} s of processor, {time.wall_s:.2f} s of "
        f"wall clock for {time.duration_s:g} s)",
        f"  {shares}",
        f"  reference: {time.duration_s / time.reference_s:.1f}x real time (capture {time.capture_s:.2f} s, cascade "
        f"{time.haar_s:.2f} s, librosa {time.librosa_s:.2f} s); preparing is "
        f"{format_number(time.reference_s / time.cpu_s)} times as fast",
    ]


def _mb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} MB"


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, writes JSON where asked; 0, 1 or 3 by the gates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the test videos")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    if arguments.seconds < 3 or arguments.repeats < 1:
        parser.error("--seconds must be at least 3 and --repeats at least 1")
    try:
        report = bench_media(seconds=arguments.seconds, repeats=arguments.repeats)
    except DfkitError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(report.summary()))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
