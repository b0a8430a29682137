"""Findings about labels without a network: small models scored out of fold, stored beside the data.

`dfkit audit` and `dfkit baseline` both fit small models under the grouped folds that networks are tested with,
and leave one JSON file each in the folder of the data, where `dfkit evaluate` finds it.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfkit.config import SplitConfig
from dfkit.data import catalog
from dfkit.data.label_table import column_name
from dfkit.data.protocols import folds_part, protocol_of
from dfkit.data.splits import make_folds
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import DataError
from dfkit.files import name_to_text, read_json_object, write_atomically
from dfkit.measures.bootstrap import REPEATS, group_bootstrap
from dfkit.measures.finite import finite_or_none
from dfkit.measures.metrics import auc
from dfkit.measures.protocol import Protocol

SCHEMA_VERSION = 1
AUDIT_FILE, BASELINE_FILE = "audit.json", "baseline.json"
COMMANDS = {AUDIT_FILE: "dfkit audit", BASELINE_FILE: "dfkit baseline"}
NOT_IN_NAMES = re.compile(r"[^\w.-]+")
"""What a column may be called and a file may not."""
BASELINE_WORDS = {
    "features": "hand-made features",
    "facts": "file facts",
    "sync": "phoneme-lip sync",
    "texture": "frozen texture features",
}
"""What each baseline rests on, by its name."""
FACTS = "facts"
ANSWER_COLUMNS = ("path", "label", "group", "method", "p_fake")
"""Of a baseline's out-of-fold answers."""
LISTS = ("warnings", "videos")
"""Keys of a finding that hold lists where they are there."""
WARN_AUC = 0.7
"""AUC above which a finding is named beside every metric; DESIGN section 9."""


@dataclass(frozen=True)
class AucScore:
    """AUC of a fact or of a family of features, on videos of groups that its model was not fitted on."""

    name: str
    auc: float
    """By video, out-of-fold scores of all folds pooled."""
    low: float
    """Lower end of the 95 % interval over groups; NaN, like `high`, where there are too few groups."""
    high: float
    num_videos: int
    num_missing: int = 0
    """Videos without a value; to the model that is a value, too, since it may give the label away."""

    def to_json(self) -> dict[str, Any]:
        """Every field; NaN is None."""
        return {name: finite_or_none(value) for name, value in vars(self).items()}


