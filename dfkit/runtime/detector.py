"""The detector: a bundle, loaded, that scores files and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dfkit.errors import ConfigError, MediaError
from dfkit.media.audio import SoundReader
from dfkit.media.container import refuse
from dfkit.media.faces import FaceModels
from dfkit.media.stream import MAX_TRACKED_PX, FaceFrame, FaceStream
from dfkit.media.video import PictureReader
from dfkit.runtime.backends import BackendName, Graphs, open_backend
from dfkit.runtime.bundle import Bundle, face_variant, open_bundle
from dfkit.runtime.results import ClipScore, Status, VideoResult, judge_clips, refused
from dfkit.runtime.scoring import ClipScorer, Sound
from dfkit.runtime.stream import DetectorStream, GridPicture, GridStream, PushedSound

FaceWatcher = Callable[[FaceFrame], None]


class FileSound:
    """A file's sound: all of it is always there."""

    def __init__(self, reader: SoundReader) -> None:
        self._reader = reader

    def has(self, end: int) -> bool:
        """See `scoring.Sound`."""
        return True

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """See `scoring.Sound`."""
        return self._reader.read(start, num_samples)


class Detector:
    """Scores videos with one bundle. One object serves one thread at a time."""

    fixed_grid = True
    """Of `uniform50`: an exported graph takes exactly 50 steps; see `score_whole_video`."""

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        backend: BackendName | None = None,
        num_threads: int = 1,
        decoder_threads: int = 0,
        graphs: Graphs | None = None,
    ) -> None:
        """Loads the model and the face models.

        Args:
            bundle: A verified bundle, or where one lies.
            backend: `tflite` or `onnx`; None takes TFLite where the bundle has it.
            num_threads: Threads of the model.
            decoder_threads: Threads of the video decoder; 0 leaves the number to it.
            graphs: Instead of the bundle's own; for measuring.
        Raises:
            BundleError: The bundle cannot be used.
            ConfigError: It has no such backend.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._spec = self.bundle.manifest.clip_spec
        self.graphs = graphs or open_backend(self.bundle, backend, num_threads=num_threads)
        self._decoder_threads = decoder_threads
        self._face_models = FaceModels(face_variant(self.bundle.manifest, where=f"bundle {self.bundle.path}"))
        self._takes_sound = "audio" in self.bundle.manifest.modalities

    def detect(self, path: str | Path, *, watch: FaceWatcher | None = None) -> VideoResult:
        """Scores a file.

        Args:
            path: Media file.
            watch: Is shown every face as it becomes final, in order of time.
        Returns:
            A result with a verdict, or with the status and the reason why there is none.
        Raises:
            BundleError: The model itself answers NaN or infinity.
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
            reason = error.found if error.fix is None else f"{error.found}. Fix: {error.fix}"
            return refused(str(path), status, reason, manifest)
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
        grid = GridStream(self.make_faces(), scorer, self._spec)
        return DetectorStream(grid, scorer, sound, fps=self._spec.fps)

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
        faces = self.make_faces()
        grid: GridStream | None = None
        clips: list[ClipScore] = []
        with ExitStack() as stack:
            for picture in self.read_pictures(reader):
                if grid is None:
                    sound = self.open_sound(stack, path, reader) if self._takes_sound else None
                    grid = GridStream(faces, self._make_scorer(sound), spec, shrink=reader.shrink)
                _collect(grid.push(picture), clips, watch)
            # A reader without one picture raises `unreadable` by itself.
            assert grid is not None
            if grid.num_frames < spec.num_frames:
                reason = f"{grid.num_frames / spec.fps:.2f} s of pictures, at least {spec.clip_s:g} s are needed"
                raise refuse(path, "too_short", reason, "use a longer recording")
            _collect(grid.finish(), clips, watch)
        if not clips:
            reason = f"no face is in view for {spec.clip_s:g} s on end"
            raise refuse(path, "no_face", reason, "use a recording that shows a face")
        return clips

    # The three ways in, for the benchmark to put its clock around.
    def read_pictures(self, reader: PictureReader) -> Iterable[GridPicture]:
        """Pictures of a file on the grid."""
        return reader

    def make_faces(self) -> FaceStream:
        """A tracker without pictures."""
        return FaceStream(self._spec, self._face_models)

    def open_sound(self, stack: ExitStack, path: Path, reader: PictureReader) -> Sound:
        """Sound of a file whose first picture was read.

        Raises:
            MediaError: `no_audio`.
        """
        sound = SoundReader(
            path, sample_rate=self._spec.audio.sample_rate, first_picture_s=reader.first_picture_s or 0.0
        )
        return FileSound(stack.enter_context(sound))


def _collect(made: tuple[list[FaceFrame], list[ClipScore]], clips: list[ClipScore], watch: FaceWatcher | None) -> None:
    faces, scores = made
    clips += scores
    if watch is not None:
        for face in faces:
            watch(face)
