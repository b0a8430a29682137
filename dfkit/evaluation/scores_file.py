"""`scores.json`: all that an evaluation's tables and plots are made of, without media and without a model.

`dfkit evaluate` scores, puts the answers into a `ScoresFile`, and makes its report of that alone. So the file gives the
same report again, byte by byte, and two files can be compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from dfkit.audit.findings import Bar
from dfkit.errors import NOT_JSON, DataError
from dfkit.files import name_from_text, name_to_text
from dfkit.measures.decision import Aggregation, Calibration, Decision, OperatingPoint, VideoScores
from dfkit.measures.protocol import Protocol

SCHEMA_VERSION = 1
SCORES_FILE = "scores.json"
KIND: Literal["dfkit scores"] = "dfkit scores"
ScoreKind = Literal["logits", "p_fake", "uncalibrated"]
"""`logits` of dfkit's own clips and frames; of a foreign detector one score a video: a probability, or any number."""
Name = Annotated[str, BeforeValidator(lambda value: name_to_text(value) if isinstance(value, str | Path) else value)]
"""Text that may hold paths; bytes of them that are not UTF-8 are spelled out, see `name_to_text`."""
Margin = FiniteFloat
"""Logit of fake less logit of real."""


class ModelFacts(BaseModel, frozen=True, extra="forbid"):
    """A model whose answers these are."""

    path: Name
    kind: str
    """`teacher`, `student`, `original`, `bundle`, or `foreign`."""
    modalities: tuple[str, ...] = ()
    preset: str | None = None
    weights: str | None = None
    """Which weights of a checkpoint; None of the others."""


class DecisionFacts(BaseModel, frozen=True, extra="forbid"):
    """A decision as checkpoints store it."""

    calibration: Calibration
    operating_point: OperatingPoint
    aggregation: Aggregation

    @classmethod
    def of(cls, decision: Decision) -> DecisionFacts:
        """Facts of a decision."""
        return cls(
            calibration=decision.calibration,
            operating_point=decision.operating_point,
            aggregation=decision.aggregation,
        )

    @property
    def decision(self) -> Decision:
        """The decision itself."""
        return Decision(self.calibration, self.operating_point, self.aggregation)


class ClipColumns(BaseModel, frozen=True, extra="forbid"):
    """The clips of a video, column by column, N each."""

    track: tuple[int, ...]
    start_s: tuple[FiniteFloat, ...]
    label: tuple[Literal[0, 1], ...]
    """1 where any of its frames is fake."""
    logits: tuple[tuple[FiniteFloat, FiniteFloat], ...]
    """Real and fake."""

    @model_validator(mode="after")
    def _same_length(self) -> ClipColumns:
        if len({len(column) for column in (self.track, self.start_s, self.label, self.logits)}) != 1 or not self.track:
            raise ValueError("clips need as many tracks, starts, labels and logits, and at least one")
        return self

    @property
    def scores(self) -> VideoScores:
        """As the decision takes them."""
        return VideoScores(
            np.array(self.logits, np.float64), np.array(self.track, np.int64), np.array(self.start_s, np.float64)
        )


class FrameColumns(BaseModel, frozen=True, extra="forbid"):
    """The frames of one track, each once: of frames in several clips the margin of the mean logits."""

    track: int
    runs: tuple[tuple[NonNegativeInt, PositiveInt], ...]
    """First frame and number of frames of each stretch without a gap, on the grid of the clip contract."""
    labels: str
    """`0` or `1` for each frame."""
    margins: tuple[Margin, ...]
    """float32, in its shortest decimal form."""

    @model_validator(mode="after")
    def _same_length(self) -> FrameColumns:
        if not sum(count for _, count in self.runs) == len(self.labels) == len(self.margins):
            raise ValueError("frames need as many numbers, labels and margins")
        if set(self.labels) - {"0", "1"}:
            raise ValueError("labels of frames are 0 or 1")
        return self

    @property
    def numbers(self) -> np.ndarray:
        """(N,) int64, rising."""
        stretches = [np.arange(first, first + count) for first, count in self.runs]
        return np.concatenate([np.zeros(0, np.int64), *stretches])


class ReadFacts(BaseModel, frozen=True, extra="forbid"):
    """How much was read of a video when it was prepared, see `VideoRow.read_json`; None where that is not known."""

    read_s: FiniteFloat | None = None
    duration_s: FiniteFloat | None = None
    read_share: FiniteFloat | None = None
    missing: str | None = None


class ScoredVideo(BaseModel, frozen=True, extra="forbid"):
    """One video with its answers; of a foreign detector it may have none."""

    video: Name
    """Its path as the data or the table names it."""
    sha256: str | None = None
    """Of the file; None where only a table names it."""
    label: Literal[0, 1]
    group: Name
    method: Name | None = None
    intervals: tuple[tuple[FiniteFloat, FiniteFloat], ...] = ()
    """Fake stretches in seconds; empty in a fake: all of it is."""
    columns: dict[Name, Name] = {}
    """Filled cells of the label file's further columns, such as `language`."""
    read: ReadFacts | None = None
    """None for foreign answers."""
    clips: ClipColumns | None = None
    frames: tuple[FrameColumns, ...] = ()
    uncertainty: dict[str, FiniteFloat] = {}
    """Mean over its clips, by measure."""
    score: FiniteFloat | None = None
    """A foreign detector's; None where it gave none, and of dfkit's own."""

    @property
    def path(self) -> str:
        """Its path as the system has it."""
        return name_from_text(self.video)

    @property
    def answered(self) -> bool:
        """Whether there is anything to judge by."""
        return self.clips is not None or self.score is not None

    @property
    def key(self) -> str:
        """What tells it from the others of the file."""
        return self.sha256 or self.video


