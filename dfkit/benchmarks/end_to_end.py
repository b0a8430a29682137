"""Time from a file to its verdict, with a clock around each stage.

The detector that is timed is the shipped one: its parts and its model are wrapped, its code is not replaced.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.clip import ClipSpec, FaceVariant
from dfkit.errors import MediaError
from dfkit.media.audio import SoundReader
from dfkit.media.coverage import Coverage
from dfkit.media.faces import SHORT_RANGE, FaceDetector, FaceModels
from dfkit.media.facts import probe
from dfkit.media.picture import Picture
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.survey import Survey
from dfkit.media.track import TrackedPicture
from dfkit.media.video import PictureReader
from dfkit.runtime.backends import BackendName, Graphs
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector, DetectorParts, FileSound
from dfkit.runtime.stream import GridPicture

VIDEO_STAGES = ("decode", "detection", "landmarks", "crops", "sound", "encode", "score", "rest")
VIDEO_STAGE_NAMES = {
    "decode": "decode and colours",
    "detection": "face detection",
    "landmarks": "landmarks",
    "crops": "tracking and crops",
    "sound": "sound",
    "encode": "encode",
    "score": "score",
    "rest": "the rest",
}


@dataclass(frozen=True)
class VideoTiming:
    """How long one file takes from opening it to its verdict, in seconds."""

    video: str
    status: str
    duration_s: float
    width: int
    height: int
    total_s: float
    """Median over the repeats, as a user's own call takes it: reading and following run beside the model."""
    stages_s: dict[str, float]
    """Time in each of `VIDEO_STAGES` where one thread does all of them in turn; together more than `total_s`."""

    @property
    def real_time(self) -> float:
        """Seconds of video per second of work."""
        return self.duration_s / self.total_s


class Stopwatch:
    """Adds up time by stage; while a stage runs inside another, only the inner one's time grows."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(VIDEO_STAGES, 0.0)
        self._running: list[tuple[str, float]] = []

    def reset(self) -> None:
        """Sets all stages back to zero seconds."""
        self.seconds = dict.fromkeys(VIDEO_STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the `with` block for one of `VIDEO_STAGES`."""
        now = time.perf_counter()
        if self._running:
            outer, since = self._running[-1]
            self.seconds[outer] += now - since
        self._running.append((name, now))
        try:
            yield
        finally:
            now = time.perf_counter()
            self.seconds[name] += now - self._running.pop()[1]
            if self._running:
                self._running[-1] = (self._running[-1][0], now)


