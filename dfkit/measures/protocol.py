"""What a metric rests on, in one line that stands beside it: two figures compare only where these lines agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt, PositiveFloat

HASH_DIGITS = 12
"""Of the data's hash in the line; files hold all 64."""
NOT_STATED = "protocol: not stated, these figures are an older dfkit's"


class Protocol(BaseModel, frozen=True, extra="forbid"):
    """How a figure came about. None: not stated, as of a foreign detector's answers."""

    preset: str | None = None
    """Of the clip contract."""
    frames_per_clip: NonNegativeInt | None = None
    """0 where no picture is judged, as by facts of files."""
    fps: PositiveFloat | None = Field(default=None, allow_inf_nan=False)
    """Pictures per second within a clip; None under `uniform50`, whose frames lie on no time grid."""
    clip_step_s: FiniteFloat | None = None
    """Seconds between the starts of two clips; None as of `fps`."""
    aggregation: str | None = None
    """From clips to a video, in words."""
    named_videos: NonNegativeInt | None = None
    """Videos of the data, or of a foreign file those that it should have answered."""
    usable_videos: NonNegativeInt | None = None
    """Of these with a face and sound enough for a clip, or with an answer."""
    unusable: dict[str, int] = {}
    """How many of the others by reason, such as `no_face`."""
    num_clips: NonNegativeInt | None = None
    """That the figure rests on."""
    compression: str | None = None
    """`raw`, or what the videos were re-encoded to, in words."""
    data_hash: str | None = None
    """SHA-256 over contents, labels and contract of the data, see `dfkit.data.storage.videos_hash`."""
    part: str | None = None
    """The part of the data that was judged, such as `test`, or `5 folds by group, seed 0`."""
    num_videos: NonNegativeInt = 0
    """That the figure rests on."""
    num_groups: NonNegativeInt = 0
    groups_known: bool = True

    @property
    def text(self) -> str:
        """One line for people."""
        parts = (
            self._frames_text(),
            self.aggregation or "aggregation not stated",
            self._usable_text(),
            self.compression or "compression not stated",
            f"{self.num_videos} videos in {self.num_groups} groups{'' if self.groups_known else ' (not known)'}",
            self._part_text(),
            f"data {self.data_hash[:HASH_DIGITS]}" if self.data_hash else "data not stated",
        )
        return f"protocol: {'; '.join(parts)}"

    def _frames_text(self) -> str:
        if self.frames_per_clip is None:
            return "frames not stated"
        if self.frames_per_clip == 0:
            return "no pictures judged"
        if self.fps is None:
            return f"{self.frames_per_clip} frames over the whole video"
        step = "" if self.clip_step_s is None else f", one each {self.clip_step_s:g} s"
        return f"clips of {self.frames_per_clip} frames at {self.fps:g}/s{step}"

    def _usable_text(self) -> str:
        if self.named_videos is None or self.usable_videos is None:
            return "faces found not stated"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.unusable.items())
        clips = "" if self.num_clips is None else f", {self.num_clips} clips"
        return f"{self.usable_videos} of {self.named_videos} videos usable{f' ({reasons})' if reasons else ''}{clips}"

    def _part_text(self) -> str:
        if self.part is None:
            return "part not stated"
        if self.part == "all":
            return "all parts"
        return self.part if "fold" in self.part else f"{self.part} part"

    def to_json(self) -> dict[str, Any]:
        """Every field, and the line itself as `text`."""
        return {**self.model_dump(), "text": self.text}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Protocol | None:
        """Reads what `to_json` wrote; None of figures that an older dfkit stored without it."""
        return None if value is None else cls.model_validate({k: each for k, each in value.items() if k != "text"})


def protocol_line(protocol: Protocol | None) -> str:
    """The line of figures, which those of an older dfkit lack."""
    return NOT_STATED if protocol is None else protocol.text


def stated_protocol(facts: Mapping[str, Any]) -> str:
    """The line of metrics that were stored with their protocol, as `Protocol.to_json` gives it."""
    return str(facts.get("protocol", {}).get("text", NOT_STATED))


@dataclass(frozen=True)
class Difference:
    """A field in which two protocols disagree."""

    field: str
    first: str
    second: str
    fix: str

    @property
    def text(self) -> str:
        """Such as `compression: raw, and equalised (h264)`."""
        return f"{self.field}: {self.first}, and {self.second}"


def _compared(pick: Callable[[Protocol], Any]) -> Callable[[Protocol], str | None]:
    def text(protocol: Protocol) -> str | None:
        value = pick(protocol)
        return None if value is None else str(value)

    return text


def _frames(protocol: Protocol) -> str | None:
    return None if protocol.frames_per_clip is None else protocol._frames_text()


COMPARED: tuple[tuple[str, Callable[[Protocol], str | None], str], ...] = (
    (
        "frames",
        _frames,
        "judge both models on clips of one contract: train or export them under the same clip section of --config",
    ),
    (
        "aggregation",
        _compared(lambda protocol: protocol.aggregation),
        "dfkit compare A B --aggregation mean puts the clips of both together alike",
    ),
    (
        "compression",
        _compared(lambda protocol: protocol.compression),
        "dfkit evaluate --data DATA for both, with the same prepared data, raw or equalised",
    ),
    (
        "data",
        _compared(lambda protocol: protocol.data_hash and protocol.data_hash[:HASH_DIGITS]),
        "dfkit evaluate --data DATA for both, with the same prepared data",
    ),
    (
        "part",
        _compared(lambda protocol: protocol.part),
        "dfkit evaluate --split PART for both, with the same part; of a table --scores TABLE --like THE_OTHER_REPORT",
    ),
)
"""Fields in which two figures have to agree, and how to make them: which videos were usable is handled row by row."""


def differences(first: Protocol, second: Protocol) -> list[Difference]:
    """Fields in which two protocols disagree; one that either does not state is none of them."""
    found = []
    for name, text_of, fix in COMPARED:
        texts = (text_of(first), text_of(second))
        if None not in texts and texts[0] != texts[1]:
            found.append(Difference(name, str(texts[0]), str(texts[1]), fix))
    return found


def unstated(first: Protocol, second: Protocol) -> list[str]:
    """Names of the compared fields that one of two protocols states and the other does not."""
    return [name for name, text_of, _ in COMPARED if (text_of(first) is None) != (text_of(second) is None)]
