"""The whole way from a file to its verdict, with a clock around each stage.

The detector that is timed is the one that is shipped; only its three ways in and its model are wrapped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.media.faces import FaceModels, FaceVariant
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.video import PictureReader
from dfkit.runtime.backends import BackendName, Graphs
from dfkit.runtime.bundle import Bundle, face_variant
from dfkit.runtime.detector import Detector
from dfkit.runtime.scoring import Sound
from dfkit.runtime.stream import GridPicture

WAY_STAGES = ("decode", "detection", "landmarks", "crops", "sound", "encode", "score", "rest")
WAY_NAMES = {
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
class VideoTime:
    """One file, start to verdict."""

    video: str
    status: str
    duration_s: float
    width: int
    height: int
    total_s: float
    """Median over the repeats."""
    stages_s: dict[str, float]
    """Of the median run, by `WAY_STAGES`."""

    @property
    def real_time(self) -> float:
        """Seconds of video per second of work."""
        return self.duration_s / self.total_s


class Stopwatch:
    """Adds up time by stage; a stage inside another counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(WAY_STAGES, 0.0)
        self._running: list[tuple[str, float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block for a stage."""
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
    """The face networks, timed."""

    def __init__(self, variant: FaceVariant, watch: Stopwatch) -> None:
        super().__init__(variant)
        self._watch = watch

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._watch.stage("detection"):
            return super().detect(picture)

    def landmark(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        with self._watch.stage("landmarks"):
            return super().landmark(picture)


class TimedFaceStream(FaceStream):
    """Tracker and crops, timed; the networks inside count for themselves."""

    def __init__(self, spec: ClipSpec, models: FaceModels, watch: Stopwatch) -> None:
        super().__init__(spec, models)
        self._watch = watch

    def push(self, index: int, t_s: float, rgb: np.ndarray, *, shrink: int = 1) -> list[FaceFrame]:
        with self._watch.stage("crops"):
            return super().push(index, t_s, rgb, shrink=shrink)

    def flush(self) -> Iterator[FaceFrame]:
        with self._watch.stage("crops"):
            faces = list(super().flush())
        yield from faces


class TimedGraphs:
    """A model, timed."""

    def __init__(self, graphs: Graphs, watch: Stopwatch) -> None:
        self.name: BackendName = graphs.name
        self.recipe = graphs.recipe
        self.num_threads = graphs.num_threads
        self._graphs, self._watch = graphs, watch

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Graphs.encode`."""
        with self._watch.stage("encode"):
            return self._graphs.encode(pictures)

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See `Graphs.score`."""
        with self._watch.stage("score"):
            return self._graphs.score(inputs)


class TimedSound:
    """A file's sound, timed."""

    def __init__(self, sound: Sound, watch: Stopwatch) -> None:
        self._sound, self._watch = sound, watch

    def has(self, end: int) -> bool:
        """See `scoring.Sound`."""
        return self._sound.has(end)

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """See `scoring.Sound`."""
        with self._watch.stage("sound"):
            return self._sound.read(start, num_samples)


class TimedDetector(Detector):
    """The detector with a clock around each stage."""

    def __init__(self, bundle: Bundle, graphs: Graphs, *, decoder_threads: int = 0) -> None:
        """Wraps loaded graphs.

        Args:
            bundle: Verified bundle.
            graphs: One of its backends.
            decoder_threads: Threads of the video decoder; 0 leaves the number to it.
        """
        self.watch = Stopwatch()
        super().__init__(bundle, graphs=TimedGraphs(graphs, self.watch), decoder_threads=decoder_threads)
        self._face_models = TimedFaceModels(face_variant(bundle.manifest, where=f"bundle {bundle.path}"), self.watch)

    def read_pictures(self, reader: PictureReader) -> Iterable[GridPicture]:
        pictures = iter(reader)
        while True:
            with self.watch.stage("decode"):
                picture = next(pictures, None)
            if picture is None:
                return
            yield picture

    def make_faces(self) -> FaceStream:
        return TimedFaceStream(self.bundle.manifest.clip_spec, self._face_models, self.watch)

    def open_sound(self, stack: ExitStack, path: Path, reader: PictureReader) -> Sound:
        with self.watch.stage("sound"):
            return TimedSound(super().open_sound(stack, path, reader), self.watch)


def time_video(detector: TimedDetector, path: Path) -> tuple[str, dict[str, float]]:
    """Scores a file once.

    Returns:
        Its status, and seconds by stage; they sum to the whole.
    """
    detector.watch.seconds = dict.fromkeys(WAY_STAGES, 0.0)
    with detector.watch.stage("rest"):
        result = detector.detect(path)
    return result.status, dict(detector.watch.seconds)


def measure_whole_way(
    bundle: Bundle, graphs: Graphs, videos: Sequence[Path], *, repeats: int = 3, decoder_threads: int = 0
) -> list[VideoTime]:
    """Times files from start to verdict.

    Args:
        bundle: Verified bundle.
        graphs: One of its backends.
        videos: Files; one that cannot be read is timed as far as it goes, and says so.
        repeats: Runs of each file, taking turns; the first of all warms up and does not count.
        decoder_threads: Threads of the video decoder; 0 leaves the number to it.
    Returns:
        One entry a file.
    """
    detector = TimedDetector(bundle, graphs, decoder_threads=decoder_threads)
    if videos:
        time_video(detector, videos[0])
    runs: dict[Path, list[tuple[str, dict[str, float]]]] = {path: [] for path in videos}
    for _ in range(repeats):
        for path, own in runs.items():
            own.append(time_video(detector, path))
    return [_video_time(path, own) for path, own in runs.items()]


def _video_time(path: Path, runs: list[tuple[str, dict[str, float]]]) -> VideoTime:
    from dfkit.errors import MediaError
    from dfkit.media.video import probe

    ordered = sorted(runs, key=lambda run: sum(run[1].values()))
    status, stages = ordered[len(ordered) // 2]
    try:
        facts = probe(path, allow_silent=True)
        duration_s, width, height = facts.duration_s, facts.width, facts.height
    except MediaError:
        duration_s, width, height = 0.0, 0, 0
    return VideoTime(path.name, status, duration_s, width, height, sum(stages.values()), stages)
