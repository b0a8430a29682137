"""From a file to tracked faces and to clips, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from dfkit.clip import CLIP2S, NUM_LANDMARKS, ClipSpec, FoundBy
from dfkit.errors import ConfigError
from dfkit.measures.environment import usable_cores
from dfkit.media.audio import SoundReader
from dfkit.media.container import media_error
from dfkit.media.coverage import FileRead, read_notes, too_short_error
from dfkit.media.crop import SquareBox, crop_square, make_boxes
from dfkit.media.faces import FaceModels
from dfkit.media.picture import Picture, as_picture
from dfkit.media.read_ahead import read_ahead
from dfkit.media.smooth import ABSENT, SEEN, SMOOTH_HALF, fill_gaps, smooth_at, smoothing_weights
from dfkit.media.survey import Survey
from dfkit.media.track import FaceTracker, TrackedPicture
from dfkit.media.video import PictureReader

T = TypeVar("T")
MAX_TRACKED_PX = 9_500_000
"""Larger pictures are halved first: thirteen of them wait for the look-ahead. 4K has 8.3 million pixels."""


@dataclass(frozen=True)
class FaceFrame:
    """Crops and landmarks of a face in one picture of the grid."""

    track_id: int
    index: int
    """Grid frame."""
    t_s: float
    """Time of the picture since the first one."""
    face: np.ndarray
    """(112, 112, 3) uint8 RGB, of the contract's side."""
    lip: np.ndarray
    """(48, 48, 3) uint8 RGB, likewise."""
    landmarks: np.ndarray
    """(468, 2) float32, pixels of the source; as found, not smoothed."""
    interpolated: bool
    """Whether the face was not seen here, and its landmarks are interpolated or held."""
    scene: int
    """Rises by one at each cut."""
    boxes: tuple[SquareBox, SquareBox] | None = None
    """Of face and mouth, pixels of the picture that was pushed; None where no face is followed (`uniform50`)."""
    found_by: FoundBy | None = None
    """The detector that found the track first; None where no face is followed."""


@dataclass(frozen=True)
class Clip:
    """The fixed-length slice of one face that a model sees."""

    track_id: int
    start_index: int
    start_s: float
    end_s: float
    face: np.ndarray
    """(T, 112, 112, 3) uint8 RGB."""
    lip: np.ndarray
    """(T, 48, 48, 3) uint8 RGB."""
    landmarks: np.ndarray
    """(T, 468, 2) float32, pixels of the source."""
    times_s: np.ndarray
    """(T,) float64, time of each picture since the first one."""
    interpolated: np.ndarray
    """(T,) bool."""
    waveform: np.ndarray
    """(num_samples,) float32, from half a window before the first picture on."""
    found_by: FoundBy | None = None
    """The detector that found the track first."""


@dataclass
class _History:
    """Landmarks of one track, by grid frame."""

    scene: int
    found_by: FoundBy
    seen: dict[int, np.ndarray]


