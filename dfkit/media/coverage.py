"""How much of a file's pictures and sound was read, and why the rest is missing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkit.errors import MediaError
from dfkit.media.container import media_error
from dfkit.media.survey import MAX_HOLE_S, SoundTrack, Survey

INCOMPLETE = "the file is incomplete"
WHOLE_SHARE = 0.995
"""From this share on pictures count as whole: timestamps round."""
MAX_NAMED = 8
"""Joints and sound tracks that are named; a damaged file may have thousands."""
WHOLE_SOUND_S = 0.06
"""Sound that lacks no more than this is whole: coders keep a frame or two back."""


@dataclass(frozen=True)
class Coverage:
    """How much was read of one part of a file."""

    read_s: float
    """Time that decoded pictures or samples fill."""
    duration_s: float
    """Time that there should be: what the header states or the packets span, whichever is longer."""
    missing: str | None = None
    """Why the rest is missing; None where nothing is."""

    @property
    def share(self) -> float:
        """`read_s` of `duration_s`, at most 1; 0 of nothing."""
        return min(self.read_s / self.duration_s, 1.0) if self.duration_s > 0 else 0.0

    def to_json(self) -> dict[str, float]:
        """The numbers, rounded."""
        return {
            "read_s": round(self.read_s, 3),
            "duration_s": round(self.duration_s, 3),
            "read_share": round(self.share, 4),
        }


def cut_off_text(survey: Survey, read_s: float) -> str:
    """Says that a file ends before its time."""
    if survey.stated_s is None:
        return "the file ends in the middle of a picture or of sound, as an upload or a copy that broke off does"
    return (
        f"{INCOMPLETE}: it states {survey.stated_s:.1f} s and ends after {read_s:.1f} s, as an upload or a "
        "copy that broke off does"
    )


class PictureMeter:
    """Measures what of a video's time is filled by decoded pictures."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._read_s = 0.0
        self._last: tuple[int, float, float] | None = None
        self._num_lost = 0
        self._first_lost_s: float | None = None

    def take(self, epoch: int, time_s: float | None, duration_s: float, *, is_corrupt: bool) -> None:
        """Takes the next decoded picture.

        Args:
            epoch: How often the clock had started again.
            time_s: Container time; None where it has none.
            duration_s: How long it is shown, where nothing follows.
            is_corrupt: Whether the decoder says that it is damaged.
        """
        if time_s is None:
            self._read_s += 0.0 if is_corrupt else self._survey.step_s
            return
        self._close(epoch, time_s)
        self._last = (epoch, time_s, 0.0 if is_corrupt else duration_s)
        if is_corrupt:
            self._lose(1, time_s)

    def finish(self) -> Coverage:
        """What was read, once the stream has ended."""
        self._close(None, None)
        survey = self._survey
        read_s = min(self._read_s, survey.pictures_s)
        whole = read_s >= survey.pictures_s * WHOLE_SHARE and not self._num_lost
        return Coverage(read_s, survey.pictures_s, None if whole else self._why(read_s))

    def _close(self, epoch: int | None, time_s: float | None) -> None:
        """Counts the last picture: up to the next one, less the share of packets between them that gave none."""
        if self._last is None:
            return
        last_epoch, last_s, duration_s = self._last
        if time_s is None or epoch != last_epoch or time_s - last_s > MAX_HOLE_S:
            self._read_s += duration_s
            return
        shown = pictures_between(self._survey, last_epoch, last_s, time_s)
        self._lose(len(shown), last_s)
        if duration_s > 0:
            self._read_s += max((shown[0] if shown else time_s) - last_s, 0.0)

    def _lose(self, number: int, time_s: float) -> None:
        if number and self._first_lost_s is None:
            self._first_lost_s = time_s - self._survey.segments[0].start_s
        self._num_lost += number

    def _why(self, read_s: float) -> str | None:
        said = []
        if self._survey.is_cut_off:
            said.append(cut_off_text(self._survey, read_s))
        if self._num_lost:
            said.append(
                f"{self._num_lost} of {self._survey.num_pictures} pictures are damaged, the first after "
                f"{self._first_lost_s or 0.0:.1f} s"
            )
        return "; ".join(said) or "part of the pictures cannot be decoded"


