"""`dfkit demo`: every stage on eight speakers, with its time, and a verdict on videos that no network has seen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dfkit import pipeline
from dfkit.config import Config, SplitConfig, read_config
from dfkit.console import note
from dfkit.errors import DataError
from dfkit.workspace import Workspace

if TYPE_CHECKING:
    from dfkit.data.storage import PreparedData
    from dfkit.runtime.results import VideoResult

T = TypeVar("T")
CONFIG = Path(__file__).with_name("demo.yaml")
CAVEAT = (
    "Eight speakers make a demonstration, not a detector: these numbers show that every stage works and say "
    "nothing about videos of other people."
)


@dataclass(frozen=True)
class Stage:
    """One stage and what came of it."""

    name: str
    seconds: float
    outcome: str


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration ends with."""

    source: str
    stages: tuple[Stage, ...]
    smaller: str
    verdicts: tuple[VideoResult, ...]
    truths: tuple[str, ...]
    """Label of each video in `verdicts`."""
    report_page: str
    plots: tuple[str, ...]
    exit_code: int

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(stage.seconds for stage in self.stages)

    def summary(self) -> list[str]:
        """Lines for people."""
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


class Clock:
    """Runs stages and keeps their times."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def run(self, name: str, action: Callable[[], T], outcome: Callable[[T], str]) -> T:
        """Runs one stage, saying so before."""
        print(f"\n== {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        result = action()
        self.stages.append(Stage(name, time.monotonic() - started, outcome(result)))
        return result


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
    failed = [f"{r.gate.metric} {r.value:.4g}" for r in report.gates if r.verdict == "fail" and r.value is not None]
    return f"gates: {counts}" + (f" ({'; '.join(failed)})" if failed else "")


def held_out_videos(data: PreparedData, config: SplitConfig) -> list[tuple[Path, str]]:
    """One real video and its forgeries' first from the test split, with their labels.

    Raises:
        DataError: The test split lacks a class.
    """
    from dfkit.distill.loaders import split_clips

    videos = sorted({data.clips[i].video_index for i in split_clips(data, config)["test"]})
    chosen = []
    for label, name in ((0, "real"), (1, "fake")):
        of_label = [data.videos[v] for v in videos if data.videos[v].label == label]
        if not of_label:
            raise DataError(f"{data.path}: no {name} video was held out")
        chosen.append((Path(of_label[0].path), name))
    return chosen


def run_demo(mode: Literal["auto", "real", "synthetic"], root: Path, *, config_path: Path | None = None) -> DemoReport:
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
    from dfkit.demo.grid import demo_videos
    from dfkit.runtime.predict import predict_videos
    from dfkit.runtime.replay import replay_bundle

    config_file = config_path or CONFIG
    config = read_config(config_file)
    workspace, clock = Workspace(root), Clock()
    stem = f"{config.name}-{mode}"
    videos_dir = workspace.data / f"{stem}-videos"
    # Export and parity compare with the same data later, so each demonstration keeps folders of its own.
    sources = clock.run(
        "videos",
        lambda: demo_videos(mode, videos_dir),
        lambda s: f"{len(s.paths)} {s.source} videos; {s.note}",
    )
    data_dir = workspace.data / f"{stem}-{sources.source}"
    clock.run(
        "prepare",
        lambda: pipeline.prepare(
            [sources.labels_csv.parent],
            workspace,
            config_path=config_file,
            labels=sources.labels_csv,
            out_dir=data_dir,
        ),
        lambda s: s.summary()[1],
    )
    forged_dir = Path(f"{data_dir}{pipeline.FORGED_SUFFIX}")
    clock.run(
        "forge",
        lambda: pipeline.forge(workspace, config_path=config_file, data_dir=data_dir, out_dir=forged_dir),
        lambda s: s.summary()[1],
    )
    teacher = clock.run(
        "train",
        lambda: pipeline.train(workspace, config_path=config_file, data_dir=forged_dir),
        lambda s: s.summary()[-1],
    )
    student = clock.run(
        "distill",
        lambda: pipeline.distill(
            workspace, config_path=config_file, teacher_path=Path(teacher.checkpoint), data_dir=forged_dir
        ),
        lambda s: s.notes[-1],
    )
    exported = clock.run(
        "export",
        lambda: pipeline.export(
            workspace,
            config_path=config_file,
            checkpoint=Path(student.checkpoint),
            data_dir=forged_dir,
            formats="all",
            recipe="mixed_int8",
        ),
        lambda s: ", ".join(f"{name} {size / 1e6:.3f} MB" for name, size in s.model_bytes.items()),
    )
    bundle = Path(exported.bundle)
    replay = clock.run("verify", lambda: replay_bundle(bundle), lambda s: "passed" if s.passed else "FAILED")
    held_out = held_out_videos(PreparedData(forged_dir), config.distill.split)
    report_dir = workspace.reports / config.name
    clock.run(
        "bench",
        lambda: pipeline.bench(
            workspace,
            bundle=bundle,
            videos=[path for path, _ in held_out],
            out_dir=report_dir,
            allow_unjudged=True,
            config_path=config_file,
        ),
        gate_counts,
    )
    plot = report_dir / "held-out.png"
    verdicts = clock.run(
        "predict",
        lambda: predict_videos([path for path, _ in held_out], bundle, plot_path=plot),
        lambda results: ", ".join(f"{r.status} {r.verdict}" for r in results),
    )
    note("")
    return DemoReport(
        source=f"{sources.source}: {sources.note}",
        stages=tuple(clock.stages),
        smaller=smaller_than_real(config),
        verdicts=tuple(verdicts),
        truths=tuple(label for _, label in held_out),
        report_page=str(report_dir / "index.html"),
        plots=tuple(str(path) for path in sorted(report_dir.glob("held-out*.png"))),
        exit_code=0 if replay.passed else 1,
    )
