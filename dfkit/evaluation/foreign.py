"""`dfkit evaluate --scores`: a table of another detector's answers, judged by the same figures.

Videos without an answer stay as rows, and their share is counted: what a detector leaves out is part of what it is
worth.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dfkit.audit.findings import Bar
from dfkit.data.groups import components
from dfkit.data.label_table import Table, read_table
from dfkit.data.label_words import TRUTH_COLUMNS
from dfkit.data.labels import COLUMNS, LabelSet, faults_error, label_column, labels_of_table, read_label_names, shown
from dfkit.data.protocols import protocol_of
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.evaluation.data_findings import data_findings
from dfkit.evaluation.scores_file import (
    DecisionFacts,
    ModelFacts,
    ScoredVideo,
    ScoreKind,
    ScoresFile,
    ValidationFacts,
)
from dfkit.measures.decision import Decision, OperatingPoint
from dfkit.measures.protocol import Protocol

PATH_COLUMNS = ("path", "video", "file", "filename", "file_name", "video_path", "name", "id")
PROBABILITY_COLUMNS = ("p_fake", "prob_fake", "fake_prob", "probability", "prob", "score", "fake_score", "prediction")
RAW_COLUMNS = ("logit", "logits", "margin", "llr")
"""Columns whose numbers are no probabilities even where all of them lie between 0 and 1."""
SCORE_COLUMNS = (*PROBABILITY_COLUMNS, *RAW_COLUMNS)
MAX_NAMES = 3
"""Of the rows that name no judged video, such as those of other parts."""
Key = TypeVar("Key")
NOT_FITTED = "these are another detector's answers"


@dataclass(frozen=True)
class Truth:
    """The videos that a table has to answer, without answers, and what is known of them."""

    videos: tuple[ScoredVideo, ...]
    source: str
    """Path of what names them."""
    protocol: Protocol
    """Of the data and the part; frames and aggregation are the detector's own, and not stated."""
    split: str
    split_source: str
    baseline: Callable[[Sequence[ScoredVideo]], tuple[Bar | None, tuple[str, ...]]] | None = None
    """The data's strongest baseline on some of the videos, and the audit's warnings; None where there is no data."""


@dataclass(frozen=True)
class Answers:
    """The scores of a table."""

    column: str
    scores: dict[str, float | None]
    """By the name of the video as the table has it; None where the cell is empty."""

    @property
    def kind(self) -> ScoreKind:
        """Whether they are probabilities: all between 0 and 1, in a column that is not named for anything else."""
        values = [score for score in self.scores.values() if score is not None]
        inside = all(0 <= value <= 1 for value in values)
        return "p_fake" if inside and self.column not in RAW_COLUMNS else "uncalibrated"