class FoldModel(typing.Protocol):
    """What is fitted on the training part of a fold, and then asked about the videos of its test part.

    It may hold features of all videos; labels and groups it is told of its training part alone.
    """

    def fit(self, rows: NDArray[np.int64], labels: NDArray[np.int64], groups: Sequence[str]) -> None:
        """Learns from (M,) places of videos, their labels and their groups."""

    def p_fake(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """P(fake) of (M,) places of videos, each in [0, 1]."""


M = TypeVar("M", bound=FoldModel)


@dataclass
class TableModel:
    """A classifier on a table of one row per video."""

    values: NDArray[np.float64]
    """(N, K) of all videos."""
    classifier: Any
    """Of scikit-learn, unfitted at first."""

    def fit(self, rows: NDArray[np.int64], labels: NDArray[np.int64], groups: Sequence[str]) -> None:
        """Fits the classifier; groups are of no use to it."""
        self.classifier.fit(self.values[rows], labels)

    def p_fake(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The classifier's probability of class 1."""
        return np.asarray(self.classifier.predict_proba(self.values[rows])[:, 1])


@dataclass(frozen=True)
class Predictor:
    """A kind of model on the features of N videos, unfitted as often as there are folds."""

    make_model: Callable[[], FoldModel]
    missing: NDArray[np.bool_]
    """(N,) videos without any value; to the model that is a value, too."""

    @classmethod
    def of_table(cls, values: NDArray[np.float64], make_classifier: Callable[[], Any]) -> Predictor:
        """Of a table.

        Args:
            values: (N, K) one row per video; NaN where a value is missing.
            make_classifier: Gives an unfitted scikit-learn classifier that takes NaN.
        """
        return cls(lambda: TableModel(values, make_classifier()), np.asarray(np.isnan(values).all(axis=1)))


@dataclass(frozen=True)
class FoldedVideos:
    """The usable videos of prepared data, and the fold in which each is tested. N videos."""

    positions: tuple[int, ...]
    """Index of each in `PreparedData.videos`."""
    labels: NDArray[np.int64]
    """(N,) 0 or 1."""
    groups: tuple[str, ...]
    """Group of each video."""
    test_parts: tuple[NDArray[np.int64], ...]
    """Places in `positions`, one array per fold, disjoint and together all."""
    seed: int
    """Of the folds and the bootstrap."""
    repeats: int = REPEATS
    """Resamples of the bootstrap."""

    @classmethod
    def from_data(
        cls, data: PreparedData, *, folds: int, seed: int, repeats: int = REPEATS, split: SplitConfig | None = None
    ) -> FoldedVideos:
        """Makes the folds that `dfkit train` makes from the same number, seed and configuration.

        Args:
            data: Prepared data with labels.
            folds: Number of grouped folds.
            seed: Of the folds and the bootstrap.
            repeats: Resamples of the bootstrap.
            split: Its `val_share` and `duration_bins` are used; the defaults of folds where left out.
        Raises:
            DataError: Labels or a class are missing, or there are too few groups.
        """
        shared = {} if split is None else {"val_share": split.val_share, "duration_bins": split.duration_bins}
        splits = make_folds(data, folds=folds, seed=seed, **shared)  # type: ignore[arg-type]
        positions = tuple(sorted(itertools.chain.from_iterable(split.test for split in splits)))
        row_of_video = {video: row for row, video in enumerate(positions)}
        labels = [data.videos[video].label for video in positions]
        return cls(
            positions=positions,
            labels=np.asarray(labels, np.int64),
            groups=tuple(data.groups[video] for video in positions),
            test_parts=tuple(np.asarray([row_of_video[video] for video in split.test]) for split in splits),
            seed=seed,
            repeats=repeats,
        )

    def protocol(self, data: PreparedData, aggregation: str, *, frames: bool = True) -> Protocol:
        """The protocol of scores of these videos, each by a model that was fitted without its fold.

        Args:
            data: What the videos are from.
            aggregation: How a video gets its features, in words.
            frames: Whether pictures are judged.
        """
        part = folds_part(len(self.test_parts), self.seed)
        return protocol_of(data, self.positions, part=part, aggregation=aggregation, frames=frames)

    def score(self, name: str, values: NDArray[np.float64], make_model: Callable[[], Any]) -> AucScore:
        """AUC of a classifier that is fitted out of fold.

        Args:
            name: Of the result.
            values: (N, K) one row per video; NaN where a value is missing.
            make_model: Gives an unfitted scikit-learn classifier that takes NaN.
        """
        table = Predictor.of_table(values, make_model)
        return self.score_predictions(name, self.out_of_fold(table.make_model), missing=table.missing)

    def score_predictions(self, name: str, p_fake: NDArray[np.float64], *, missing: NDArray[np.bool_]) -> AucScore:
        """AUC of out-of-fold scores with its interval over groups.

        Args:
            name: Of the result.
            p_fake: (N,) in [0, 1].
            missing: (N,) whether a video has no value that a score could be made from.
        """
        interval = group_bootstrap(
            self.groups,
            lambda rows: auc(self.labels[rows], p_fake[rows]),
            repeats=self.repeats,
            seed=self.seed,
        )
        return AucScore(name, interval.value, interval.low, interval.high, len(self.labels), int(missing.sum()))

    def out_of_fold(self, make_model: Callable[[], FoldModel]) -> NDArray[np.float64]:
        """(N,) P(fake) of each video, by a model that was fitted without its fold."""
        return self.gather((test, model.p_fake(test)) for test, model in self.fitted(make_model))

    def fitted(self, make_model: Callable[[], M]) -> Iterator[tuple[NDArray[np.int64], M]]:
        """Fits a model per fold: the one loop behind every out-of-fold score.

        Args:
            make_model: Gives an unfitted model.
        Yields:
            The places of a fold's test videos, and the model that saw nothing of them or of their groups.
        """
        for test in self.test_parts:
            training = np.setdiff1d(np.arange(len(self.labels)), test)
            model = make_model()
            model.fit(training, self.labels[training], [self.groups[row] for row in training])
            yield test, model

    def gather(self, parts: Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> NDArray[np.float64]:
        """Puts the answers of all folds together.

        Args:
            parts: Places of each fold's test videos and their answers, both (M,).
        Returns:
            (N,).
        """
        whole = np.full(len(self.labels), np.nan)
        for test, answers in parts:
            whole[test] = answers
        return whole


def format_scores(scores: Sequence[AucScore]) -> list[str]:
    """Lines of a table of scores, under a line of headings."""
    width = max(len(score.name) for score in scores)
    lines = [f"{'':{width}}    AUC   95 % interval   without"]
    for score in scores:
        interval = "-" if math.isnan(score.low) else f"{score.low:.3f} .. {score.high:.3f}"
        missing = str(score.num_missing) if score.num_missing else "-"
        lines.append(f"{score.name:{width}}  {score.auc:5.3f}  {interval:>14}  {missing:>8}")
    return lines


def write_finding(data: PreparedData, name: str, content: dict[str, Any]) -> str | None:
    """Writes a finding into the folder of the data; an earlier one of the same kind is replaced.

    Args:
        data: What it is about.
        name: File name, such as `audit.json`.
        content: JSON object; its `kind` tells the program's own files from others.
    Returns:
        The file, or None where the data lies on S3, which is only read.
    Raises:
        DataError: A file of that name is there that this did not write.
    """
    if data.remote:
        return None
    path = Path(data.path) / name
    if path.exists() and (read_json_object(path) or {}).get("kind") != content["kind"]:
        raise DataError(
            f"{path}: there is a file of that name that dfkit did not write; nothing was replaced",
            fix="move it elsewhere and run the command again",
        )
    header = {"schema_version": SCHEMA_VERSION, "created": catalog.now(), "videos_hash": videos_hash(data)}
    write_atomically(path, json.dumps({**header, **content}, indent=2, ensure_ascii=False) + "\n")
    return str(path)


def write_answers(data: PreparedData, name: str, videos: Sequence[int], p_fake: Sequence[float]) -> str | None:
    """Writes out-of-fold answers as a table beside the data: `dfkit evaluate --scores` and `dfkit distill --answers`
    take it.

    Args:
        data: What the videos are of.
        name: Of the baseline.
        videos: Index of each video.
        p_fake: Of each.
    Returns:
        The file, or None where the data lies on S3, which is only read.
    Raises:
        DataError: A file of that name is there that this did not write.
    """
    if data.remote:
        return None
    path = Path(data.path) / f"{Path(BASELINE_FILE).stem}.{name}.csv"
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(ANSWER_COLUMNS)
    for index, p in zip(videos, p_fake, strict=True):
        row = data.videos[index]
        groups = name_to_text(";".join(row.groups))
        table.writerow([name_to_text(row.path), row.label, groups, row.method or "", p])
    _refuse_foreign_table(path)
    write_atomically(path, text.getvalue())
    return str(path)


def _refuse_foreign_table(path: Path) -> None:
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline().rstrip("\n")
        if first != ",".join(ANSWER_COLUMNS):
            raise DataError(
                f"{path}: there is a file of that name that dfkit did not write; nothing was replaced",
                fix="move it elsewhere and run the command again",
            )


def written_line(path: str | None) -> str:
    """Where a finding was written, from what `write_finding` gave."""
    return f"written to {path}" if path else "not written: the data is read from S3"


def format_baseline_comparison(network_auc: float | None, bar: Bar) -> str:
    """Compares a network with its baseline, in words.

    Args:
        network_auc: By video; None or NaN where undefined.
        bar: From `dfkit baseline` on the same videos.
    """
    if network_auc is None or not np.isfinite(network_auc):
        return f"baseline AUC {bar.auc:.3f}; the network's has no value here, so neither is better"
    both = f"AUC {network_auc:.3f} against {bar.auc:.3f} of {BASELINE_WORDS.get(bar.name, bar.name)}"
    if bar.num_baselines > 1:
        both += f", the strongest of {bar.num_baselines} baselines"
    return f"below its baseline: {both}" if network_auc < bar.auc else f"not below its baseline: {both}"


def findings_notes(data: PreparedData, network_auc: float | None, videos: Sequence[int]) -> tuple[str, ...]:
    """What belongs beside a network's metrics on this data: its baseline, and what the audit warned of.

    Args:
        data: Prepared data.
        network_auc: By video; None or NaN where undefined.
        videos: Index of each video that it was measured on; the baseline is measured on the same ones.
    """
    baseline, audited = read_finding(data, BASELINE_FILE), read_finding(data, AUDIT_FILE)
    bar = None if baseline is None else strongest_baseline(baseline, [data.videos[index].key for index in videos])
    compared = () if bar is None else (format_baseline_comparison(network_auc, bar),)
    warned = () if audited is None else tuple(map(str, audited.get("warnings", [])))
    return (*compared, *warned, *stale_findings(data))


@dataclass(frozen=True)
class Bar:
    """The baseline that a network has to beat."""

    name: str
    """A key of `BASELINE_WORDS`."""
    auc: float
    """By video, out of fold, on the videos asked for."""
    num_baselines: int
    """Among how many it is the strongest."""


def strongest_baseline(content: dict[str, Any], keys: Sequence[str]) -> Bar | None:
    """The highest AUC of the baselines that look at pictures and sound; file facts are the audit's to warn of.

    Args:
        content: Of `baseline.json`.
        keys: `VideoRow.key` of each video.
    Returns:
        None where no baseline scored all of these videos, or both classes are not there.
    """
    found = {name: auc_on(entry, keys) for name, entry in baseline_entries(content).items() if name != FACTS}
    known = {name: value for name, value in found.items() if value is not None}
    if not known:
        return None
    name = max(known, key=lambda each: known[each])
    return Bar(name, known[name], len(known))


def baseline_entries(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The baselines of a `baseline.json` by name; one of an earlier version holds the hand-made features alone."""
    entries: dict[str, dict[str, Any]] = content.get("baselines", {"features": content} if "videos" in content else {})
    return entries


def auc_on(entry: dict[str, Any], keys: Sequence[str]) -> float | None:
    """AUC of a baseline's out-of-fold scores on some videos; None where it lacks one, or has no value.

    Args:
        entry: Of `baseline_entries`.
        keys: `VideoRow.key` of each video.
    """
    rows = {row["key"]: row for row in entry.get("videos", ())}
    if not keys or any(key not in rows for key in keys):
        return None
    value = auc(np.array([rows[key]["label"] for key in keys]), np.array([rows[key]["p_fake"] for key in keys]))
    return value if np.isfinite(value) else None


def read_finding(data: PreparedData, name: str) -> dict[str, Any] | None:
    """A finding about exactly these videos; None where there is none, or it was made before they changed.

    Raises:
        DataError: The file is there and is not what its command writes.
    """
    content = None if data.remote else _read_strictly(Path(data.path) / name)
    return content if content is not None and content.get("videos_hash") == videos_hash(data) else None


def stale_findings(data: PreparedData) -> tuple[str, ...]:
    """A line for each finding that was made before the videos changed, and so says nothing about them."""
    lines = []
    for name, command in COMMANDS.items():
        content = None if data.remote else _read_strictly(Path(data.path) / name)
        if content is not None and content.get("videos_hash") != videos_hash(data):
            lines.append(f"{name} is about other videos than these are now: run {command} again")
    return tuple(lines)


def _read_strictly(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _foreign_file(path, str(error)) from error
    if not isinstance(content, dict) or not _has_lists(content) or not isinstance(content.get("baselines", {}), dict):
        raise _foreign_file(path, "not what its command writes")
    return content


def _has_lists(content: dict[str, Any]) -> bool:
    return all(isinstance(content.get(name, []), list) for name in LISTS)


def _foreign_file(path: Path, found: str) -> DataError:
    command = COMMANDS.get(path.name, f"dfkit {path.name.split('.')[0]} --leave-out")
    return DataError(f"{path}: {found}", fix=f"run {command} again, or take the file away")


def left_out_file(kind: Literal["audit", "baseline"], by: str) -> str:
    """Name of the file of a finding under folds that leave out families, such as `audit.left-out-method.json`."""
    return f"{kind}.left-out-{NOT_IN_NAMES.sub('-', column_name(by))}.json"
