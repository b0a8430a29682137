"""Scoring one video among many, here or in a process that can be killed: what goes wrong is its own status alone."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dfkit.errors import DfkitError, ModelAnswerError
from dfkit.named_inputs import video_fault
from dfkit.processes import map_outcomes
from dfkit.runtime.detector import Detector, FaceWatcher
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.results import VideoResult, result_without_score
from dfkit.time_limits import given_up, time_limit_s

logger = logging.getLogger(__name__)
CRASHED = (
    "reading it ended the process twice (a crash, or killed for its memory). "
    "Fix: convert it (ffmpeg -i INPUT -c:v libx264 -c:a aac OUTPUT.mp4)"
)
NO_MEMORY = "not enough memory for it. Fix: free memory, or run again with fewer --workers"
OpenDetector = Callable[[], Detector]


@dataclass(frozen=True)
class ScoreJob:
    """A video to score."""

    number: int
    """Among those named."""
    video: Path
    plot_to: Path | None = None


@dataclass(frozen=True)
class Scored:
    """What came of a job."""

    result: VideoResult
    final: bool
    """False where another try may end otherwise: too little time or memory, a crash."""
    plot_error: Exception | None = None
    """Why its figure could not be written; what was scored is not lost for that."""


def detect_one(
    detector: Detector, video: Path, *, watch: FaceWatcher | None = None, debug: bool = False
) -> VideoResult:
    """`Detector.detect` for one file among several: it never raises for the file's sake.

    Where the model fails, that is the status `model_error`; whatever else a decoder raises, of any type, is
    `unreadable` with the error as the reason.

    Args:
        detector: Scores.
        video: Not opened where its name or kind says that it is none, such as a pipe.
        watch: Is shown every face.
        debug: Whether an unforeseen error's traceback is printed: it may be a fault of dfkit's own.
    """
    return _detect(detector, video, watch, debug=debug).result


def _detect(detector: Detector, video: Path, watch: FaceWatcher | None, *, debug: bool) -> Scored:
    manifest = detector.bundle.manifest
    fault = video_fault(video)
    if fault is not None:
        return Scored(result_without_score(str(video), "unreadable", fault.sentence, manifest), final=True)
    try:
        return Scored(detector.detect(video, watch=watch), final=True)
    except ModelAnswerError as error:
        logger.warning("%s: %s", video, error.sentence)
        return Scored(result_without_score(str(video), "model_error", error.sentence, manifest), final=True)
    except MemoryError:
        logger.warning("%s: %s", video, NO_MEMORY)
        return Scored(result_without_score(str(video), "unreadable", f"{video}: {NO_MEMORY}", manifest), final=False)
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = (
            f"{video}: unforeseen error {type(error).__name__}: {' '.join(str(error).split())}. "
            "Fix: convert the file; --debug shows where it was raised"
        )
        logger.warning("%s", reason)
        return Scored(result_without_score(str(video), "unreadable", reason, manifest), final=False)


def score_one(detector: Detector, job: ScoreJob, *, debug: bool = False) -> Scored:
    """Scores a video and draws its figure, if one is wanted."""
    if job.plot_to is None:
        return _detect(detector, job.video, None, debug=debug)
    from dfkit.runtime.plot import FaceSampler, plot_video

    sampler = FaceSampler()
    scored = _detect(detector, job.video, sampler.add, debug=debug)
    try:
        decision = detector.bundle.manifest.decision_by(scored.result.modalities)
        plot_video(scored.result, sampler, job.plot_to, point=decision.operating_point)
    except (DfkitError, OSError) as error:
        return Scored(scored.result, scored.final, error)
    return scored


class WorkerScorer:
    """Scores in a worker process, with a detector that it loads there once."""

    def __init__(self, open_detector: OpenDetector, *, debug: bool) -> None:
        self._open, self._debug = open_detector, debug
        self._detector: Detector | None = None

    def load(self) -> None:
        """Loads the detector."""
        self._detector = self._open()

    def __call__(self, job: ScoreJob) -> Scored:
        """Scores a video."""
        assert self._detector is not None, "loaded before the first job"
        return score_one(self._detector, job, debug=self._debug)


def score_in_processes(
    jobs: Sequence[ScoreJob],
    open_detector: OpenDetector,
    manifest: Manifest,
    *,
    num_workers: int,
    timeout_s: float | None,
    debug: bool = False,
) -> Generator[tuple[ScoreJob, Scored], None, None]:
    """Scores in processes of this machine; a video that crashes its process or hangs is `unreadable`, and no more.

    Args:
        jobs: In the order in which they are begun.
        open_detector: Makes the detector in each process; importable by name.
        manifest: Of that detector, for the results of what was given up.
        num_workers: Processes.
        timeout_s: Seconds for a video; None leaves them to its size, 0 is no limit.
        debug: Whether unforeseen errors' tracebacks are printed.
    Yields:
        A job and what came of it, as they become ready.
    """

    def limit_s(job: ScoreJob) -> float | None:
        return time_limit_s(job.video, timeout_s)

    scorer = WorkerScorer(open_detector, debug=debug)
    with closing(
        map_outcomes(scorer, jobs, num_workers, limit_s=limit_s, warm_up=scorer.load, one_thread=num_workers > 1)
    ) as outcomes:
        for outcome in outcomes:
            job = jobs[outcome.place]
            if outcome.result is not None:
                yield job, outcome.result
                continue
            reason = f"{job.video}: {CRASHED if outcome.fault == 'died' else given_up(limit_s(job))}"
            logger.warning("%s", reason)
            yield job, Scored(result_without_score(str(job.video), "unreadable", reason, manifest), final=False)
