"""Scores many files, one answer each, and writes answers as they come; the work of `dfkit predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dfkit.console import note
from dfkit.errors import ConfigError
from dfkit.files import check_output_file
from dfkit.media.listing import find_named
from dfkit.runtime.answers import Answer, FileState, answer_of, kept_answer, scored_by, state_of
from dfkit.runtime.backends import BackendName
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.one_video import OpenDetector, Scored, ScoreJob, score_in_processes, score_one
from dfkit.runtime.result_files import CsvForm, Form, JsonLinesForm, ResultFile

Watcher = Callable[[Answer], None]


@dataclass(frozen=True)
class PredictOptions:
    """Where answers go, and how the work is shared out."""

    csv_path: Path | None = None
    """A table, one row a video; grows row by row, and what it holds already is kept."""
    jsonl_path: Path | None = None
    """The elements of `--json`, one a line; likewise."""
    plot_path: Path | None = None
    """A figure; with several videos one for each, numbered."""
    overwrite: bool = False
    """Whether the table and the lines begin anew whatever is there."""
    whole: bool = False
    """Whether each answer is wanted with all tracks and frames: a row of a table alone is then not enough."""
    num_workers: int = 1
    """Processes, each with a detector of its own."""
    killable: bool = False
    """Whether several videos are scored in a process of its own even by one worker: only there one can be given up. A
    single video is then scored in this one, which is a second faster: nothing waits behind it, and there is Ctrl-C."""
    timeout_s: float | None = None
    """Seconds for a video; None leaves them to its size, 0 is no limit. If named, another process scores."""
    debug: bool = False
    """Whether an unforeseen error's traceback is printed."""


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Files to score, in the order given; a folder gives its media files, sorted, subfolders included.

    What counts in a folder is decided by `dfkit.media.listing`, as for labels; what it leaves out is said on stderr. A
    file that is named itself is always taken; a pattern (`videos/*.mp4`) that no shell expanded is expanded here.

    Args:
        paths: Files, folders and patterns. A file is not looked at here: a missing one gets its status later.
    Returns:
        Each file once.
    Raises:
        ConfigError: Nothing was named, a folder holds no video, or a pattern has no match.
    """
    named = find_named(paths)
    if named.empty:
        raise ConfigError("; ".join(named.empty), fix="name the files themselves: dfkit predict video.mp4")
    if not named.listing.videos:
        raise ConfigError("no video was named", fix="dfkit predict video.mp4")
    for line in named.listing.notes():
        note(line)
    return named.listing.videos


def check_places(options: PredictOptions) -> None:
    """Says before any work, and before a model is loaded, whether all that is asked for can be written.

    Raises:
        ConfigError: Two outputs are one file, or no figure can have that name.
        MissingExtraError: A figure is asked for and matplotlib is not installed.
        DfkitError: A place cannot be written to.
    """
    paths = [path for path in (options.csv_path, options.jsonl_path, options.plot_path) if path is not None]
    if len({path.absolute() for path in paths}) < len(paths):
        raise ConfigError("two outputs have one name", fix="name another file for one of them")
    if options.plot_path is not None:
        from dfkit.runtime.plot import check_plotting

        check_plotting(options.plot_path)
    for path in paths:
        check_output_file(path)


def predict_videos(
    paths: Iterable[str | Path],
    bundle: Bundle | str | Path | Detector,
    *,
    backend: BackendName | None = None,
    num_threads: int = 1,
    csv_path: str | Path | None = None,
    jsonl_path: str | Path | None = None,
    plot_path: str | Path | None = None,
    overwrite: bool = False,
    num_workers: int = 1,
    timeout_s: float | None = None,
    watch: Watcher | None = None,
) -> list[Answer]:
    """Scores files; a bad one gets its status and never stops the rest, nor does one that the model fails on.

    Args:
        paths: Files and folders.
        bundle: A verified bundle, or where one lies; or a detector, whose backend and threads are its own.
        backend: `tflite` or `onnx`; None takes TFLite where the bundle has it.
        num_threads: Threads of the model.
        csv_path: Where a table goes, one row a video; one that the same bundle has written is gone on with.
        jsonl_path: Where lines of JSON go, one a video; likewise.
        plot_path: Where a figure goes; with several videos one for each, numbered.
        overwrite: Whether table and lines begin anew.
        num_workers: Processes; 1 works in this one, unless a time is named. A script that asks for more needs
            `if __name__ == "__main__":`. Of a detector only 1.
        timeout_s: Seconds after which a video is given up, in a process of its own; 0 is no limit, None leaves them to
            its size where there are several workers.
        watch: Is shown every answer, in the order of the files.
    Returns:
        One answer for each file, in order.
    Raises:
        BundleError: The bundle cannot be used.
        ConfigError: No video was named, the bundle has no such backend, or a result file holds something else.
        MissingExtraError: A figure is asked for and matplotlib is not installed.
        DfkitError: The table, the lines or a figure cannot be written.
    """
    options = PredictOptions(
        csv_path=None if csv_path is None else Path(csv_path),
        jsonl_path=None if jsonl_path is None else Path(jsonl_path),
        plot_path=None if plot_path is None else Path(plot_path),
        overwrite=overwrite,
        num_workers=num_workers,
        timeout_s=timeout_s,
    )
    videos = find_videos(paths)
    check_places(options)
    if isinstance(bundle, Detector):
        detector, reopen = bundle, None
    else:
        where = bundle.path if isinstance(bundle, Bundle) else bundle
        reopen = partial(Detector, where, backend=backend, num_threads=num_threads)
        detector = Detector(bundle, backend=backend, num_threads=num_threads)
    answers = []
    for answer in predictions(videos, detector, options, reopen=reopen):
        answers.append(answer)
        if watch is not None:
            watch(answer)
    return answers


def predictions(
    videos: Sequence[Path], detector: Detector, options: PredictOptions, *, reopen: OpenDetector | None = None
) -> Generator[Answer, None, None]:
    """Answers for files, in their order, each written into the result files as soon as it is there.

    Closed early (Ctrl-C), the iterator ends its workers and leaves the result files with all that was scored.

    Args:
        videos: As `find_videos` gives them.
        detector: Scores, where this process does.
        options: See there; their places were checked.
        reopen: Makes the same detector in another process; importable by name.
    Returns:
        One answer a file, scored when asked for.
    Raises:
        ConfigError: A result file holds something else, or processes are asked for without `reopen`.
        DfkitError: A result file or a figure cannot be written.
    """
    fingerprint = scored_by(detector)
    files = _result_files(options, fingerprint)
    states = [state_of(video) for video in videos]
    targets = [_target(options, video, number, len(videos)) for number, video in enumerate(videos)]
    jobs = [
        ScoreJob(number, video, target)
        for number, (video, state, target) in enumerate(zip(videos, states, targets, strict=True))
        if not _is_kept(video, state, target, files, options)
    ]
    scored = _score(jobs, detector, options, reopen)
    return _in_order(_Run(videos, states, files, fingerprint), jobs, scored)


def _result_files(options: PredictOptions, fingerprint: str) -> list[ResultFile]:
    """The files that grow; of two, the one that holds whole answers first."""
    named: list[tuple[Path | None, Form]] = [(options.jsonl_path, JsonLinesForm()), (options.csv_path, CsvForm())]
    return [
        ResultFile(path, form, fingerprint, overwrite=options.overwrite) for path, form in named if path is not None
    ]


def _target(options: PredictOptions, video: Path, number: int, total: int) -> Path | None:
    return None if options.plot_path is None else plot_target(options.plot_path, video, number=number + 1, total=total)


def _is_kept(
    video: Path, state: FileState, target: Path | None, files: Sequence[ResultFile], options: PredictOptions
) -> bool:
    """Whether all that is asked for has been written for a file in this state."""
    if not files or (options.whole and options.jsonl_path is None):
        return False
    return all(file.keeps(str(video), state) for file in files) and (target is None or target.is_file())


def _score(
    jobs: Sequence[ScoreJob], detector: Detector, options: PredictOptions, reopen: OpenDetector | None
) -> Generator[tuple[ScoreJob, Scored], None, None]:
    """The jobs, in this process or in others, as `PredictOptions` says."""
    apart = options.num_workers > 1 or options.timeout_s is not None or (options.killable and len(jobs) > 1)
    if not apart:
        return ((job, score_one(detector, job, debug=options.debug)) for job in jobs)
    if reopen is None:
        raise ConfigError(
            "a loaded detector cannot be sent to other processes", fix="give the bundle instead, or use one worker"
        )
    return score_in_processes(
        jobs,
        reopen,
        detector.bundle.manifest,
        num_workers=options.num_workers,
        timeout_s=options.timeout_s,
        debug=options.debug,
    )


@dataclass(frozen=True)
class _Run:
    """What the answers of a call are made of and written to."""

    videos: Sequence[Path]
    states: Sequence[FileState]
    files: Sequence[ResultFile]
    fingerprint: str

    def take(self, job: ScoreJob, scored: Scored) -> Answer:
        """Writes what came of a job."""
        answer = answer_of(scored.result, self.states[job.number], self.fingerprint if scored.final else "")
        for file in self.files:
            file.add(answer.content)
        if scored.plot_error is not None:
            raise scored.plot_error
        return answer

    def kept(self, number: int) -> Answer:
        """What an earlier run wrote."""
        file = self.files[0]
        return kept_answer(file.content(str(self.videos[number])), file.path)


def _in_order(
    run: _Run, jobs: Sequence[ScoreJob], scored: Generator[tuple[ScoreJob, Scored], None, None]
) -> Generator[Answer, None, None]:
    """Answers in the order of the files, though they are scored and written in any."""
    names = [str(video) for video in run.videos]
    unscored = {job.number for job in jobs}
    waiting: dict[int, Answer] = {}
    number = 0
    try:
        for file in run.files:
            file.start([names[job.number] for job in jobs])
        with closing(scored), _progress_bar(len(jobs)) as advance:
            while number < len(names):
                if number in unscored and number not in waiting:
                    job, outcome = next(scored)
                    waiting[job.number] = run.take(job, outcome)
                    advance()
                    continue
                yield waiting.pop(number) if number in waiting else run.kept(number)
                number += 1
        for file in run.files:
            file.finish(names)
    finally:
        for file in run.files:
            file.close()


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[], Any]]:
    """A bar on stderr where the answers themselves are not seen coming, on the same terminal."""
    if not sys.stderr.isatty() or sys.stdout.isatty() or total < 2:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task("scoring", total=total)
        yield lambda: bar.advance(task)


def plot_target(plot_path: str | Path, video: Path, *, number: int, total: int) -> Path:
    """Where a video's figure goes: the path itself, or `out_2_name.png` where there are several."""
    path = Path(plot_path)
    return path if total == 1 else path.with_name(f"{path.stem}_{number}_{video.stem}{path.suffix}")


def exit_code(statuses: Iterable[str]) -> int:
    """2 where every file is unreadable or the model failed on one, else 0.

    Args:
        statuses: Of all files.
    """
    found = set(statuses)
    return 2 if "model_error" in found or found <= {"unreadable"} else 0
