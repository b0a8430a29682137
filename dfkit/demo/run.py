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
from dfkit.config import Config, SplitConfig
from dfkit.console import note
from dfkit.errors import DataError
from dfkit.experiment import read_config
from dfkit.extras import has_tflite_converter
from dfkit.workspace import Workspace

if TYPE_CHECKING:
    from dfkit.data.storage import PreparedData
    from dfkit.demo.grid import DemoVideos, VideoMode
    from dfkit.runtime.results import VideoResult

CONFIG = Path(__file__).with_name("demo.yaml")
CAVEAT = (
    "Eight speakers make a demonstration, not a detector: these numbers show that every stage works and say "
    "nothing about videos of other people."
)


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
    stages: tuple[Stage, ...]
    smaller: str
    """From `smaller_than_real`."""
    verdicts: tuple[VideoResult, ...]
    truths: tuple[str, ...]
    """Label of each video in `verdicts`."""
    report_page: str
    plots: tuple[str, ...]
    exit_code: int

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
        for result, truth in zip(self.verdicts, self.truths, strict=True):
            lines += [f"held out, labelled {truth}: {line}" for line in result.summary()]
        return [*lines, "", *(f"plot: {plot}" for plot in self.plots), f"report: {self.report_page}", CAVEAT]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            **vars(self),
            "stages": [vars(stage) for stage in self.stages],
            "verdicts": [result.to_json() for result in self.verdicts],
            "truths": list(self.truths),
            "plots": list(self.plots),
            "seconds": self.seconds,
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
    picture, teacher, student = config.clip.picture, config.train, config.distill
    return (
        f"Made smaller to run in minutes on two cores: faces {picture.face_px} px instead of 224 and lips "
        f"{picture.lip_px} px instead of 96; CNNs of {teacher.widths.face_channels[-1]} (teacher) and "
        f"{student.widths.face_channels[-1]} (student) features instead of 256 and 128; {teacher.epochs} and "
        f"{student.epochs} epochs; two of the forgery methods."
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


@dataclass(frozen=True)
class HeldOutVideo:
    """A video of the test split, which no network was trained or tuned on."""

    path: Path
    label_name: str
    """`real` or `fake`."""


def held_out_videos(data: PreparedData, config: SplitConfig) -> list[HeldOutVideo]:
    """The first real and the first fake video of the test split.

    Args:
        data: Labelled, prepared data.
        config: How it is split.
    Raises:
        DataError: The test split lacks a class.
    """
    from dfkit.data.splits import split_clips

    test_clips = split_clips(data, config)["test"]
    test_videos = [data.videos[index] for index in sorted({data.clips[clip].video_index for clip in test_clips})]
    chosen = []
    for label, name in ((0, "real"), (1, "fake")):
        of_label = [video for video in test_videos if video.label == label]
        if not of_label:
            raise DataError(f"{data.path}: no {name} video was held out")
        chosen.append(HeldOutVideo(Path(of_label[0].path), name))
    return chosen


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
        from dfkit.training.train import RunSummary

        with self.clock.stage("train") as outcome:
            summary = pipeline.train(self.workspace, config_path=self.config_file, data_dir=forged_dir)
            assert isinstance(summary, RunSummary), "the demonstration trains no folds"
            outcome.text = summary.summary()[-1]
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

    def predict(self, bundle: Path, videos: Sequence[Path]) -> list[VideoResult]:
        """Scores the held-out videos, with a figure of each beside the report."""
        from dfkit.runtime.predict import predict_videos

        with self.clock.stage("predict") as outcome:
            answers = predict_videos(list(videos), bundle, plot_path=self.report_dir / "held-out.png")
            results = [answer.result for answer in answers if answer.result is not None]
            outcome.text = ", ".join(f"{result.status} {result.verdict}" for result in results)
        return results


def run_demo(mode: VideoMode, root: Path, *, config_path: Path | None = None) -> DemoReport:
    """Runs all stages.

    Args:
        mode: Which talking faces.
        root: Workspace.
        config_path: Experiment; the demonstration's own where None.
    Returns:
        Times, verdicts and places. Its exit code is 1 where the golden vectors fail; a gate that fails, such as
        latency on a busy machine, is shown and left to `dfkit bench`.
    Raises:
        DfkitError: Whatever a stage raises.
    """
    from dfkit.data.storage import PreparedData

    demo = DemoRun(mode, root, config_path or CONFIG)
    videos = demo.find_videos()
    forged_dir = demo.forge(demo.prepare(videos))
    teacher = demo.train_teacher(forged_dir)
    student = demo.distill_student(teacher, forged_dir)
    bundle = demo.export(student, forged_dir)
    passed = demo.verify(bundle)
    held_out = held_out_videos(PreparedData(forged_dir), demo.config.split)
    held_out_paths = [video.path for video in held_out]
    demo.bench(bundle, held_out_paths)
    verdicts = demo.predict(bundle, held_out_paths)
    note("")
    return DemoReport(
        source=f"{videos.source}: {videos.note}",
        stages=tuple(demo.clock.stages),
        smaller=smaller_than_real(demo.config),
        verdicts=tuple(verdicts),
        truths=tuple(video.label_name for video in held_out),
        report_page=str(demo.report_dir / "index.html"),
        plots=tuple(str(path) for path in sorted(demo.report_dir.glob("held-out*.png"))),
        exit_code=0 if passed else 1,
    )
