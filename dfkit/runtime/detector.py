"""The detector: a bundle, loaded, that scores files and streams.

What it is assembled from stands in `DetectorParts`: whoever measures or replaces a stage passes other factories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dfkit.clip import ClipSpec, FaceVariant
from dfkit.errors import ConfigError, MediaError
from dfkit.media.audio import SoundReader
from dfkit.media.container import media_error
from dfkit.media.faces import FaceModels
from dfkit.media.stream import MAX_TRACKED_PX, FaceFrame, FaceStream
from dfkit.media.video import PictureReader
from dfkit.runtime.backends import BackendName, Graphs, open_backend
from dfkit.runtime.bundle import Bundle, face_variant, open_bundle
from dfkit.runtime.results import ClipScore, Status, VideoResult, judge_clips, result_without_score
from dfkit.runtime.scoring import ClipScorer, Sound
from dfkit.runtime.serving import check_serving
from dfkit.runtime.stream import DetectorStream, GridPicture, GridStream, PushedSound

FaceWatcher = Callable[[FaceFrame], None]


class FileSound:
    """A file's sound as a `scoring.Sound`: unlike a stream's, all of it can be read at any time."""

    def __init__(self, reader: SoundReader) -> None:
        self._reader = reader

    def has(self, end: int) -> bool:
        """Always True: the reader decodes as far as sample `end`, and gives zeros past the file's end."""
        return True

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """(num_samples,) float32 from sample `start` on, counted from the first picture; `start` never falls."""
        return self._reader.read(start, num_samples)

    def forget(self, start: int) -> None:
        """Nothing to do: the reader decodes no further than what was read."""


@contextmanager
def open_file_sound(path: Path, *, sample_rate: int, first_picture_s: float) -> Iterator[Sound]:
    """Opens a file's sound.

    Args:
        path: Media file.
        sample_rate: Hz of what is read.
        first_picture_s: Container time of the first picture, where sample 0 lies, seconds.
    Yields:
        The sound, closed at the end.
    Raises:
        MediaError: `unreadable` or `no_audio`.
    """
    with SoundReader(path, sample_rate=sample_rate, first_picture_s=first_picture_s) as reader:
        yield FileSound(reader)


class OpenSound(Protocol):
    """A function that opens a file's sound, as `open_file_sound` does."""

    def __call__(self, path: Path, *, sample_rate: int, first_picture_s: float) -> AbstractContextManager[Sound]: ...


@dataclass(frozen=True)
class DetectorParts:
    """Factories of what a detector reads and tracks with: its one extension point, beside `graphs`.

    A factory may wrap what the default one makes, as the benchmark does to time each stage; what it makes has to
    behave the same, or the scores are no longer those of the shipped detector.
    """

    load_face_models: Callable[[FaceVariant], FaceModels] = FaceModels
    """Face networks of the variant that the bundle names; called once, when the detector is made."""
    make_face_stream: Callable[[ClipSpec, FaceModels], FaceStream] = FaceStream
    """Tracker and cropper without pictures; called for each file and each stream."""
    read_pictures: Callable[[PictureReader], Iterable[GridPicture]] = iter
    """Pictures of a file on the grid of `ClipSpec.fps`; called once a file."""
    open_sound: OpenSound = open_file_sound
    """Sound of a file, opened after its first picture was read; not called for a model without sound."""


