"""The detector: a bundle, loaded, that scores files and streams.

What it is assembled from stands in `DetectorParts`: whoever measures or replaces a stage passes other factories.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from dfkit.clip import ClipSpec, FaceVariant
from dfkit.errors import ConfigError, MediaError
from dfkit.media.audio import SoundReader
from dfkit.media.container import media_error
from dfkit.media.coverage import Coverage, FileRead, read_notes, too_short_error
from dfkit.media.faces import FaceModels, has_second_stage
from dfkit.media.stream import MAX_TRACKED_PX, FaceFrame, FaceStream, ahead_of, decoder_share
from dfkit.media.survey import SoundTrack, Survey
from dfkit.media.video import PictureReader
from dfkit.runtime.backends import BackendName, Graphs, open_backend
from dfkit.runtime.bundle import Bundle, face_variant, open_bundle
from dfkit.runtime.evidence import FaceMeter
from dfkit.runtime.results import ClipScore, Status, VideoResult, judge_clips, result_without_score
from dfkit.runtime.scoring import ClipScorer, NoSound, Sound
from dfkit.runtime.serving import check_serving
from dfkit.runtime.stream import DetectorStream, GridPicture, GridStream, PushedSound

FaceWatcher = Callable[[FaceFrame], None]


class FileSound:
    """A file's sound as a `scoring.Sound`: unlike a stream's, all of it can be read at any time."""

    track: SoundTrack | None
    """Which of the file's sound tracks it is."""

    def __init__(self, reader: SoundReader) -> None:
        self._reader = reader
        self.track = reader.track

    def has(self, end: int) -> bool:
        """Always True: the reader decodes as far as sample `end`, and gives zeros past the file's end."""
        return True

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """(num_samples,) float32 from sample `start` on, counted from the first picture; `start` never falls."""
        return self._reader.read(start, num_samples)

    def forget(self, start: int) -> None:
        """Nothing to do: the reader decodes no further than what was read."""

    def finish(self) -> Coverage:
        """Decodes what is left; how much of the sound was read."""
        return self._reader.finish()


@contextmanager
def open_file_sound(survey: Survey, *, sample_rate: int, first_picture_s: float) -> Iterator[FileSound]:
    """Opens a file's sound.

    Args:
        survey: Of the file.
        sample_rate: Hz of what is read.
        first_picture_s: Container time of the first picture, where sample 0 lies, seconds.
    Yields:
        The sound, closed at the end.
    Raises:
        MediaError: `unreadable` or `no_audio`.
    """
    with SoundReader(survey.path, sample_rate=sample_rate, first_picture_s=first_picture_s, survey=survey) as reader:
        yield FileSound(reader)


class LoadFaceModels(Protocol):
    """A function that loads face networks, as `FaceModels` does."""

    def __call__(self, variant: FaceVariant, *, second_stage: bool) -> FaceModels: ...


class OpenSound(Protocol):
    """A function that opens a file's sound, as `open_file_sound` does."""

    def __call__(
        self, survey: Survey, *, sample_rate: int, first_picture_s: float
    ) -> AbstractContextManager[FileSound]: ...