class FaceStream:
    """Tracks and crops the faces of pictures that are pushed in; each comes out final, after the look-ahead."""

    def __init__(self, spec: ClipSpec, models: FaceModels | None = None) -> None:
        """Starts without pictures.

        Args:
            spec: Look-ahead, gaps, number of faces, crop sizes.
            models: The face networks; loaded when left out.
        """
        self._spec = spec
        self._tracker = FaceTracker(
            models or FaceModels(), max_faces=spec.track.max_faces, max_missing=spec.max_gap_frames
        )
        self._weights = smoothing_weights(min(SMOOTH_HALF, spec.look_ahead_frames))
        self._waiting: deque[tuple[int, float, Picture, int]] = deque()
        self._histories: dict[int, _History] = {}
        self._reach = spec.look_ahead_frames + len(self._weights) + spec.max_gap_frames
        self._newest = -1
        self._shrink = 1

    def track(self, picture: Picture | np.ndarray) -> TrackedPicture:
        """Finds the faces of the next picture; the first half of `push`, which another thread may run ahead."""
        return self._tracker.update(picture)

    def push(
        self,
        index: int,
        t_s: float,
        rgb: Picture | np.ndarray,
        *,
        shrink: int = 1,
        tracked: TrackedPicture | None = None,
    ) -> list[FaceFrame]:
        """Takes the next picture.

        Args:
            index: Grid frame; one more than the last.
            t_s: Time since the first picture.
            rgb: Planes, or (H, W, 3) uint8 RGB; kept without a copy until the look-ahead has passed.
            shrink: What the picture's sides were divided by; landmarks are given in pixels of the whole.
            tracked: What `track` found in it; it is asked where None.
        Returns:
            The faces of the picture that became final, in order of track id.
        """
        self._shrink = shrink
        picture = as_picture(rgb)
        tracked = tracked or self.track(picture)
        self._remember(index, tracked)
        self._waiting.append((index, t_s, picture, tracked.scene))
        self._newest = index
        if len(self._waiting) <= self._spec.look_ahead_frames:
            return []
        return self._finish(*self._waiting.popleft())

    def flush(self) -> Iterator[FaceFrame]:
        """Ends the stream and gives the faces of the last pictures."""
        while self._waiting:
            yield from self._finish(*self._waiting.popleft())

    def _remember(self, index: int, picture: TrackedPicture) -> None:
        for face in picture.faces:
            history = self._histories.setdefault(face.track_id, _History(picture.scene, face.found_by, {}))
            history.seen[index] = face.landmarks

    def _finish(self, index: int, t_s: float, picture: Picture, scene: int) -> list[FaceFrame]:
        faces = []
        for track_id in sorted(self._histories):
            history = self._histories[track_id]
            oldest = index - self._reach
            for old in [i for i in history.seen if i < oldest]:
                del history.seen[old]
            if not history.seen:
                del self._histories[track_id]
            elif history.scene == scene:
                face = self._make_face(track_id, history, index, t_s, picture, scene)
                if face is not None:
                    faces.append(face)
        return faces

    def _make_face(
        self, track_id: int, history: _History, index: int, t_s: float, picture: Picture, scene: int
    ) -> FaceFrame | None:
        spec = self._spec
        first = index - len(self._weights) - spec.max_gap_frames
        seen = np.array([i in history.seen for i in range(first, self._newest + 1)])
        values = np.zeros((len(seen), NUM_LANDMARKS * 2), np.float32)
        for row in np.flatnonzero(seen):
            values[row] = history.seen[first + int(row)].ravel()
        now = index - first
        filled, state = fill_gaps(values, seen, now=now, max_gap=spec.max_gap_frames)
        if state[now] == ABSENT:
            return None
        smooth = smooth_at(filled, state != ABSENT, now, self._weights).reshape(NUM_LANDMARKS, 2)
        face_box, lip_box = make_boxes(smooth, spec.picture)
        return FaceFrame(
            track_id=track_id,
            index=index,
            t_s=t_s,
            face=crop_square(picture, face_box, spec.picture.face_px),
            lip=crop_square(picture, lip_box, spec.picture.lip_px),
            landmarks=filled[now].reshape(NUM_LANDMARKS, 2) * np.float32(self._shrink),
            interpolated=bool(state[now] != SEEN),
            scene=scene,
            boxes=(face_box, lip_box),
            found_by=history.found_by,
        )


class ClipCutter:
    """Cuts a stream of faces into clips; keeps the last T pictures of each track."""

    def __init__(self, spec: ClipSpec) -> None:
        """Starts without faces.

        Args:
            spec: The clip contract.
        """
        self._spec = spec
        self._recent: dict[int, deque[FaceFrame]] = {}
        self._last_start = -1

    def push(self, faces: Iterable[FaceFrame], index: int) -> Iterator[list[FaceFrame]]:
        """Takes all faces of one grid frame.

        Args:
            faces: The faces of the frame.
            index: The frame, in rising order without holes.
        Yields:
            T faces of one track, for each clip that ends with this frame.
        """
        for face in faces:
            self._recent.setdefault(face.track_id, deque(maxlen=self._spec.num_frames)).append(face)
        oldest = index - self._spec.num_frames + 1
        for track_id in [t for t, recent in self._recent.items() if recent[-1].index < oldest]:
            del self._recent[track_id]
        if oldest >= 0 and oldest % self._spec.hop_frames == 0:
            yield from self._take(oldest)

    def finish(self, num_grid_frames: int) -> Iterator[list[FaceFrame]]:
        """Gives the clips that end with the video.

        Args:
            num_grid_frames: Length of the video.
        """
        starts = self._spec.clip_starts(num_grid_frames)
        if starts and starts[-1] != self._last_start:
            yield from self._take(starts[-1])

    def _take(self, start: int) -> Iterator[list[FaceFrame]]:
        self._last_start = start
        end = start + self._spec.num_frames - 1
        for track_id in sorted(self._recent):
            faces = list(self._recent[track_id])
            whole = len(faces) == self._spec.num_frames and (faces[0].index, faces[-1].index) == (start, end)
            if whole and sum(f.interpolated for f in faces) <= self._spec.max_gap_frames:
                yield faces


def read_clips(
    path: str | Path,
    spec: ClipSpec = CLIP2S,
    *,
    models: FaceModels | None = None,
    num_threads: int = 0,
    survey: Survey | None = None,
) -> Iterator[Clip]:
    """Reads every clip of every track of a file, in order of time; see `ClipReader`."""
    return iter(ClipReader(path, spec, models=models, num_threads=num_threads, survey=survey))


