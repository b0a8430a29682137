"""Push-style detection: pictures and sound go in as they arrive, clip scores come out, memory stays bounded.

A clip's score comes as soon as its last picture has passed the look-ahead and its sound has arrived. A file
takes the same way, with its pictures already on the grid, so that both agree exactly.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.errors import ConfigError, ShapeError
from dfkit.media.audio import MAX_DRIFT_S
from dfkit.media.channels import INFINITE_AS, NAN_AS
from dfkit.media.container import MAX_AREA_PX, MAX_SIDE_PX
from dfkit.media.picture import Picture, as_picture
from dfkit.media.resample import MAX_RATE, Resampler
from dfkit.media.stream import FaceFrame, FaceStream
from dfkit.media.survey import MAX_HOLE_S
from dfkit.media.track import TrackedPicture
from dfkit.media.video import END_TOLERANCE, TIE_TOLERANCE_S
from dfkit.runtime.results import ClipScore
from dfkit.runtime.scoring import ClipScorer

FIX_SOUND = "push np.float32 in [-1, 1], one column a channel"
GridPicture = tuple[int, float, Picture]
"""Grid index, time since the first picture in seconds, and the picture."""
MAX_SOUND_AHEAD_S = 30.0
"""Sound that is not needed yet is kept so long; a stream whose pictures stop would fill the memory otherwise."""


class GridPicker:
    """`dfkit.media.video.pick_nearest`, pushed: chooses the picture nearest in time to each grid point."""

    def __init__(self, fps: float) -> None:
        """Starts without pictures.

        Args:
            fps: Grid points per second.
        """
        self._fps = fps
        self._index = 0
        self._previous: tuple[float, Picture] | None = None
        self._step_s = 1.0 / fps
        self.origin_s = 0.0

    def push(self, t_s: float, picture: Picture) -> list[GridPicture]:
        """Takes the next picture.

        Args:
            t_s: Its time, seconds, on any clock that rises.
            picture: The picture.
        Returns:
            The grid points that the picture before it serves.
        Raises:
            ConfigError: The time does not rise, or rises by more than MAX_HOLE_S. The picture is left out then, and
                those after it go where they would have gone without it.
        """
        before = self._previous
        if not math.isfinite(t_s) or (before is not None and not t_s > before[0]):
            found = f"a picture at {t_s:.3f} s" + ("" if before is None else f" follows one at {before[0]:.3f} s")
            raise ConfigError(found, fix="push pictures in order of time")
        if before is not None and t_s - before[0] > MAX_HOLE_S:
            raise ConfigError(
                f"no picture for {t_s - before[0]:.1f} s before the one at {t_s:.3f} s, {MAX_HOLE_S:g} s at most",
                fix="finish this stream and open a new one",
            )
        self._previous = (t_s, picture)
        if before is None:
            self.origin_s = t_s
            return []
        self._step_s = t_s - before[0]
        middle = (before[0] + t_s) / 2 - self.origin_s
        served = []
        while self._index / self._fps <= middle + TIE_TOLERANCE_S:
            served.append((self._index, before[0] - self.origin_s, before[1]))
            self._index += 1
        return served

    def finish(self, last_duration_s: float | None = None) -> list[GridPicture]:
        """Ends the stream.

        Args:
            last_duration_s: How long the last picture is shown; the time between the last two when left out.
        Returns:
            The grid points that the last picture serves.
        Raises:
            ConfigError: A duration that is no number, negative, or longer than MAX_HOLE_S.
        """
        if last_duration_s is not None and not 0 <= last_duration_s <= MAX_HOLE_S:
            raise ConfigError(
                f"a last picture shown for {last_duration_s} s, 0 to {MAX_HOLE_S:g} s are expected",
                fix="give its duration in seconds, or leave it out",
            )
        if self._previous is None:
            return []
        t_s, picture = self._previous
        shown_s = self._step_s if last_duration_s is None else last_duration_s
        end = max(int((t_s - self.origin_s + shown_s) * self._fps + END_TOLERANCE), 1)
        served = [(index, t_s - self.origin_s, picture) for index in range(self._index, end)]
        self._index = max(self._index, end)
        return served


class PushedSound:
    """Sound as it arrives: mono, resampled, placed against the first picture, forgotten once nothing needs it."""

    def __init__(self, sample_rate_in: int, sample_rate: int) -> None:
        """Starts without sound.

        Args:
            sample_rate_in: Hz of what is pushed.
            sample_rate: Hz of what is read.
        Raises:
            ConfigError: A sample rate that cannot be resampled.
        """
        if not 0 < sample_rate_in <= MAX_RATE:
            raise ConfigError(f"sound at {sample_rate_in} Hz, expected 1 to {MAX_RATE} Hz", fix="resample it first")
        self._rate_in, self._rate = sample_rate_in, sample_rate
        self._needed_from: int | None = None
        """What lies before this sample is not asked for again; counted from the first picture."""
        self._ended = False
        self.first_picture_s: float | None = None
        self._start_over(None)

    def _start_over(self, origin_s: float | None) -> None:
        """Forgets all sound; what comes next begins at `origin_s`."""
        self._origin_s = origin_s
        self._resampler = Resampler(self._rate_in, self._rate)
        self._total = 0
        # In blocks as they came: one array would be copied whole for each of them.
        self._kept: deque[np.ndarray] = deque()
        self._num_kept = self._num_dropped = 0

    def push(self, samples: np.ndarray, t_s: float | None = None) -> None:
        """Takes the next block.

        Args:
            samples: (N,) or (N, channels) float32 in [-1, 1]; what is no number is silence, as in a file.
            t_s: Time of its first sample on the pictures' clock; left out, it follows the block before. A
                block that lies further than 10 ms from there is moved to its own time, as in a file.
        Raises:
            ShapeError: Another type or shape.
            ConfigError: The first block comes without a time, sound comes after the end, or runs more than
                MAX_SOUND_AHEAD_S ahead of the pictures. The block is left out then; it may be pushed again later.
        """
        if self._ended:
            raise ConfigError("sound after the end of the stream", fix="open a new stream")
        mono = _to_mono(samples)
        if t_s is not None and not math.isfinite(t_s):
            raise ConfigError(f"a block of sound at {t_s} s", fix="give its time in seconds, or leave it out")
        if self._origin_s is None and t_s is None:
            raise ConfigError("the first block of sound has no time", fix="push_sound(samples, t_s=...)")
        late_s = 0.0
        if self._origin_s is None and t_s is not None and self.first_picture_s is not None:
            late_s = max(t_s - self.first_picture_s, 0.0)
        elif self._origin_s is not None and t_s is not None:
            late_s = t_s - (self._origin_s + self._total / self._rate_in)
        self._refuse_far_ahead(late_s + len(mono) / self._rate_in)
        # Behind a gap this long nothing of the sound before it is needed, or it would have been refused.
        if self._origin_s is None or late_s > MAX_SOUND_AHEAD_S:
            self._start_over(t_s)
        elif abs(late_s) > MAX_DRIFT_S:
            shift = round(late_s * self._rate_in)
            mono = np.concatenate([np.zeros(shift, np.float32), mono]) if shift > 0 else mono[-shift:]
        self._total += len(mono)
        self._keep(self._resampler.push(mono))

    def _refuse_far_ahead(self, added_s: float) -> None:
        passed = 0 if self._needed_from is None else max(self._needed_from - self._start, 0)
        ahead_s = (self._num_kept - passed) / self._rate + added_s
        if ahead_s > MAX_SOUND_AHEAD_S:
            raise ConfigError(
                f"the sound runs {ahead_s:.1f} s ahead of the pictures, {MAX_SOUND_AHEAD_S:g} s at most",
                fix="push pictures and sound in order of time, and check that both clocks are one",
            )

    def _keep(self, block: np.ndarray) -> None:
        if len(block):
            self._kept.append(block)
            self._num_kept += len(block)
            self._drop()

    def end(self) -> None:
        """Ends the sound: what is read past its end is silence, and pushing more is refused."""
        if not self._ended:
            self._keep(self._resampler.flush(self._total))
        self._ended = True

    @property
    def _start(self) -> int:
        """Index of the first kept sample, counted from the first picture."""
        if self._origin_s is None:
            return 0
        return round((self._origin_s - (self.first_picture_s or 0.0)) * self._rate) + self._num_dropped

    def has(self, end: int) -> bool:
        """Whether everything before sample `end` has arrived, or the sound has ended; see `scoring.Sound`."""
        return self._ended or (self._origin_s is not None and self._start + self._num_kept >= end)

    def forget(self, start: int) -> None:
        """Drops what lies before sample `start`; see `scoring.Sound`."""
        self._needed_from = start if self._needed_from is None else max(start, self._needed_from)
        self._drop()

    def _drop(self) -> None:
        if self._needed_from is None:
            return
        drop = min(max(self._needed_from - self._start, 0), self._num_kept)
        self._num_kept, self._num_dropped = self._num_kept - drop, self._num_dropped + drop
        while drop:
            block = self._kept.popleft()
            if len(block) > drop:
                self._kept.appendleft(block[drop:])
            drop -= min(drop, len(block))

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """(num_samples,) float32 from sample `start` on; forgets what lies before it. See `scoring.Sound`."""
        self.forget(start)
        result = np.zeros(num_samples, np.float32)
        first = self._start
        for block in self._kept:
            if first >= start + num_samples:
                break
            left, right = max(start, first), min(start + num_samples, first + len(block))
            if right > left:
                result[left - start : right - start] = block[left - first : right - first]
            first += len(block)
        return result


def _to_mono(samples: np.ndarray) -> np.ndarray:
    if samples.dtype != np.float32 or samples.ndim not in {1, 2}:
        raise ShapeError(
            f"sound must be float32 (N,) or (N, channels), got {samples.dtype} {samples.shape}", fix=FIX_SOUND
        )
    if samples.ndim == 2 and samples.shape[1] == 0:
        raise ShapeError(f"sound of no channels, {samples.shape}: one channel at least is expected", fix=FIX_SOUND)
    if np.isfinite(samples).all():
        # A copy: what was pushed may be written into. `nan_to_num` takes 27 us for a picture's sound, this 4.
        finite = samples.copy()
    else:
        finite = np.nan_to_num(samples, nan=NAN_AS, posinf=INFINITE_AS, neginf=-INFINITE_AS)
    return finite if samples.ndim == 1 else finite.mean(axis=1)


def _refuse_size(picture: Picture) -> None:
    """Refuses a picture of no pixels, one larger than those of files, and planes that do not fit each other."""
    width, height = picture.width, picture.height
    if not (min(width, height) > 0 and max(width, height) <= MAX_SIDE_PX and width * height <= MAX_AREA_PX):
        raise ShapeError(
            f"a picture of {width} x {height} px, expected 1 to {MAX_SIDE_PX} a side and {MAX_AREA_PX} at most",
            fix="scale it before it is pushed",
        )
    luma = picture.planes[0].shape[:2]
    if not all(_fits(plane.shape[:2], luma) for plane in picture.planes):
        raise ShapeError(
            f"planes of {', '.join(f'{plane.shape[1]} x {plane.shape[0]}' for plane in picture.planes)} px: U and V "
            "are as large as Y, or smaller by a whole number, rounded up",
            fix="push the planes as the decoder gives them, without their padding",
        )


def _fits(sides: tuple[int, ...], luma: tuple[int, ...]) -> bool:
    return all(
        side > 0 and -(-whole // max(round(whole / side), 1)) == side for side, whole in zip(sides, luma, strict=True)
    )


class GridStream:
    """Scores clips of pictures that are on the grid already; what a file and a stream have in common."""

    def __init__(self, faces: FaceStream, scorer: ClipScorer, spec: ClipSpec, *, shrink: int = 1) -> None:
        """Starts without pictures.

        Args:
            faces: Tracker without pictures.
            scorer: Scorer without faces.
            spec: The clip contract.
            shrink: What the pictures' sides were divided by; landmarks are given in pixels of the whole.
        """
        self._faces, self._scorer, self._spec = faces, scorer, spec
        self._shrink = shrink
        self.num_frames = 0
        """Grid frames so far."""

    def push(
        self, picture: GridPicture, tracked: TrackedPicture | None = None
    ) -> tuple[list[FaceFrame], list[ClipScore]]:
        """Takes the next picture of the grid.

        Args:
            picture: Grid index, one more than the last; time; the picture.
            tracked: What the stream of faces found in it; it is asked where None.
        Returns:
            The faces and the clip scores that became final.
        Raises:
            ConfigError: The sound lags too far behind the pictures.
        """
        index, t_s, shown = picture
        self.num_frames = index + 1
        faces = self._faces.push(index, t_s, shown, shrink=self._shrink, tracked=tracked)
        return faces, self._scorer.push(faces, index - self._spec.look_ahead_frames)

    def finish(self) -> tuple[list[FaceFrame], list[ClipScore]]:
        """Ends the video; gives the faces and the clip scores that waited for the look-ahead."""
        last_faces = list(self._faces.flush())
        first_waiting = max(self.num_frames - self._spec.look_ahead_frames, 0)
        scores: list[ClipScore] = []
        for index in range(first_waiting, self.num_frames):
            scores += self._scorer.push([face for face in last_faces if face.index == index], index)
        return last_faces, [*scores, *self._scorer.finish(self.num_frames)]


class DetectorStream:
    """Pictures with times and blocks of sound in, clip scores out; made by `Detector.open_stream`."""

    def __init__(self, grid: GridStream, scorer: ClipScorer, sound: PushedSound | None, *, fps: float) -> None:
        self._grid, self._scorer, self._sound = grid, scorer, sound
        self._picker = GridPicker(fps)

    def push_picture(self, t_s: float, picture: Picture | np.ndarray) -> list[ClipScore]:
        """Takes the next picture.

        Args:
            t_s: Its time in seconds, on the sound's clock; rises.
            picture: Planes of Y, U and V (`picture_of_planes`), or (H, W, 3) uint8 RGB, upright. Kept until the
                look-ahead has passed: do not write into it.
        Returns:
            Scores of the clips that are complete now.
        Raises:
            ShapeError: Another type or shape.
            ConfigError: The time does not rise, or the sound lags too far behind.
        """
        if not isinstance(picture, Picture):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ShapeError(
                    f"a picture must be uint8 (H, W, 3), got {picture.dtype} {picture.shape}",
                    fix="push RGB of 0 to 255, or planes of Y, U and V (picture_of_planes)",
                )
            picture = as_picture(np.ascontiguousarray(picture))
        _refuse_size(picture)
        pictures = self._picker.push(t_s, picture)
        if self._sound is not None:
            self._sound.first_picture_s = self._picker.origin_s
        return self._push_to_grid(pictures)

    def push_sound(self, samples: np.ndarray, t_s: float | None = None) -> list[ClipScore]:
        """Takes the next block of sound; see `PushedSound.push`. A model without sound ignores it.

        Returns:
            Scores of the clips that waited for it.
        """
        if self._sound is None:
            return []
        self._sound.push(samples, t_s)
        return self._scorer.score_waiting()

    def finish(self, last_duration_s: float | None = None) -> list[ClipScore]:
        """Ends the stream; the last clip ends with the last picture.

        Args:
            last_duration_s: How long the last picture is shown; the time between the last two when left out.
        Returns:
            Scores of the remaining clips.
        Raises:
            ConfigError: A duration that no picture has; the stream may be finished again without it.
        """
        last_pictures = self._picker.finish(last_duration_s)
        if self._sound is not None:
            self._sound.end()
        scores = self._push_to_grid(last_pictures)
        _, last_scores = self._grid.finish()
        return [*scores, *last_scores]

    def _push_to_grid(self, pictures: list[GridPicture]) -> list[ClipScore]:
        scores: list[ClipScore] = []
        for picture in pictures:
            _, final = self._grid.push(picture)
            scores += final
        return scores