@dataclass(frozen=True)
class DetectorParts:
    """Factories of what a detector reads and tracks with: its one extension point, beside `graphs`.

    A factory may wrap what the default one makes, as the benchmark does to time each stage; what it makes has to
    behave the same, or the scores are no longer those of the shipped detector.
    """

    load_face_models: LoadFaceModels = FaceModels
    """Face networks that the bundle names; called once, when the detector is made."""
    make_face_stream: Callable[[ClipSpec, FaceModels], FaceStream] = FaceStream
    """Tracker and cropper without pictures; called for each file and each stream."""
    read_pictures: Callable[[PictureReader], Generator[GridPicture, None, None]] = PictureReader.__iter__
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
            decoder_threads: 1 reads a file, follows its faces and scores them in the calling thread; else reading and
                following have threads of their own, and the decoder a share of as many, 0 standing for the cores.
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
        second_stage = has_second_stage(self.bundle.manifest.face_models)
        self._face_models = self._parts.load_face_models(variant, second_stage=second_stage)
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
        scored = ScoredFile(FaceMeter(self._spec))
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
            self._score_file(Path(path), scored, watch)
        except MediaError as error:
            status: Status = error.status  # type: ignore[assignment]
            return result_without_score(str(path), status, error.sentence, manifest, read=scored.read)
        return judge_clips(
            str(path), scored.clips, manifest, read=scored.read, faces=scored.faces, no_sound=scored.no_sound
        )

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
        manifest = self.bundle.manifest
        muted = manifest.decision_muted if isinstance(sound, NoSound) else None
        decision = manifest.decision if muted is None else muted.decision
        return ClipScorer(
            self.graphs,
            self._spec,
            sound,
            calibration_temperature=decision.temperature,
            where=f"bundle {self.bundle.path}",
            familiarity=manifest.familiarity,
        )

    def _score_file(self, path: Path, scored: ScoredFile, watch: FaceWatcher | None) -> None:
        """Scores a file's clips, at least one.

        Args:
            path: Media file.
            scored: Is filled in, also where the file gives an error.
            watch: Is shown every face.
        Raises:
            MediaError: With the status, in the order unreadable, no_audio, too_short, no_face.
        """
        spec = self._spec
        num_threads = self._decoder_threads
        reader = PictureReader(path, spec.fps, num_threads=decoder_share(num_threads), max_area_px=MAX_TRACKED_PX)
        faces = self._make_face_stream()
        grid: GridStream | None = None
        sound: FileSound | NoSound | None = None
        with ExitStack() as stack:
            pictures = stack.enter_context(closing(ahead_of(self._parts.read_pictures(reader), num_threads)))
            tracked = ((picture, faces.track(picture[2])) for picture in pictures)
            for picture, found in stack.enter_context(closing(ahead_of(tracked, num_threads))):
                if grid is None:
                    sound = self._open_sound(stack, reader, scored) if self._takes_sound else None
                    grid = GridStream(faces, self._make_scorer(sound), spec, shrink=reader.shrink)
                scored.take(grid.push(picture, found), watch, shrink=reader.shrink)
            # A reader without one picture raises `unreadable` by itself.
            assert grid is not None
            heard = None if isinstance(sound, NoSound) else sound
            track = None if heard is None else heard.track
            scored.read = FileRead(reader.coverage, None, read_notes(reader.survey, track))
            if grid.num_frames < spec.num_frames:
                seconds = grid.num_frames / spec.fps
                raise too_short_error(path, reader.coverage, seconds=seconds, needed_s=spec.clip_s)
            scored.take(grid.finish(), watch, shrink=reader.shrink)
            if heard is not None:
                scored.read = replace(scored.read, sound=heard.finish())
        if not scored.clips:
            reason = f"no face is in view for {spec.clip_s:g} s on end"
            raise media_error(path, "no_face", reason, "use a recording that shows a face")

    def _open_sound(self, stack: ExitStack, reader: PictureReader, scored: ScoredFile) -> FileSound | NoSound:
        """A file's sound; `NoSound` where it has none and the model can do without."""
        sample_rate, first_picture_s = self._spec.audio.sample_rate, reader.first_picture_s or 0.0
        opened = self._parts.open_sound(reader.survey, sample_rate=sample_rate, first_picture_s=first_picture_s)
        try:
            return stack.enter_context(opened)
        except MediaError as error:
            if error.status != "no_audio" or self.bundle.manifest.decision_muted is None:
                raise
            why = error.found.removeprefix(f"{reader.survey.path}: ")
            scored.no_sound = f"no sound ({why}): judged by the picture alone"
            return NoSound()


@dataclass
class ScoredFile:
    """What a file has given so far."""

    faces: FaceMeter
    clips: list[ClipScore] = field(default_factory=list)
    read: FileRead | None = None
    no_sound: str | None = None
    """Why its clips are scored without sound, where they are."""

    def take(
        self, finished: tuple[list[FaceFrame], list[ClipScore]], watch: FaceWatcher | None, *, shrink: int
    ) -> None:
        """Keeps the clips that became final, measures the faces, and shows them to the watcher."""
        faces, scores = finished
        self.clips += scores
        self.faces.push(faces, shrink=shrink)
        if watch is not None:
            for face in faces:
                watch(face)
