"""`dfkit demo`: every stage on eight speakers, with its time, and a verdict on videos that no network has seen."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkit import pipeline
from dfkit.config import Config
from dfkit.console import note
from dfkit.demo.held_out import LEAST_AUC, HeldOutResult, draw_held_out, held_out_result
from dfkit.experiment import read_config
from dfkit.extras import has_tflite_converter
from dfkit.runtime.bundle import open_bundle
from dfkit.workspace import Workspace

if TYPE_CHECKING:
    from dfkit.demo.grid import DemoVideos, VideoMode

CONFIG = Path(__file__).with_name("demo.yaml")
CAVEAT = (
    "Eight speakers make a demonstration, not a detector: these numbers show that every stage works and say "
    "nothing about videos of other people."
)
LEAST_CONTROL = 10.0
"""Deliberate mistakes change a logit by at least so many times what INT8 does, or parity shows nothing."""


@dataclass(frozen=True)
class Stage:
    """A finished stage of the demonstration."""

    name: str
    seconds: float
    outcome: str
    """What came of it, in a few words."""


@dataclass(frozen=True)
class DemoReport:
    """Times of all stages, and the verdicts on the videos that were held out."""

    source: str
    """Which videos these are and why."""
    is_real: bool
    """Whether people speak in them: synthetic heads are reported and not judged."""
    stages: tuple[Stage, ...]
    smaller: str
    """From `smaller_than_real`."""
    held_out: HeldOutResult
    controls: str
    """From `control_line`."""
    smallest_control: float
    """As a multiple of INT8's error."""
    report_page: str
    plots: tuple[str, ...]
    verified: bool
    """Whether the golden vectors were replayed within their tolerance."""

    @property
    def seconds(self) -> float:
        """Time of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    def summary(self) -> list[str]:
        """Lines for the terminal: a table of the stages, the verdicts, where the plots and the report lie."""
        width = max(len(stage.name) for stage in self.stages)
        lines = ["", f"{'stage':<{width}}  seconds  outcome"]
        lines += [f"{stage.name:<{width}}  {stage.seconds:7.1f}  {stage.outcome}" for stage in self.stages]
        lines += [f"{'all':<{width}}  {self.seconds:7.1f}", "", f"Videos: {self.source}.", self.smaller, ""]
        lines += [*self.held_out.summary(), f"  {self.controls}", "", *(f"plot: {plot}" for plot in self.plots)]
        return [*lines, f"report: {self.report_page}", *self.faults, CAVEAT]

    @property
    def faults(self) -> list[str]:
        """Why the demonstration failed, a line each."""
        found = [] if self.verified else ["FAILED: the golden vectors are not replayed"]
        if self.is_real and self.held_out.student.high < LEAST_AUC:
            found.append(
                f"FAILED: the student's AUC on held-out forgeries is {self.held_out.student.text}, all of the interval "
                f"below {LEAST_AUC:g}"
            )
        if self.is_real and self.smallest_control < LEAST_CONTROL:
            found.append(
                f"FAILED: a deliberate mistake moves the logits by {self.smallest_control:.1f} times what INT8 does, "
                f"less than {LEAST_CONTROL:g}: parity would not notice it"
            )
        return found

    @property
    def exit_code(self) -> int:
        """1 where it failed; a gate that fails, such as latency on a busy machine, is left to `dfkit bench`."""
        return 1 if self.faults else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            **vars(self),
            "stages": [vars(stage) for stage in self.stages],
            "held_out": self.held_out.to_json(),
            "plots": list(self.plots),
            "seconds": self.seconds,
            "faults": self.faults,
            "exit_code": self.exit_code,
            "caveat": CAVEAT,
        }


class StageOutcome:
    """Where the block of a running stage writes what came of it."""

    def __init__(self) -> None:
        self.text = ""


class Clock:
    """Announces stages and keeps their times."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[StageOutcome]:
        """Times the `with` block as a stage; one that raises is not kept.

        Args:
            name: Shown before the block runs.
        Yields:
            Takes the stage's outcome.
        """
        print(f"\n== {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        outcome = StageOutcome()
        yield outcome
        self.stages.append(Stage(name, time.monotonic() - started, outcome.text))


def smaller_than_real(config: Config) -> str:
    """What the demonstration saves, in words."""
    teacher, student = config.train, config.distill
    return (
        f"Made smaller to run in minutes on two cores: {teacher.epochs} epochs for the teacher, which knows most from "
        f"the starter, and {student.epochs} for the student; {len(config.forge.methods)} forgery methods; eight videos."
    )


def gate_counts(report: Any) -> str:
    """How many gates passed, failed or were not judged, the failed ones by name."""
    verdicts = [result.verdict for result in report.gates]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("pass", "fail", "not judged") if v in verdicts)
    failed = [result for result in report.gates if result.verdict == "fail" and result.value is not None]
    if not failed:
        return f"gates: {counts}"
    named = "; ".join(f"{result.gate.metric} {result.value:.4g}" for result in failed)
    return f"gates: {counts} ({named})"