def score_table(
    table_path: Path, truth: Truth | None, *, score_column: str | None, min_coverage: float, columns: Sequence[str] = ()
) -> ScoresFile:
    """A foreign detector's answers as a scores file.

    Args:
        table_path: With a column that names videos and one of scores, which rise with the evidence for fake.
        truth: The videos to be answered; those of the table itself, by labels in it, where None.
        score_column: Where the table has several columns of numbers.
        min_coverage: Share of the videos that has to be answered, in [0, 1].
        columns: Columns of the labels whose values the AUC is also listed by.
    Raises:
        DataError: The table cannot be used, or leaves too many videos out.
    """
    if not table_path.is_file():
        raise DataError(f"{table_path}: no such file", fix="correct the path given to --scores")
    known = {*PATH_COLUMNS, *SCORE_COLUMNS, *COLUMNS, *TRUTH_COLUMNS, *([score_column] if score_column else [])}
    table = read_table(table_path, known)
    answers = read_answers(table, table_path, score_column=score_column)
    truth = truth or truth_in_table(table, table_path)
    videos, warnings = match_answers(truth.videos, answers, table_path)
    answered = [video for video in videos if video.answered]
    _require_coverage(videos, answered, table_path, min_coverage)
    warnings += [] if answers.kind == "p_fake" else [_uncalibrated_warning(answered, answers)]
    bar, audit_warnings = (None, ()) if truth.baseline is None else truth.baseline(answered)
    return ScoresFile(
        name=f"{table_path.stem}-evaluation",
        command=" ".join(["dfkit", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        scores=answers.kind,
        models=(ModelFacts(path=str(table_path), kind=f"foreign, column {answers.column}"),),
        data=truth.source,
        split=truth.split,
        split_source=truth.split_source,
        protocol=_answered_protocol(truth.protocol, videos, answered),
        decision=_even_decision() if answers.kind == "p_fake" else None,
        decision_source=NOT_FITTED,
        validation=ValidationFacts(fitted_on="no validation videos", reason=NOT_FITTED),
        columns=tuple(columns),
        warnings=tuple(warnings),
        baseline=bar,
        audit_warnings=audit_warnings,
        videos=tuple(videos),
    )


def _even_decision() -> DecisionFacts:
    point = OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="0.5, where fake is the likelier class")
    return DecisionFacts.of(Decision(operating_point=point))


def _answered_protocol(protocol: Protocol, videos: Sequence[ScoredVideo], answered: Sequence[ScoredVideo]) -> Protocol:
    num_missing = len(videos) - len(answered)
    return protocol.model_copy(
        update={
            "preset": None,
            "frames_per_clip": None,
            "fps": None,
            "clip_step_s": None,
            "aggregation": None,
            "num_clips": None,
            "named_videos": len(videos),
            "usable_videos": len(answered),
            "unusable": {"without an answer": num_missing} if num_missing else {},
            "num_videos": len(answered),
            "num_groups": len({video.group for video in answered}),
        }
    )


def _uncalibrated_warning(answered: Sequence[ScoredVideo], answers: Answers) -> str:
    values = [float(video.score or 0) for video in answered]
    return (
        f"column {answers.column} runs from {min(values):g} to {max(values):g} and is taken for no probability: only "
        "its order is judged; accuracy, F1, MCC and calibration error need p_fake between 0 and 1"
    )


def _require_coverage(
    videos: Sequence[ScoredVideo], answered: Sequence[ScoredVideo], path: Path, min_coverage: float
) -> None:
    if not 0 <= min_coverage <= 1:
        raise DataError(f"a coverage of {min_coverage:g} is no share", fix="--min-coverage 0.5, or another from 0 to 1")
    share = len(answered) / len(videos)
    if answered and share >= min_coverage:
        return
    names = shown([video.video for video in videos if not video.answered])
    raise DataError(
        f"{path}: answers {len(answered)} of {len(videos)} videos ({share:.0%}), at least {min_coverage:.0%} are "
        f"wanted; missing: {names}",
        fix="name the videos in the table as labels or data name them"
        + (f"; --min-coverage {int(100 * share) / 100:g} goes on without them" if answered else ""),
    )


def read_answers(table: Table, where: Path, *, score_column: str | None) -> Answers:
    """The scores of a table, by the names of its videos.

    Args:
        table: As it was read.
        where: Names it in messages.
        score_column: Where it has several columns of numbers.
    Raises:
        DataError: No column of names or of scores, a video twice, or a score that is no number: all faults at once.
    """
    column = _score_column(table, where, score_column)
    name_column = _path_column(table, where)
    faults, scores, row_of = list(table.faults), {}, {}  # type: ignore[var-annotated]
    for number, row in table.rows:
        name = row[name_column].strip().replace("\\", "/")
        if not name:
            faults.append(f"row {number}: {name_column} is empty")
        elif name in row_of:
            faults.append(f"rows {row_of[name]} and {number}: {name} is answered twice")
        else:
            row_of[name] = number
            scores[name] = _parse_score(row[column], number, column, table, faults)
    if faults:
        raise faults_error(faults, str(where), fix="correct these rows and run the same command again")
    if not scores:
        raise DataError(f"{where}: no rows below the header", fix=f"add one row per video: {name_column},{column}")
    return Answers(column, scores)


def _parse_score(text: str, number: int, column: str, table: Table, faults: list[str]) -> float | None:
    cell = text.strip()
    if not cell:
        return None
    if table.delimiter != ",":  # spreadsheets that put semicolons have decimal commas
        cell = cell.replace(",", ".")
    try:
        value = float(cell)
    except ValueError:
        faults.append(f"row {number}: {column} '{cell}' is no number")
        return None
    if not math.isfinite(value):
        faults.append(f"row {number}: {column} is {cell}: leave the cell empty where there is no answer")
        return None
    return value


def _score_column(table: Table, where: Path, wanted: str | None) -> str:
    if wanted is not None:
        name = "_".join(wanted.strip().lower().split())
        if name not in table.columns:
            raise DataError(f"{where}: no column {wanted}; it has {table.header}", fix="--score-column NAME")
        return name
    found = [name for name in SCORE_COLUMNS if name in table.columns]
    if "p_fake" in found or len(found) == 1:
        return found[0]
    said = f"several columns of scores: {', '.join(found)}" if found else f"no column of scores; it has {table.header}"
    raise DataError(f"{where}: {said}", fix="--score-column NAME; it has to rise with the evidence for fake")


def _path_column(table: Table, where: Path) -> str:
    found = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if found is None:
        raise DataError(
            f"{where}: no column names the videos; it has {table.header}", fix="call one of its columns path"
        )
    return found


def match_answers(videos: Sequence[ScoredVideo], answers: Answers, where: Path) -> tuple[list[ScoredVideo], list[str]]:
    """Puts answers to videos: by path, else by file name, else by it without suffix, each where it names one alone.

    Args:
        videos: Without answers.
        answers: Of the table.
        where: Names it in messages.
    Returns:
        The videos, those that are answered with their score; and what is to be said of the rest.
    """
    open_videos, open_answers = dict(enumerate(videos)), dict(answers.scores)
    score_of: dict[int, float | None] = {}
    num_loose = 0
    for level, spell in enumerate((_slashes, _file_name, _stem)):
        place_of = _unique({place: spell(video.path) for place, video in open_videos.items()})
        for spelled, name in _unique({name: spell(name) for name in open_answers}).items():
            if spelled in place_of:
                place = place_of[spelled]
                score_of[place] = open_answers.pop(name)
                del open_videos[place]
                num_loose += level > 0
    warnings = []
    if num_loose:
        warnings.append(f"{num_loose} videos were found by their file name alone, not by their path")
    if open_answers:
        first = ", ".join(sorted(open_answers)[:MAX_NAMES])
        more = ", ..." if len(open_answers) > MAX_NAMES else ""
        warnings.append(f"{len(open_answers)} rows of {where.name} name no judged video: {first}{more}")
    scored = [video.model_copy(update={"score": score_of.get(place)}) for place, video in enumerate(videos)]
    if num_missing := sum(not video.answered for video in scored):
        warnings.append(f"{num_missing} of {len(videos)} videos have no answer, and count in no figure")
    return scored, warnings


def _unique(spelled: Mapping[Key, str]) -> dict[str, Key]:
    """Keys by their spelling, where it is theirs alone."""
    counts = Counter(spelled.values())
    return {text: key for key, text in spelled.items() if counts[text] == 1}


def _slashes(path: str) -> str:
    return path.replace("\\", "/")


def _file_name(path: str) -> str:
    return _slashes(path).rsplit("/", 1)[-1]


def _stem(path: str) -> str:
    return _file_name(path).rsplit(".", 1)[0]


def truth_of_labels(labels: LabelSet, where: Path) -> Truth:
    """The videos of a label file, or of the table itself."""
    # A video without a group is its own.
    groups = components([source.groups or (str(source.path),) for source in labels.sources])
    videos = tuple(
        ScoredVideo(
            video=str(source.path),
            label=source.label,  # type: ignore[arg-type]
            group=group,
            method=source.method,
            intervals=source.intervals,
            columns=source.columns or {},
        )
        for source, group in zip(labels.sources, groups, strict=True)
    )
    return Truth(videos, str(where), Protocol(groups_known=labels.groups_known), "all", "every video named")


def truth_in_table(table: Table, where: Path) -> Truth:
    """The videos of the table, by labels in it.

    Raises:
        DataError: It has none.
    """
    if label_column(table.columns) is None:
        raise DataError(
            f"{where}: no column of labels; it has {table.header}",
            fix="--data DATA for the labels of prepared data, --labels FILE.csv, or a column label in the table",
        )
    return truth_of_labels(labels_of_table(table, where, path_column=_path_column(table, where)), where)


def truth_of_label_file(path: Path) -> Truth:
    """The videos of a label file, which need not be there."""
    return truth_of_labels(read_label_names(path), path)


def truth_of_data(data: PreparedData, part: str) -> Truth:
    """The usable videos of prepared data, or of a part of it.

    Args:
        data: With labels.
        part: `all`, `train`, `val` or `test`: as the labels give it, or cut by group.
    Raises:
        DataError: Labels are missing, or the data cannot be split.
    """
    from dfkit.config import SplitConfig
    from dfkit.data.splits import split_clips

    data.require_labels()
    source = "every usable video"
    indices = range(len(data.clips))
    if part != "all":
        indices = split_clips(data, SplitConfig())[part]  # type: ignore[assignment]
        source = "as the labels give it" if any(row.split for row in data.videos) else "cut by group, seed 0"
    judged = sorted({data.clips[index].video_index for index in indices})
    videos = tuple(
        ScoredVideo(
            video=data.videos[index].path,
            sha256=data.videos[index].sha256,
            label=data.videos[index].label,  # type: ignore[arg-type]
            group=str(data.groups[index]),
            method=data.videos[index].method,
            intervals=data.videos[index].shown_intervals,
            columns=data.videos[index].columns or {},
        )
        for index in judged
    )

    def baseline(answered: Sequence[ScoredVideo]) -> tuple[Bar | None, tuple[str, ...]]:
        return data_findings(data, [str(video.sha256) for video in answered])

    return Truth(videos, data.path, protocol_of(data, judged, part=part, aggregation=""), part, source, baseline)


def truth_of_scores(scores: ScoresFile) -> Truth:
    """The videos of another evaluation, for figures that compare with it."""
    bare: dict[str, Any] = {"clips": None, "frames": (), "uncertainty": {}, "score": None, "read": None}
    videos = tuple(video.model_copy(update=bare) for video in scores.answered)
    return Truth(videos, scores.data, scores.protocol, scores.split, f"the videos of {scores.name}")