class Detector:
    """Scores videos with one bundle. Not thread-safe: each thread needs a detector of its own."""

    fixed_grid = True
    """Under `uniform50`: whether the model takes exactly 50 steps, as an exported graph does."""

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        backend: BackendName | None = None,
        num_threads: int = 1,
        decoder_threads: int = 0,
        graphs: Graphs | None = None,
        parts: DetectorParts | None = None,
    ) -> None:
        """Loads the model and the face models.

        Args:
            bundle: A verified bundle, or where one lies.
            backend: `tflite` or `onnx`; None takes TFLite where the bundle has it.
            num_threads: Threads of the model.
            decoder_threads: Threads of the video decoder; 0 leaves the number to it.
            graphs: A loaded model in place of the bundle's own.
            parts: Factories of the stages before the model; the shipped ones when left out.
        Raises:
            BundleError: The bundle cannot be used.
            ConfigError: It has no such backend.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._spec = self.bundle.manifest.clip_spec
        self.graphs = graphs or open_backend(self.bundle, backend, num_threads=num_threads)
        self._decoder_threads = decoder_threads
        self._parts = parts or DetectorParts()
        variant = face_variant(self.bundle.manifest, where=f"bundle {self.bundle.path}")
        check_serving(self.bundle.manifest, variant, where=f"bundle {self.bundle.path}")
        self._face_models = self._parts.load_face_models(variant)
        self._takes_sound = "audio" in self.bundle.manifest.modalities

    def detect(self, path: str | Path, *, watch: FaceWatcher | None = None) -> VideoResult:
        """Scores a file.

        Args:
            path: Media file.
            watch: Is shown every face as it becomes final, in order of time.
        Returns:
            A result with a verdict, or with the status and the reason why there is none.
        Raises:
            ModelAnswerError: The model itself answers NaN or infinity.
        """
        manifest = self.bundle.manifest
        try:
            if self._spec.preset == "uniform50":
                from dfkit.runtime.whole_video import score_whole_video

                return score_whole_video(
                    Path(path),
                    self.graphs,
                    manifest,
                    where=f"bundle {self.bundle.path}",
                    fixed_grid=self.fixed_grid,
                    watch=watch,
                )
            clips = self._score_file(Path(path), watch)
        except MediaError as error:
            status: Status = error.status  # type: ignore[assignment]
            return result_without_score(str(path), status, error.sentence, manifest)
        return judge_clips(str(path), clips, manifest)

    def open_stream(self, *, sample_rate: int = 16000) -> DetectorStream:
        """Starts push-style detection of a camera or a decoder of one's own.

        Args:
            sample_rate: Hz of the sound that will be pushed.
        Returns:
            The stream; independent of others of the same detector, but not at the same time in two threads.
        Raises:
            ConfigError: The model takes 50 pictures of a whole video.
        """
        if self._spec.preset == "uniform50":
            raise ConfigError(
                f"bundle {self.bundle.path} answers for whole videos (preset uniform50): there is no stream",
                fix="use detect on the file, or a clip2s student",
            )
        sound = PushedSound(sample_rate, self._spec.audio.sample_rate) if self._takes_sound else None
        scorer = self._make_scorer(sound)
        grid = GridStream(self._make_face_stream(), scorer, self._spec)
        return DetectorStream(grid, scorer, sound, fps=self._spec.fps)

    def _make_face_stream(self) -> FaceStream:
        return self._parts.make_face_stream(self._spec, self._face_models)

    def _make_scorer(self, sound: Sound | None) -> ClipScorer:
        return ClipScorer(
            self.graphs,
            self._spec,
            sound,
            calibration_temperature=self.bundle.manifest.calibration.calibration_temperature,
            where=f"bundle {self.bundle.path}",
        )

    def _score_file(self, path: Path, watch: FaceWatcher | None) -> list[ClipScore]:
        """Clips of a file, at least one.

        Raises:
            MediaError: With the status, in the order unreadable, no_audio, too_short, no_face.
        """
        spec = self._spec
        reader = PictureReader(path, spec.fps, num_threads=self._decoder_threads, max_area_px=MAX_TRACKED_PX)
        faces = self._make_face_stream()
        grid: GridStream | None = None
        clips: list[ClipScore] = []
        with ExitStack() as stack:
            for picture in self._parts.read_pictures(reader):
                if grid is None:
                    sound = self._open_sound(stack, path, reader) if self._takes_sound else None
                    grid = GridStream(faces, self._make_scorer(sound), spec, shrink=reader.shrink)
                _collect(grid.push(picture), clips, watch)
            # A reader without one picture raises `unreadable` by itself.
            assert grid is not None
            if grid.num_frames < spec.num_frames:
                reason = f"{grid.num_frames / spec.fps:.2f} s of pictures, at least {spec.clip_s:g} s are needed"
                raise media_error(path, "too_short", reason, "use a longer recording")
            _collect(grid.finish(), clips, watch)
        if not clips:
            reason = f"no face is in view for {spec.clip_s:g} s on end"
            raise media_error(path, "no_face", reason, "use a recording that shows a face")
        return clips

    def _open_sound(self, stack: ExitStack, path: Path, reader: PictureReader) -> Sound:
        sample_rate, first_picture_s = self._spec.audio.sample_rate, reader.first_picture_s or 0.0
        opened = self._parts.open_sound(path, sample_rate=sample_rate, first_picture_s=first_picture_s)
        return stack.enter_context(opened)


def _collect(
    finished: tuple[list[FaceFrame], list[ClipScore]], clips: list[ClipScore], watch: FaceWatcher | None
) -> None:
    """Appends the clips that became final, and shows the faces to the watcher."""
    faces, scores = finished
    clips += scores
    if watch is not None:
        for face in faces:
            watch(face)