def control_line(bundle: Path) -> tuple[str, float]:
    """What deliberate mistakes move the logits by, as multiples of what INT8 does, and the smallest of them.

    Args:
        bundle: Its manifest holds the parity that was shown when it was exported.
    """
    parity = open_bundle(bundle).manifest.metrics["parity"]
    errors = [stage["max_difference"] for stage in parity["stages"] if stage["quantized"] and stage["kind"] == "real"]
    largest = max(errors, default=0.0)
    multiples = {name: change / max(largest, 1e-9) for name, change in parity["controls"].items()}
    listed = ", ".join(
        f"{name} {multiple:.0f}x" for name, multiple in sorted(multiples.items(), key=lambda each: each[1])
    )
    return f"deliberate mistakes against INT8's largest change of a logit, {largest:.3f}: {listed}", min(
        multiples.values()
    )


class DemoRun:
    """One demonstration: a method per stage, to be called in the order in which they stand here.

    Export and parity compare with the same data later, so each demonstration keeps folders of its own.
    """

    def __init__(self, mode: VideoMode, root: Path, config_file: Path) -> None:
        """Reads the experiment; no stage has run.

        Args:
            mode: Which talking faces.
            root: Workspace.
            config_file: Experiment in YAML.
        Raises:
            ConfigError: The experiment cannot be read.
        """
        self.mode: VideoMode = mode
        self.config_file = config_file
        self.config = read_config(config_file)
        self.workspace = Workspace(root)
        self.clock = Clock()
        self.report_dir = self.workspace.reports / self.config.name

    @property
    def _stem(self) -> str:
        return f"{self.config.name}-{self.mode}"

    def find_videos(self) -> DemoVideos:
        """Finds or makes the videos of eight speakers."""
        from dfkit.demo.grid import demo_videos

        with self.clock.stage("videos") as outcome:
            videos = demo_videos(self.mode, self.workspace.data / f"{self._stem}-videos")
            outcome.text = f"{len(videos.paths)} {videos.source} videos; {videos.note}"
        return videos

    def prepare(self, videos: DemoVideos) -> Path:
        """Prepares the videos; returns the folder of the data."""
        data_dir = self.workspace.data / f"{self._stem}-{videos.source}"
        with self.clock.stage("prepare") as outcome:
            summary = pipeline.prepare(
                [videos.labels_csv.parent],
                self.workspace,
                config_path=self.config_file,
                labels=videos.labels_csv,
                out_dir=data_dir,
            )
            outcome.text = summary.summary()[1]
        return data_dir

    def forge(self, data_dir: Path) -> Path:
        """Forges the prepared videos and prepares what came of it; returns the folder of that data."""
        forged_dir = Path(f"{data_dir}{pipeline.FORGED_SUFFIX}")
        with self.clock.stage("forge") as outcome:
            summary = pipeline.forge(
                self.workspace, config_path=self.config_file, data_dir=data_dir, out_dir=forged_dir
            )
            outcome.text = summary.summary()[1]
        return forged_dir

    def train_teacher(self, forged_dir: Path) -> Path:
        """Trains the teacher; returns its checkpoint."""
        from dfkit.training.run_summary import RunSummary

        with self.clock.stage("train") as outcome:
            summary = pipeline.train(self.workspace, config_path=self.config_file, data_dir=forged_dir)
            assert isinstance(summary, RunSummary), "the demonstration trains no folds"
            outcome.text = next(line for line in summary.summary() if line.startswith("test: "))
        return Path(summary.checkpoint)

    def distill_student(self, teacher: Path, forged_dir: Path) -> Path:
        """Distills the teacher's checkpoint into a student; returns the student's checkpoint."""
        with self.clock.stage("distill") as outcome:
            summary = pipeline.distill(
                self.workspace, config_path=self.config_file, teacher_path=teacher, data_dir=forged_dir
            )
            outcome.text = summary.notes[-1]
        return Path(summary.checkpoint)

    def export(self, student: Path, forged_dir: Path) -> Path:
        """Exports the student's checkpoint in all formats that this system can make; returns the bundle."""
        complete = has_tflite_converter()
        with self.clock.stage("export") as outcome:
            summary = pipeline.export(
                self.workspace,
                config_path=self.config_file,
                checkpoint=student,
                data_dir=forged_dir,
                formats="all" if complete else "onnx",
                recipe="mixed_int8",
            )
            sizes = [f"{name} {size / 1e6:.3f} MB" for name, size in summary.model_bytes.items()]
            outcome.text = ", ".join(sizes) + (
                "" if complete else "; no .tflite: its converter does not run on Windows"
            )
        return Path(summary.bundle)

    def verify(self, bundle: Path) -> bool:
        """Replays the bundle's golden vectors; returns whether all are within their tolerance."""
        from dfkit.runtime.replay_video import verify_bundle

        with self.clock.stage("verify") as outcome:
            passed = verify_bundle(bundle).passed
            outcome.text = "passed" if passed else "FAILED"
        return passed

    def bench(self, bundle: Path, videos: Sequence[Path]) -> None:
        """Measures the bundle on the held-out videos and writes the report."""
        with self.clock.stage("bench") as outcome:
            report = pipeline.bench(
                self.workspace,
                bundle=bundle,
                videos=list(videos),
                out_dir=self.report_dir,
                allow_unjudged=True,
                config_path=self.config_file,
            )
            outcome.text = gate_counts(report)

    def judge_held_out(self, bundle: Path, teacher: Path, forged_dir: Path) -> HeldOutResult:
        """Scores the held-out speakers with the exported student and with the teacher; draws what the student says."""
        with self.clock.stage("held out") as outcome:
            reports = [
                pipeline.evaluate(
                    self.workspace,
                    bundle=model if model == bundle else None,
                    checkpoints=() if model == bundle else (model,),
                    data_dir=forged_dir,
                    split="test",
                    output=self.report_dir / name,
                )
                for name, model in (("student", bundle), ("teacher", teacher))
            ]
            result = held_out_result(*reports)  # type: ignore[arg-type]
            draw_held_out(result, self.report_dir / "held-out.png")
            outcome.text = f"AUC by video: student {result.student.text}, teacher {result.teacher.text}"
        return result


