"""`dfkit forge`: from real videos to twins and forgeries with labels."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dfkit.data.forge.config import ForgeConfig
from dfkit.data.forge.job import FORGE_VERSION, JobResult, Made, SourceFile, run_job
from dfkit.data.forge.plan import Job, connect_groups, make_plan
from dfkit.data.hashing import sha256_file
from dfkit.errors import ConfigError, DataError

LABEL_COLUMNS = ("path", "label", "group", "method", "fake_start_s", "fake_end_s")
REAL = 0
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class ForgeSource:
    """A video that prepared data name."""

    path: Path
    group: str | None
    """Person, source and sound, several divided by ';'. None: the file is its own group."""
    label: int
    """0 real, 1 fake; only real videos are forged."""


@dataclass(frozen=True)
class ForgeSummary:
    """What was made."""

    out_dir: Path
    labels_csv: Path
    num_sources: int
    num_twins: int
    num_kept: int
    """Files that were already there."""
    num_cells: int
    methods: dict[str, int]
    """Forgeries by method."""
    skipped: tuple[tuple[str, str, str], ...]
    """(source, method or empty for all of them, reason)."""
    footage_s: float
    """Seconds of video written in this run."""
    wall_s: float
    groups_known: bool

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        forgeries = sum(self.methods.values())
        lines = [
            f"{self.num_twins} real twins and {forgeries} forgeries from {self.num_sources} real videos "
            f"in {self.num_cells} cells ({self.num_kept} files were already there)",
            "  " + ", ".join(f"{method} {count}" for method, count in sorted(self.methods.items())),
        ]
        reasons = Counter((method or "all methods", reason) for _, method, reason in self.skipped)
        for (method, reason), count in sorted(reasons.items()):
            lines.append(f"  skipped {count} x {method}: {reason}")
        if not self.groups_known:
            lines.append("  groups unknown: persons may leak")
        if self.footage_s:
            speed = self.footage_s / max(self.wall_s, 1e-9)
            lines.append(f"  {self.footage_s:.0f} s of video in {self.wall_s:.0f} s ({speed:.1f} x real time)")
        return [*lines, f"  labels: {self.labels_csv}"]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        content = asdict(self)
        content["out_dir"], content["labels_csv"] = str(self.out_dir), str(self.labels_csv)
        return content


def forge(
    sources: Sequence[ForgeSource], out_dir: Path, config: ForgeConfig | None = None, *, num_workers: int = 1
) -> ForgeSummary:
    """Makes a twin and forgeries of every real video.

    Writes `videos/*.mp4`, `labels.csv` (path, label, group, method, fake_start_s, fake_end_s), `forge.json`
    (settings, plan, what was skipped) and `forged.jsonl` (one line per file: method, parameters, seed,
    source, donor, persons and sounds). A file that a run of the same settings has made is kept; one that
    this run did not ask for stays, but is not in the labels.

    Args:
        sources: Videos; fakes among them are left out.
        out_dir: Folder; made if needed.
        config: Settings; the default makes every method.
        num_workers: Processes; a file does not depend on their number.
    Returns:
        Counts, and what was skipped and why.
    Raises:
        ConfigError: `num_workers` below 1.
        DataError: No real video, or not one forgery could be made.
        OSError: A file cannot be written.
    """
    config = config or ForgeConfig()
    if num_workers < 1:
        raise ConfigError(f"num_workers is {num_workers}, at least 1 is needed")
    started = time.monotonic()
    files, jobs, groups_known = _plan(sources, config)
    (out_dir / "videos").mkdir(parents=True, exist_ok=True)
    results = _run_all(jobs, files, config, out_dir, num_workers)
    made = [entry for result in results for entry in result.made]
    skipped = [(r.source, method, reason) for r in results for method, reason in r.skipped]
    skipped += [(str(s.path), "", "it is labelled fake") for s in sources if s.label != REAL]
    if not any(entry.label == "fake" for entry in made):
        raise _nothing_made(skipped)
    _write_index(out_dir, config, made, skipped)
    return ForgeSummary(
        out_dir=out_dir,
        labels_csv=out_dir / "labels.csv",
        num_sources=len(files),
        num_twins=sum(entry.label == "real" for entry in made),
        num_kept=sum(len(result.made) for result in results if result.kept),
        num_cells=len({entry.group for entry in made}),
        methods=dict(Counter(entry.method for entry in made if entry.method)),
        skipped=tuple(skipped),
        footage_s=sum(result.footage_s for result in results if not result.kept),
        wall_s=time.monotonic() - started,
        groups_known=groups_known,
    )


def _plan(sources: Sequence[ForgeSource], config: ForgeConfig) -> tuple[tuple[SourceFile, ...], list[Job], bool]:
    real = [source for source in sources if source.label == REAL]
    if not real:
        raise DataError(
            f"none of the {len(sources)} videos is labelled real, and only real ones can be forged",
            fix="prepare real videos first: dfkit prepare videos/ with a folder real/ or --labels CSV",
        )
    if missing := [source.path for source in real if not source.path.is_file()]:
        raise DataError(
            f"{len(missing)} source videos are missing, the first is {missing[0]}",
            fix="put them back where they were, or prepare the videos again where they are now",
        )
    # The order decides who lends to whom; it must not depend on the order of a folder's listing.
    real = sorted(real, key=lambda source: (source.path.name, str(source.path)))
    names = connect_groups([source.group or f"file:{source.path.name}" for source in real])
    files = tuple(
        SourceFile(source.path, name, source.group or source.path.name, sha256_file(source.path))
        for source, name in zip(real, names, strict=True)
    )
    return files, make_plan(names, config), all(source.group for source in real)


def _run_all(
    jobs: list[Job], files: tuple[SourceFile, ...], config: ForgeConfig, out_dir: Path, num_workers: int
) -> list[JobResult]:
    # Cell by cell, so that a worker that has read a video soon needs it again as a donor's.
    order = sorted(jobs, key=lambda job: (job.cell, job.source))
    with _Progress(len(jobs)) as progress:
        if num_workers == 1:
            results = [_advance(progress, run_job(job, files, config, out_dir)) for job in order]
        else:
            # Forked workers would inherit locks of OpenCV's and LiteRT's threads.
            context = get_context("spawn")
            with _single_threaded(), ProcessPoolExecutor(min(num_workers, len(jobs)), mp_context=context) as pool:
                futures = [pool.submit(run_job, job, files, config, out_dir) for job in order]
                try:
                    results = [_advance(progress, future.result()) for future in futures]
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return sorted(results, key=lambda result: [str(file.path) for file in files].index(result.source))


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started meanwhile use one thread each for linear algebra: there are as many as wanted already."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update({name: "1" for name in THREAD_VARIABLES})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _advance(progress: _Progress, result: JobResult) -> JobResult:
    progress.advance()
    return result


class _Progress:
    """A bar on stderr, on a terminal only."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._stop: Callable[[], None] = lambda: None
        self.advance: Callable[[], None] = lambda: None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True))
            task = bar.add_task("forging", total=self._total)
            bar.start()
            self._stop, self.advance = bar.stop, lambda: bar.advance(task)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()