def pictures_between(survey: Survey, epoch: int, start_s: float, end_s: float) -> list[float]:
    """Container times of the pictures that a file holds strictly between two of one epoch, in order.

    A packet that only others need (VP8) gives no picture, and has no time of its own: it is left out.
    """
    times = survey.picture_times_s
    # A time that rounds differs by less than a microsecond.
    first, last = bisect_right(times, (epoch, start_s + 1e-6)), bisect_left(times, (epoch, end_s - 1e-6))
    between = [time_s for _, time_s in times[first:last]]
    ends = [*between[1:], end_s] if between else []
    return [time_s for time_s, end in zip(between, ends, strict=True) if end - time_s >= survey.step_s / 2]


@dataclass(frozen=True)
class FileRead:
    """What was read of a file."""

    pictures: Coverage
    sound: Coverage | None = None
    """None where no sound was asked for, or there is none."""
    notes: tuple[str, ...] = ()
    """What else the reader of a verdict should know, such as which of several sound tracks was heard."""

    @property
    def missing(self) -> str | None:
        """Why something is missing, for both parts; None where nothing is."""
        picture, sound = self.pictures.missing, None if self.sound is None else self.sound.missing
        if picture is not None and sound is not None and sound.startswith(INCOMPLETE) and INCOMPLETE in picture:
            sound = None  # both end with the file, a moment apart
        return "; ".join(dict.fromkeys(said for said in (picture, sound) if said is not None)) or None

    @property
    def text(self) -> str:
        """Such as `4.5 of 9.0 s of pictures (50 %), 9.0 of 9.0 s of sound (100 %)`."""
        parts = (("pictures", self.pictures), ("sound", self.sound))
        return ", ".join(
            f"{part.read_s:.1f} of {part.duration_s:.1f} s of {name} ({part.share:.0%})"
            for name, part in parts
            if part is not None
        )

    def to_json(self) -> dict[str, Any]:
        """Numbers of both parts and what is missing."""
        return {
            "pictures": self.pictures.to_json(),
            "sound": None if self.sound is None else self.sound.to_json(),
            "missing": self.missing,
        }


def read_notes(survey: Survey, track: SoundTrack | None) -> tuple[str, ...]:
    """Says that a file is joined of several recordings, and which of several sound tracks was taken."""
    notes = []
    if len(survey.segments) > 1:
        begin_s = survey.segments[0].start_s
        joints = [f"{s.start_s + s.offset_s - begin_s:.1f} s" for s in survey.segments[1 : MAX_NAMED + 1]]
        notes.append(f"{len(survey.segments)} recordings joined at {_named(joints, len(survey.segments) - 1)}")
    if track is not None and len(survey.sound_tracks) > 1:
        others = [other.text for other in survey.sound_tracks if other is not track]
        not_heard = _named(others[:MAX_NAMED], len(others))
        notes.append(f"{len(survey.sound_tracks)} sound tracks: heard {track.text}, not {not_heard}")
    return tuple(notes)


def _named(names: Sequence[str], number: int) -> str:
    more = f" and {number - len(names)} more" if number > len(names) else ""
    return ", ".join(names) + more


def too_short_error(path: Path, read: Coverage, *, seconds: float, needed_s: float) -> MediaError:
    """The error for a file with too few pictures: because it is short, or because the rest cannot be read.

    Args:
        path: The file.
        read: Of its pictures.
        seconds: How long they last.
        needed_s: How long they have to.
    """
    if read.missing is not None and read.duration_s >= needed_s:
        reason = f"{seconds:.2f} s of pictures can be read of {read.duration_s:.2f} s: {read.missing}"
        return media_error(path, "unreadable", reason, "copy or upload the whole file again")
    reason = f"{seconds:.2f} s of pictures, at least {needed_s:g} s are needed"
    return media_error(path, "too_short", reason, "use a longer recording")