def introduction(mode: VideoMode) -> str:
    """What will happen and how long it takes: the first lines."""
    which = {"real": "of the GRID corpus", "synthetic": "that are synthetic heads"}.get(mode, "of the GRID corpus")
    return (
        f"dfkit demo: a teacher goes on from the package's starter with forgeries of six speakers {which},\n"
        "is pruned and distilled into a student, which is exported in INT8, verified and measured; then both\n"
        "judge two speakers on whom nothing was trained. Ten stages, 3 to 6 minutes on two idle cores."
    )


def run_demo(mode: VideoMode, root: Path, *, config_path: Path | None = None) -> DemoReport:
    """Runs all stages.

    Args:
        mode: Which talking faces.
        root: Workspace.
        config_path: Experiment; the demonstration's own where None.
    Returns:
        Times, what teacher and student say of the held-out speakers, and places.
    Raises:
        DfkitError: Whatever a stage raises.
    """
    print(introduction(mode), file=sys.stderr, flush=True)
    demo = DemoRun(mode, root, config_path or CONFIG)
    videos = demo.find_videos()
    forged_dir = demo.forge(demo.prepare(videos))
    teacher = demo.train_teacher(forged_dir)
    student = demo.distill_student(teacher, forged_dir)
    bundle = demo.export(student, forged_dir)
    verified = demo.verify(bundle)
    held_out = demo.judge_held_out(bundle, teacher, forged_dir)
    demo.bench(bundle, held_out_files(held_out))
    controls, smallest = control_line(bundle)
    note("")
    return DemoReport(
        source=f"{videos.source}: {videos.note}",
        is_real=videos.source == "real",
        stages=tuple(demo.clock.stages),
        smaller=smaller_than_real(demo.config),
        held_out=held_out,
        controls=controls,
        smallest_control=smallest,
        report_page=str(demo.report_dir / "index.html"),
        plots=(str(demo.report_dir / "held-out.png"),),
        verified=verified,
    )


def held_out_files(result: HeldOutResult) -> list[Path]:
    """A real and a forged video to measure the whole way with."""
    return [Path(next(v.path for v in result.videos if v.label_name == name)) for name in ("real", "fake")]