def _nothing_made(skipped: list[tuple[str, str, str]]) -> DataError:
    reasons = Counter((method, reason) for _, method, reason in skipped)
    lines = [f"  - {count} x {method or 'all methods'}: {reason}" for (method, reason), count in reasons.most_common(8)]
    return DataError(
        "\n".join(["not one forgery could be made:", *lines]),
        fix="give real videos of at least 2 s with sound and a face of 64 pixels or more, of two persons or more",
    )


def _write_index(out_dir: Path, config: ForgeConfig, made: list[Made], skipped: list[tuple[str, str, str]]) -> None:
    rows = [[e.path, e.label, e.group, e.method, _number(e.fake_start_s), _number(e.fake_end_s)] for e in made]

    def labels(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([LABEL_COLUMNS, *rows])

    head = {
        "schema_version": 1,
        "forge_version": FORGE_VERSION,
        "config": config.model_dump(mode="json"),
        "num_files": len(made),
        "skipped": [{"source": s, "method": m or None, "reason": r} for s, m, r in skipped],
    }
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in made)
    _replace(out_dir / "forged.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
    _replace(out_dir / "forge.json", lambda path: path.write_text(json.dumps(head, indent=1), encoding="utf-8"))
    # Last: who finds the labels finds all they name.
    _replace(out_dir / "labels.csv", labels)


def _number(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:g}"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