class TimedFaceModels(FaceModels):
    """Face networks whose runs count as stages `detection` and `landmarks`."""

    def __init__(self, variant: FaceVariant, watch: Stopwatch, *, second_stage: bool) -> None:
        super().__init__(variant, second_stage=second_stage)
        self._watch = watch

    def detect(self, picture: np.ndarray, detector: FaceDetector = SHORT_RANGE) -> tuple[np.ndarray, np.ndarray]:
        with self._watch.stage("detection"):
            return super().detect(picture, detector)

    def landmark(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        with self._watch.stage("landmarks"):
            return super().landmark(picture)


class TimedFaceStream(FaceStream):
    """Tracker and cropper that count as stage `crops`; the networks inside count for themselves."""

    def __init__(self, spec: ClipSpec, models: FaceModels, watch: Stopwatch) -> None:
        super().__init__(spec, models)
        self._watch = watch

    def track(self, picture: Picture | np.ndarray) -> TrackedPicture:
        with self._watch.stage("crops"):
            return super().track(picture)

    def push(
        self,
        index: int,
        t_s: float,
        rgb: Picture | np.ndarray,
        *,
        shrink: int = 1,
        tracked: TrackedPicture | None = None,
    ) -> list[FaceFrame]:
        with self._watch.stage("crops"):
            return super().push(index, t_s, rgb, shrink=shrink, tracked=tracked)

    def flush(self) -> Iterator[FaceFrame]:
        with self._watch.stage("crops"):
            faces = list(super().flush())
        yield from faces


class TimedGraphs:
    """A loaded model whose graphs count as stages `encode` and `score`."""

    def __init__(self, graphs: Graphs, watch: Stopwatch) -> None:
        self.name: BackendName = graphs.name
        self.recipe = graphs.recipe
        self.num_threads = graphs.num_threads
        self._graphs, self._watch = graphs, watch

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Features of pictures, timed; arguments and result as of `Graphs.encode`."""
        with self._watch.stage("encode"):
            return self._graphs.encode(pictures)

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of one clip, timed; arguments and result as of `Graphs.score`."""
        with self._watch.stage("score"):
            return self._graphs.score(inputs)


class TimedSound(FileSound):
    """A file's sound whose reading counts as stage `sound`."""

    def __init__(self, reader: SoundReader, watch: Stopwatch) -> None:
        super().__init__(reader)
        self._watch = watch

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """(num_samples,) float32 from sample `start` on, timed; see `scoring.Sound`."""
        with self._watch.stage("sound"):
            return super().read(start, num_samples)

    def finish(self) -> Coverage:
        """Decodes what is left, timed."""
        with self._watch.stage("sound"):
            return super().finish()


def timed_parts(watch: Stopwatch) -> DetectorParts:
    """The shipped detector's parts with a clock around each.

    Args:
        watch: Where the times go.
    """

    def read_pictures(reader: PictureReader) -> Generator[GridPicture, None, None]:
        pictures = iter(reader)
        while True:
            with watch.stage("decode"):
                picture = next(pictures, None)
            if picture is None:
                return
            yield picture

    @contextmanager
    def open_sound(survey: Survey, *, sample_rate: int, first_picture_s: float) -> Iterator[FileSound]:
        with ExitStack() as stack:
            with watch.stage("sound"):
                opened = SoundReader(
                    survey.path, sample_rate=sample_rate, first_picture_s=first_picture_s, survey=survey
                )
                reader = stack.enter_context(opened)
            yield TimedSound(reader, watch)

    return DetectorParts(
        load_face_models=lambda variant, *, second_stage: TimedFaceModels(variant, watch, second_stage=second_stage),
        make_face_stream=lambda spec, models: TimedFaceStream(spec, models, watch),
        read_pictures=read_pictures,
        open_sound=open_sound,
    )


def make_timed_detector(bundle: Bundle, graphs: Graphs, watch: Stopwatch) -> Detector:
    """A detector with a clock around each stage, all in one thread: what overlaps cannot be told apart.

    Args:
        bundle: Verified bundle.
        graphs: One of its backends, loaded.
        watch: Where the times go.
    """
    return Detector(bundle, graphs=TimedGraphs(graphs, watch), parts=timed_parts(watch), decoder_threads=1)


@dataclass(frozen=True)
class TimedRun:
    """Status and times of scoring a file once."""

    status: str
    stages_s: dict[str, float]
    """Seconds in each of `VIDEO_STAGES`."""

    @property
    def total_s(self) -> float:
        """Seconds of all stages together."""
        return sum(self.stages_s.values())


def time_video(detector: Detector, watch: Stopwatch, path: Path) -> TimedRun:
    """Scores a file once.

    Args:
        detector: From `make_timed_detector`.
        watch: The one that the detector was made with; it is reset.
        path: Media file.
    """
    watch.reset()
    with watch.stage("rest"):
        result = detector.detect(path)
    return TimedRun(result.status, dict(watch.seconds))


def measure_end_to_end(
    bundle: Bundle, graphs: Graphs, videos: Sequence[Path], *, repeats: int = 3, decoder_threads: int = 0
) -> list[VideoTiming]:
    """Times files from opening them to their verdict.

    Args:
        bundle: Verified bundle.
        graphs: One of its backends.
        videos: Files; one that cannot be read is timed as far as it goes, and says so.
        repeats: Runs of each file, taking turns; the first of all warms up and does not count.
        decoder_threads: Threads of the video decoder; 0 leaves the number to it.
    Returns:
        One entry a file, in order, with the median of its runs.
    """
    watch = Stopwatch()
    timed = make_timed_detector(bundle, graphs, watch)
    plain = Detector(bundle, graphs=graphs, decoder_threads=decoder_threads)
    if videos:
        time_video(timed, watch, videos[0])
        plain.detect(videos[0])
    runs: dict[Path, list[TimedRun]] = {path: [] for path in videos}
    totals_s: dict[Path, list[float]] = {path: [] for path in videos}
    for _ in range(repeats):
        for path in videos:
            runs[path].append(time_video(timed, watch, path))
            started = time.perf_counter()
            plain.detect(path)
            totals_s[path].append(time.perf_counter() - started)
    return [_video_timing(path, runs[path], statistics.median(totals_s[path])) for path in videos]


def _video_timing(path: Path, runs: list[TimedRun], total_s: float) -> VideoTiming:
    median = sorted(runs, key=lambda run: run.total_s)[len(runs) // 2]
    try:
        facts = probe(path, allow_silent=True)
        duration_s, width, height = facts.duration_s, facts.width, facts.height
    except MediaError:
        duration_s, width, height = 0.0, 0, 0
    return VideoTiming(path.name, median.status, duration_s, width, height, total_s, median.stages_s)
