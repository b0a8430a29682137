"""Scores many files and writes their verdicts as a table and as figures; the work of `dfkit predict`."""

from __future__ import annotations

import csv
import io
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dfkit.errors import ConfigError, ModelAnswerError
from dfkit.files import write_atomically
from dfkit.media.container import VIDEO_SUFFIXES
from dfkit.runtime.backends import BackendName
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector, FaceWatcher
from dfkit.runtime.results import DIGITS, VideoResult, result_without_score

logger = logging.getLogger(__name__)
CSV_COLUMNS = (
    "video",
    "status",
    "verdict",
    "p_fake",
    "threshold",
    "modalities",
    "num_tracks",
    "num_clips",
    "worst_track",
    "worst_clip_start_s",
    "worst_clip_p_fake",
    "reason",
)
ResultWatcher = Callable[[VideoResult], None]


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Files to score, in the order given; a folder gives its media files, sorted, subfolders included.

    What counts in a folder is decided by suffix, as for labels; a file that is named itself is always taken.

    Args:
        paths: Files and folders. A file is not looked at here: a missing one gets its status later.
    Returns:
        Each file once.
    Raises:
        ConfigError: Nothing was named, or a folder holds no media file.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
        if not inside:
            raise ConfigError(
                f"folder {path} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))})",
                fix="name the files themselves",
            )
        found.update(dict.fromkeys(inside))
    if not found:
        raise ConfigError("no video was named", fix="dfkit predict video.mp4")
    return list(found)


def predict_videos(
    paths: Iterable[str | Path],
    bundle: Bundle | str | Path | Detector,
    *,
    backend: BackendName | None = None,
    num_threads: int = 1,
    csv_path: str | Path | None = None,
    plot_path: str | Path | None = None,
    watch: ResultWatcher | None = None,
) -> list[VideoResult]:
    """Scores files; a bad one gets its status and never stops the rest, nor does one that the model fails on.

    Args:
        paths: Files and folders.
        bundle: A verified bundle, or where one lies; or a detector, whose backend and threads are its own.
        backend: `tflite` or `onnx`; None takes TFLite where the bundle has it.
        num_threads: Threads of the model.
        csv_path: Where a table goes, one row a video.
        plot_path: Where a figure goes; with several videos one for each, numbered.
        watch: Is shown every result as it comes.
    Returns:
        One result for each file, in order.
    Raises:
        BundleError: The bundle cannot be used.
        ConfigError: No video was named, or the bundle has no such backend.
        MissingExtraError: A figure is asked for and matplotlib is not installed.
        DfkitError: The table or a figure cannot be written.
    """
    videos = find_videos(paths)
    if plot_path is not None:
        from dfkit.runtime.plot import check_plotting

        check_plotting(plot_path)
    options: dict[str, Any] = {"backend": backend, "num_threads": num_threads}
    detector = bundle if isinstance(bundle, Detector) else Detector(bundle, **options)
    results = []
    for number, video in enumerate(_with_progress(videos), start=1):
        target = None if plot_path is None else plot_target(plot_path, video, number=number, total=len(videos))
        result = _detect_and_plot(detector, video, target)
        results.append(result)
        if watch is not None:
            watch(result)
    if csv_path is not None:
        write_csv(results, csv_path)
    return results


def _detect_and_plot(detector: Detector, video: Path, plot_to: Path | None) -> VideoResult:
    if plot_to is None:
        return detect_one(detector, video)
    from dfkit.runtime.plot import FaceSampler, plot_video

    sampler = FaceSampler()
    result = detect_one(detector, video, watch=sampler.add)
    plot_video(result, sampler, plot_to, point=detector.bundle.manifest.operating_point)
    return result


def detect_one(detector: Detector, video: Path, *, watch: FaceWatcher | None = None) -> VideoResult:
    """`Detector.detect`, for one file among several: where the model fails on it, that is its status `model_error`."""
    try:
        return detector.detect(video, watch=watch)
    except ModelAnswerError as error:
        logger.warning("%s: %s", video, error.sentence)
        return result_without_score(str(video), "model_error", error.sentence, detector.bundle.manifest)


def _with_progress(videos: Sequence[Path]) -> Iterator[Path]:
    if not sys.stderr.isatty() or len(videos) < 2:
        yield from videos
        return
    from rich.console import Console
    from rich.progress import track as show_progress

    yield from show_progress(videos, description="scoring", console=Console(stderr=True))


def plot_target(plot_path: str | Path, video: Path, *, number: int, total: int) -> Path:
    """Where a video's figure goes: the path itself, or `out_2_name.png` where there are several."""
    path = Path(plot_path)
    return path if total == 1 else path.with_name(f"{path.stem}_{number}_{video.stem}{path.suffix}")


def write_csv(results: Iterable[VideoResult], path: str | Path) -> Path:
    """Writes one row a video, UTF-8.

    Args:
        results: Any order.
        path: Where to.
    Returns:
        The path.
    Raises:
        OSError: The disk is full.
        DfkitError: It cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(result) for result in results)
    return write_atomically(path, text.getvalue())


def _csv_row(result: VideoResult) -> dict[str, Any]:
    worst = result.worst_clip
    return {
        "video": result.video,
        "status": result.status,
        "verdict": result.verdict or "",
        "p_fake": "" if result.p_fake is None else round(result.p_fake, DIGITS),
        "threshold": result.threshold,
        "modalities": "+".join(result.modalities),
        "num_tracks": len(result.tracks),
        "num_clips": sum(len(track.clips) for track in result.tracks),
        "worst_track": "" if worst is None else worst.track_id,
        "worst_clip_start_s": "" if worst is None else round(worst.start_s, 3),
        "worst_clip_p_fake": "" if worst is None else round(worst.p_fake, DIGITS),
        "reason": result.reason or "",
    }


def exit_code(results: Sequence[VideoResult]) -> int:
    """2 where every file is unreadable or the model failed on one, else 0."""
    statuses = [result.status for result in results]
    return 2 if "model_error" in statuses or set(statuses) <= {"unreadable"} else 0