class Alternative(BaseModel, frozen=True, extra="forbid"):
    """Another way of scoring the same videos, such as an ensemble's vote or Monte-Carlo dropout."""

    name: str
    margins: tuple[Margin, ...]
    """Of the answered videos, in their order."""


class MutedScores(BaseModel, frozen=True, extra="forbid"):
    """The answered videos without their sound."""

    decision: DecisionFacts
    margins: tuple[Margin, ...]


class ValidationFacts(BaseModel, frozen=True, extra="forbid"):
    """What was fitted on validation videos, none of which is judged."""

    fitted_on: str
    """How many of each class, in words."""
    reason: str | None
    """Why nothing was fitted; None where it was."""
    num_real: int = 0
    temperature: PositiveFloat | None = Field(default=None, allow_inf_nan=False)
    platt: tuple[FiniteFloat, FiniteFloat] | None = None
    """Slope and offset."""
    thresholds: dict[str, FiniteFloat] = {}
    """On the calibrated p_fake, by operating point."""


class ScoresFile(BaseModel, frozen=True, extra="forbid"):
    """Content of `scores.json`."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["dfkit scores"] = KIND
    name: Name
    command: Name
    date: str
    """When it was scored, ISO 8601, UTC."""
    scores: ScoreKind
    models: tuple[ModelFacts, ...] = Field(min_length=1)
    data: Name
    """Path of the prepared data, or of the table that named the videos."""
    split: str = Field(pattern=r"^[\w-]+$")
    """The part that was judged; names the file in the original's format."""
    split_source: Name
    protocol: Protocol
    decision: DecisionFacts | None
    """None for scores that are no probabilities."""
    decision_source: Name
    validation: ValidationFacts
    trained_families: tuple[Name, ...] | None = None
    """Generators that a model was trained on; None where that is not known."""
    columns: tuple[Name, ...] = ()
    """Columns of the label file whose values the AUC is also listed by."""
    warnings: tuple[Name, ...] = ()
    """What was seen while scoring, such as groups that a model was trained on."""
    baseline: Bar | None = None
    """The strongest baseline on the same videos; None where none was measured."""
    audit_warnings: tuple[Name, ...] = ()
    first_margins: tuple[Margin, ...] = ()
    """Of the first model alone, where there are alternatives to it."""
    alternatives: tuple[Alternative, ...] = ()
    muted: MutedScores | None = None
    videos: tuple[ScoredVideo, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> ScoresFile:
        count = len(self.answered)
        if not count:
            raise ValueError("no video has an answer")
        columns = [self.first_margins] * bool(self.alternatives) + [each.margins for each in self.alternatives]
        columns += [] if self.muted is None else [self.muted.margins]
        if any(len(column) != count for column in columns):
            raise ValueError("an alternative has not one margin for each answered video")
        if any((video.clips is not None) != (self.scores == "logits") for video in self.answered):
            raise ValueError(f"videos do not hold {self.scores}")
        if len({bool(video.frames) for video in self.answered}) > 1:
            raise ValueError("some videos have frames, others have none")
        if len({tuple(video.uncertainty) for video in self.answered}) > 1:
            raise ValueError("videos have different measures of uncertainty")
        if (self.decision is None) != (self.scores == "uncalibrated"):
            raise ValueError("a decision belongs to probabilities, and to nothing else")
        if self.scores == "p_fake" and not all(0 <= float(video.score or 0) <= 1 for video in self.answered):
            raise ValueError("a probability lies outside of 0 to 1")
        return self

    @property
    def answered(self) -> list[ScoredVideo]:
        """Videos with an answer, in their order."""
        return [video for video in self.videos if video.answered]

    def to_text(self) -> str:
        """The file's text: facts first, then a line per video."""
        facts = self.model_dump(mode="json", exclude={"videos"})
        head = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        rows = [video.model_dump(mode="json", exclude_defaults=True) for video in self.videos]
        lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for row in rows)
        return f'{head[:-2]},\n "videos": [\n{lines}\n ]\n}}\n'


def short_float32(values: np.ndarray) -> tuple[float, ...]:
    """Numbers that have as many digits as a float32 needs, (N,): 0.1 and not 0.10000000149011612."""
    return tuple(float(str(value)) for value in np.asarray(values, np.float32))


def find_scores(path: Path) -> Path:
    """The scores file that a user named: itself, or the one in the folder of a report.

    Raises:
        DataError: There is none.
    """
    found = path / SCORES_FILE if path.is_dir() else path
    if found.is_file():
        return found
    where = f"{path}: no {SCORES_FILE} in it" if path.is_dir() else f"{path}: no such file"
    raise DataError(
        where, fix=f"name a report's folder or its {SCORES_FILE}; dfkit evaluate writes one beside every report.json"
    )


def read_scores(path: Path) -> ScoresFile:
    """Reads a scores file.

    Args:
        path: The file, or the folder of its report.
    Raises:
        DataError: It is not there, or not what `dfkit evaluate` writes.
    """
    found = find_scores(path)
    try:
        content = json.loads(found.read_text(encoding="utf-8"))
    except NOT_JSON as error:
        raise _foreign(found, str(error)) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise _foreign(found, f'no "kind": "{KIND}" in it')
    version = content.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise DataError(
            f"{found}: schema version {version}, this dfkit reads up to {SCHEMA_VERSION}",
            fix="pip install --upgrade dfkit",
        )
    try:
        return ScoresFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise _foreign(found, f"{where}: {first['msg']}") from error


def _foreign(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: not a scores file of dfkit evaluate ({found})",
        fix="dfkit evaluate writes one beside report.json; a table of another detector's answers goes to "
        "dfkit evaluate --scores TABLE.csv",
    )