class ClipReader:
    """Reads every clip of every track of a file, in order of start, then of track id. Iterate once."""

    def __init__(
        self,
        path: str | Path,
        spec: ClipSpec = CLIP2S,
        *,
        models: FaceModels | None = None,
        num_threads: int = 0,
        survey: Survey | None = None,
    ) -> None:
        """Prepares reading.

        Args:
            path: Media file.
            spec: The clip contract; dense clips only.
            models: The face networks; loaded when left out.
            num_threads: 1 does all in this thread; else decoding and following faces have threads of their own,
                see `decoder_share`.
            survey: Of the file; made where left out.
        Raises:
            ConfigError: The preset samples whole videos.
        """
        if spec.preset != "clip2s":
            raise ConfigError(f"preset {spec.preset} has no clips", fix="read clips with preset clip2s")
        self.path, self.spec = Path(path), spec
        self._models, self._num_threads, self._survey = models, num_threads, survey
        self.read: FileRead | None = None
        """How much was read, once all was; also where that gave an error."""

    def __iter__(self) -> Iterator[Clip]:
        """Yields clips.

        Raises:
            MediaError: `unreadable`, `no_audio`, `too_short`, or, at the end, `no_face` when there was no clip.
        """
        spec = self.spec
        reader = PictureReader(
            self.path,
            spec.fps,
            num_threads=decoder_share(self._num_threads),
            max_area_px=MAX_TRACKED_PX,
            survey=self._survey,
        )
        stream, cutter = FaceStream(spec, self._models), ClipCutter(spec)
        num_clips = num_frames = 0
        with ExitStack() as stack:
            sound: SoundReader | None = None
            pictures = stack.enter_context(closing(ahead_of(reader.__iter__(), self._num_threads)))
            followed = ((index, t_s, picture, stream.track(picture)) for index, t_s, picture in pictures)
            for index, t_s, picture, tracked in stack.enter_context(closing(ahead_of(followed, self._num_threads))):
                if sound is None:
                    sound = stack.enter_context(_open_sound(spec, reader))
                num_frames = index + 1
                final = index - spec.look_ahead_frames
                finished = stream.push(index, t_s, picture, shrink=reader.shrink, tracked=tracked)
                for faces in cutter.push(finished, final):
                    num_clips += 1
                    yield _make_clip(faces, spec, sound)
            for faces in _cut_last_clips(stream, cutter, num_frames, spec):
                num_clips += 1
                yield _make_clip(faces, spec, sound)
            assert sound is not None, "a reader without one picture raises by itself"
            self.read = FileRead(reader.coverage, sound.finish(), read_notes(reader.survey, sound.track))
        if num_frames < spec.num_frames:
            raise too_short_error(self.path, reader.coverage, seconds=num_frames / spec.fps, needed_s=spec.clip_s)
        if not num_clips:
            reason = f"no face is seen for {spec.clip_s:g} s on end"
            raise media_error(self.path, "no_face", reason, "use a recording in which a face is in view")


def ahead_of(items: Generator[T, None, None], num_threads: int) -> Generator[T, None, None]:
    """The items as they are with one thread, else made ahead in a thread of their own."""
    return items if num_threads == 1 else read_ahead(items)


def decoder_share(num_threads: int) -> int:
    """Threads of the decoder among all that read a file: half of them, for faces are followed beside it.

    Args:
        num_threads: Of all; 0 is as many as there are cores.
    """
    return max((num_threads or usable_cores()) // 2, 1)


def _cut_last_clips(
    stream: FaceStream, cutter: ClipCutter, num_frames: int, spec: ClipSpec
) -> Iterator[list[FaceFrame]]:
    """Faces of the clips that waited for the look-ahead or end with the video."""
    last_faces = list(stream.flush())
    for index in range(max(num_frames - spec.look_ahead_frames, 0), num_frames):
        yield from cutter.push([face for face in last_faces if face.index == index], index)
    yield from cutter.finish(num_frames)


def _open_sound(spec: ClipSpec, reader: PictureReader) -> SoundReader:
    return SoundReader(
        reader.path,
        sample_rate=spec.audio.sample_rate,
        first_picture_s=reader.first_picture_s or 0.0,
        survey=reader.survey,
    )


def _make_clip(faces: list[FaceFrame], spec: ClipSpec, sound: SoundReader | None) -> Clip:
    assert sound is not None, "a clip needs pictures, and the sound is opened with the first"
    start = faces[0].index
    first_sample = round(start / spec.fps * spec.audio.sample_rate) - spec.lead_samples
    return Clip(
        track_id=faces[0].track_id,
        start_index=start,
        start_s=start / spec.fps,
        end_s=start / spec.fps + spec.clip_s,
        face=np.stack([f.face for f in faces]),
        lip=np.stack([f.lip for f in faces]),
        landmarks=np.stack([f.landmarks for f in faces]),
        times_s=np.array([f.t_s for f in faces], np.float64),
        interpolated=np.array([f.interpolated for f in faces]),
        waveform=sound.read(first_sample, spec.num_samples),
        found_by=faces[0].found_by,
    )
