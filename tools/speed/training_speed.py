"""How fast training is: `python -m tools.speed.training_speed [--data DIR] [--out FILE.json]`.

Trains the original teacher on prepared data in fresh processes, once on a quarter of the clips and once on all,
and looks at the clock between batches: what passes from the end of one step to the start of the next is waiting for
data. The first epoch warms up and does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from dfkit.benchmarks.cold_start import resident_mb
from dfkit.benchmarks.rows import gate_lines
from dfkit.config import TrainConfig
from dfkit.data.datasets import ClipDataset
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError, DfkitError
from dfkit.measures.environment import Environment, read_environment
from dfkit.measures.gates import Gate, GateResult, exit_code
from dfkit.models.mmms_ba import MMMSBA
from dfkit.report.table import format_number
from dfkit.training.fit import compute_device, make_trainer, quiet_lightning
from dfkit.training.loaders import clip_loader
from dfkit.training.samplers import EpochOrder, FixedOrder
from dfkit.training.task import ClipNetwork, ClipTask
from tools.speed.made_data import make_synthetic_data

REPORT_VERSION = 1
MAX_WAIT_SHARE = 0.10
MAX_MEMORY_RATIO = 1.1
"""Peak memory on four times the clips against that on one time: the room that the allocator takes differs a little."""
MAX_LOAD = 0.5
"""Processes that wanted a core before the measurement; more means that others were at work."""
DEFAULT_CLIPS = 64
GROWTH = 4
EPOCHS = 3
TIMEOUT_S = 1800


@dataclass(frozen=True)
class TrainingSpeed:
    """One run."""

    num_clips: int
    batch_size: int
    num_workers: int
    num_threads: int
    clips_per_s: float
    """Without the first epoch."""
    wait_share: float
    """Of the wall clock, from the end of a step to the start of the next; in [0, 1]."""
    steps: int
    """Steps that were timed."""
    peak_mb: float | None
    """Largest resident size of the training process; None where the system does not say."""
    accelerator: str


@dataclass(frozen=True)
class TrainingSpeedReport:
    """Both runs and what they are judged by."""

    small: TrainingSpeed
    large: TrainingSpeed
    data: str
    gates: tuple[GateResult, ...]
    environment: Environment
    command: str
    exit_code: int

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        load = "unknown" if self.environment.load is None else f"{self.environment.load:.1f}"
        lines = [
            f"{self.environment.cpu}, {self.environment.num_cores} cores, on {self.large.accelerator}, "
            f"load before {load}; the original teacher on {self.data}"
        ]
        lines += [
            f"{run.num_clips} clips: {format_number(run.clips_per_s)} clips/s at batch {run.batch_size} "
            f"({run.num_threads} threads, {run.num_workers} loader processes), {run.wait_share:.1%} of the time "
            f"waiting for data ({run.steps} steps), peak {format_number(run.peak_mb)} MB"
            for run in (self.small, self.large)
        ]
        return lines + gate_lines(self.gates)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        content = {"schema_version": REPORT_VERSION, **asdict(self)}
        return {**content, "gates": [gate.to_json() for gate in self.gates]}


def measure_training(
    *, data_dir: Path | None, num_clips: int, batch_size: int, num_workers: int, num_threads: int
) -> TrainingSpeedReport:
    """Measures on given data, or on clips made for it.

    Args:
        data_dir: Prepared data; made up where left out.
        num_clips: Of the large run; a quarter of them are in the small one.
        batch_size: Clips per step.
        num_workers: Loader processes.
        num_threads: CPU threads of the training process; 0 takes torch's own choice.
    Raises:
        DataError: Too few clips for two batches in the small run.
        DfkitError: A process failed; its last line is in the message.
    """
    # Of every epoch the first batch does not count.
    if num_clips // GROWTH < 2 * batch_size:
        raise DataError(
            f"{num_clips} clips: a quarter of them is less than two batches of {batch_size}",
            fix=f"--clips {2 * GROWTH * batch_size}, or a smaller --batch",
        )
    environment = read_environment()
    with tempfile.TemporaryDirectory() as folder:
        path = data_dir or make_synthetic_data(Path(folder) / "data", num_videos=num_clips)
        options = ["--data", str(path), "--batch", str(batch_size), "--workers", str(num_workers)]
        options += ["--threads", str(num_threads)]
        small, large = (_run([*options, "--once", str(count)]) for count in (num_clips // GROWTH, num_clips))
    gates = _judge(small, large, environment)
    return TrainingSpeedReport(
        small,
        large,
        "made clips" if data_dir is None else str(data_dir),
        gates,
        environment,
        "python -m tools.speed.training_speed",
        exit_code(gates),
    )


def _run(options: list[str]) -> TrainingSpeed:
    command = [sys.executable, "-m", "tools.speed.training_speed", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        return TrainingSpeed(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        raise DfkitError(f"a training process failed: {' '.join(last) or error.returncode}") from error
    except subprocess.TimeoutExpired as error:
        raise DfkitError(f"a training process did not end within {TIMEOUT_S} s", fix="--clips with less") from error


def _judge(small: TrainingSpeed, large: TrainingSpeed, environment: Environment) -> tuple[GateResult, ...]:
    busy = environment.load is not None and environment.load > MAX_LOAD
    note = f"{large.steps} steps" + (f"; others were at work (load {environment.load:.1f})" if busy else "")
    ratio = None if small.peak_mb is None or large.peak_mb is None else large.peak_mb / small.peak_mb
    return (
        Gate("share of time waiting for data", "<", MAX_WAIT_SHARE).judge(large.wait_share, note=note),
        Gate(f"peak memory, {large.num_clips} clips against {small.num_clips}", "<", MAX_MEMORY_RATIO).judge(
            ratio, note="largest resident size" if ratio else "this system does not say it"
        ),
    )


class StepWatch(lightning.Callback):
    """Reads the clock at both ends of every step."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float, float]] = []
        """Clips, seconds of waiting and seconds of work of each step that counts."""
        self.waited = self.begun = self.ended = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is there."""
        self.begun = time.perf_counter()
        self.waited = self.begun - self.ended

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Its step is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ended = time.perf_counter()
        # An epoch's first batch comes after validation, and starts the reading anew.
        if trainer.current_epoch and batch_idx:
            self.marks.append((len(batch["label"]), self.waited, self.ended - self.begun))


def train_once(data_dir: Path, *, num_clips: int, batch_size: int, num_workers: int, num_threads: int) -> TrainingSpeed:
    """Trains the original teacher on the first clips of prepared data, in this process.

    Raises:
        DataError: The data hold fewer clips.
    """
    data = PreparedData(data_dir)
    if len(data) < num_clips:
        raise DataError(f"{data_dir}: {len(data)} clips, {num_clips} are asked for", fix=f"--clips {len(data)}")
    if num_threads:
        torch.set_num_threads(num_threads)
    quiet_lightning()
    config = TrainConfig(epochs=EPOCHS, batch_size=batch_size, num_workers=num_workers)
    clips = ClipDataset(data, range(num_clips))
    order = EpochOrder([data.clips[i].video_index for i in clips.indices], seed=0)
    task = ClipTask(ClipNetwork(MMMSBA(), data.spec), config=config, class_weights=None)
    watch = StepWatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, Path(folder), [watch])
        one = ClipDataset(data, [0])
        trainer.fit(task, clip_loader(clips, config, order), clip_loader(one, TrainConfig(), FixedOrder(1)))
    clips_done, waiting, working = (sum(column) for column in zip(*watch.marks, strict=True))
    return TrainingSpeed(
        num_clips=num_clips,
        batch_size=batch_size,
        num_workers=num_workers,
        num_threads=torch.get_num_threads(),
        clips_per_s=clips_done / (waiting + working),
        wait_share=waiting / (waiting + working),
        steps=len(watch.marks),
        peak_mb=resident_mb("VmHWM"),
        accelerator=str(compute_device(config)),
    )


def main(argv: list[str] | None = None) -> int:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="prepared data; made where left out")
    parser.add_argument(
        "--clips", type=int, default=DEFAULT_CLIPS, help=f"clips of the large run; {DEFAULT_CLIPS} where left out"
    )
    parser.add_argument("--batch", type=int, default=8, help="clips per step")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the training process")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    speed = {"batch_size": chosen.batch, "num_workers": chosen.workers, "num_threads": chosen.threads}
    try:
        if chosen.once is not None:
            print(json.dumps(asdict(train_once(chosen.data, num_clips=chosen.once, **speed))))
            return 0
        report = measure_training(data_dir=chosen.data, num_clips=chosen.clips, **speed)
    except DfkitError as error:
        print(f"dfkit: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(report.summary()))
    if chosen.out is not None:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(report.to_json(), indent=2), encoding="utf-8")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
