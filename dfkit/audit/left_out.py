"""File facts and baselines under folds that leave families of fakes out: what a network stands beside there.

Each fold's model is fitted on the fold's training and validation videos, since it has nothing to stop or to calibrate,
and scores what the fold holds out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dfkit.audit.audit import fact_models, join_facts
from dfkit.audit.audit_facts import collect_facts
from dfkit.audit.baselines import BASELINES, choose_baselines, entry_head, weights_lines
from dfkit.audit.findings import (
    BASELINE_WORDS,
    FACTS,
    FoldModel,
    Predictor,
    baseline_entries,
    left_out_file,
    read_finding,
    write_finding,
    written_line,
)
from dfkit.config import SplitConfig
from dfkit.console import note
from dfkit.data.fold_table import format_folds
from dfkit.data.label_table import column_name
from dfkit.data.leave_out import (
    VAL_SHARE,
    LeaveOutFold,
    folds_hash,
    held_out_scores,
    leave_out_folds,
    left_out_families,
)
from dfkit.data.protocols import left_out_part, protocol_of
from dfkit.data.storage import PreparedData
from dfkit.measures.bootstrap import REPEATS
from dfkit.measures.left_out import HeldOutScore, LeftOutResult, measure_left_out
from dfkit.measures.protocol import Protocol
from dfkit.report.left_out import format_auc, left_out_lines

TITLES = {FACTS: "file facts", "features": "hand-made", "sync": "lip sync", "texture": "texture"}
"""How a baseline is called beside a network, by its name."""


@dataclass(frozen=True)
class LeftOutEntry:
    """What one baseline is worth on families that its models never saw."""

    total: LeftOutResult
    """All facts or features together."""
    single: dict[str, LeftOutResult]
    """Each fact, or family of features, alone."""
    scores: tuple[HeldOutScore, ...]
    """Of all together."""
    protocol: Protocol

    def alone_lines(self) -> list[str]:
        """A line for each fact or family of features alone, the highest first."""
        width = max(map(len, self.single), default=0)
        ranked = sorted(self.single.items(), key=lambda item: -np.nan_to_num(item[1].mean.value))
        lines = [f"  {name:{width}}  {format_auc(each.mean)}; {format_auc(each.seen)}" for name, each in ranked]
        return ["alone, mean over families (unseen; seen):", *lines] if lines else []

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return {
            "protocol": self.protocol.to_json(),
            "together": self.total.to_json(),
            "alone": {name: result.to_json() for name, result in self.single.items()},
            "videos": [score.to_json() for score in self.scores],
        }


@dataclass(frozen=True)
class LeftOutFinding:
    """What file facts are worth on families that their models never saw."""

    data: str
    by: str
    """What was left out."""
    folds: tuple[str, ...]
    """The table of folds, as lines."""
    folds_hash: str
    entry: LeftOutEntry
    seed: int
    path: str | None = None
    """The file written; None for data on S3."""

    @property
    def total(self) -> LeftOutResult:
        """All facts together."""
        return self.entry.total

    @property
    def single(self) -> dict[str, LeftOutResult]:
        """Each fact alone."""
        return self.entry.single

    @property
    def scores(self) -> tuple[HeldOutScore, ...]:
        """Of all facts together."""
        return self.entry.scores

    def summary(self) -> list[str]:
        """The finding as lines of text."""
        return [
            f"{self.data}: file facts under folds that leave out a {self.by}",
            *self.folds,
            self.entry.protocol.text,
            *left_out_lines({TITLES[FACTS]: self.total}),
            *self.entry.alone_lines(),
            written_line(self.path),
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of the file."""
        plain = {name: getattr(self, name) for name in ("data", "by", "folds_hash", "seed")}
        return {"kind": "dfkit audit --leave-out", **plain, **self.entry.to_json()}


@dataclass(frozen=True)
class LeftOutBaselines:
    """What baselines are worth on families that their models never saw."""

    data: str
    by: str
    """What was left out."""
    folds: tuple[str, ...]
    """The table of folds, as lines."""
    folds_hash: str
    entries: dict[str, LeftOutEntry]
    kept: dict[str, dict[str, Any]]
    """Entries of the file that an earlier run measured under the same folds."""
    seed: int
    notes: tuple[str, ...] = ()
    path: str | None = None
    """The file written; None for data on S3."""

    def summary(self) -> list[str]:
        """The baselines side by side, then the parts of each."""
        return [
            f"{self.data}: baselines under folds that leave out a {self.by}",
            *self.folds,
            *left_out_lines({TITLES[name]: entry.total for name, entry in self.entries.items()}),
            *(line for name, entry in self.entries.items() for line in _titled(name, entry.alone_lines())),
            *(f"{TITLES[name]}: {entry.protocol.text}" for name, entry in self.entries.items()),
            *weights_lines(self.entries),
            *([f"measured earlier under the same folds and kept: {', '.join(self.kept)}"] if self.kept else []),
            *(f"note: {note}" for note in self.notes),
            written_line(self.path),
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of the file."""
        plain = {name: getattr(self, name) for name in ("data", "by", "folds_hash", "seed")}
        measured = {name: {**entry_head(name), **entry.to_json()} for name, entry in self.entries.items()}
        return {
            "kind": "dfkit baseline --leave-out",
            **plain,
            "notes": list(self.notes),
            "baselines": {**self.kept, **measured},
        }


def _titled(name: str, lines: Sequence[str]) -> list[str]:
    return [f"{TITLES[name]} {lines[0]}", *lines[1:]] if lines else []


@dataclass(frozen=True)
class _Scorer:
    """Scores columns of numbers under folds."""

    data: PreparedData
    by: str
    """What is left out."""
    folds: Sequence[LeaveOutFold]
    positions: tuple[int, ...]
    """Indices of the videos that the rows of the columns are of."""
    repeats: int
    seed: int

    def scores(self, make_model: Callable[[], FoldModel]) -> tuple[HeldOutScore, ...]:
        """Held-out scores of all folds, by models on features of the videos at `positions`."""
        labels = np.array([self.data.videos[index].label for index in self.positions], np.int64)
        row_of = {index: row for row, index in enumerate(self.positions)}
        scores: list[HeldOutScore] = []
        for number, fold in enumerate(self.folds, start=1):
            training = [*fold.train, *fold.val]
            rows = np.array([row_of[index] for index in training])
            model = make_model()
            model.fit(rows, labels[rows], [self.data.groups[index] for index in training])
            judged = [*fold.test, *fold.seen]
            p_fake = model.p_fake(np.array([row_of[index] for index in judged]))
            scores += held_out_scores(self.data, fold, number, dict(zip(judged, p_fake.tolist(), strict=True)))
        return tuple(scores)

    def measure(self, scores: Sequence[HeldOutScore]) -> LeftOutResult:
        """AUC over families."""
        return measure_left_out(scores, left_out_families(self.folds), repeats=self.repeats, seed=self.seed)

    def entry(self, name: str, total: Predictor, parts: Mapping[str, Predictor]) -> LeftOutEntry:
        """Everything of a baseline together, and each part alone."""
        scores = self.scores(total.make_model)
        single = {name: self.measure(self.scores(part.make_model)) for name, part in parts.items()}
        protocol = protocol_of(
            self.data,
            self.positions,
            part=left_out_part(len(self.folds), self.by, self.seed),
            aggregation=BASELINES[name].rule,
            frames=BASELINES[name].sees_frames,
        )
        return LeftOutEntry(self.measure(scores), single, scores, protocol)

    def facts(self) -> dict[str, Any]:
        """What every finding under these folds says of them."""
        return {
            "data": self.data.path,
            "folds": tuple(format_folds(self.data, self.folds)),
            "folds_hash": folds_hash(self.data, self.folds),
            "seed": self.seed,
        }


def audit_left_out(
    data: PreparedData, by: str, *, seed: int = 0, repeats: int = REPEATS, split: SplitConfig | None = None
) -> LeftOutFinding:
    """`dfkit audit --leave-out`: file facts on families of fakes that their models never saw; writes a file.

    Args:
        data: Labelled.
        by: What is left out, see `leave_out_folds`.
        seed: Of folds, models and intervals.
        repeats: Resamples of the intervals.
        split: Its `val_share` is used; the default where left out.
    Raises:
        DataError: The folds cannot be made, no fact is known, or a foreign file is in the way.
    """
    models, scorer = fact_models(seed), _scorer(data, by, seed, repeats, split)
    facts, _ = collect_facts(data, scorer.positions)
    single = {fact.name: Predictor.of_table(fact.values, models.tree) for fact in facts}
    entry = scorer.entry(FACTS, Predictor.of_table(join_facts(facts), models.forest), single)
    finding = LeftOutFinding(by=column_name(by), entry=entry, **scorer.facts())
    return replace(finding, path=write_finding(data, left_out_file("audit", by), finding.to_json()))


def baseline_left_out(
    data: PreparedData,
    by: str,
    *,
    of: Sequence[str] = (),
    seed: int = 0,
    repeats: int = REPEATS,
    split: SplitConfig | None = None,
) -> LeftOutBaselines:
    """`dfkit baseline --leave-out`: baselines on families of fakes that their models never saw; writes a file.

    Args:
        data: Labelled.
        by: What is left out, see `leave_out_folds`.
        of: Keys of `BASELINES`; all whose packages are installed and which the data suits where left out.
        seed: Of folds, models and intervals.
        repeats: Resamples of the intervals.
        split: Its `val_share` is used; the default where left out.
    Raises:
        MissingExtraError: A package of one that was asked for is not installed.
        DataError: The folds cannot be made, the data does not suit one that was asked for, or a foreign file is in
            the way.
    """
    names, notes = choose_baselines(data, of)
    scorer = _scorer(data, by, seed, repeats, split)
    entries = {}
    for name in names:
        note(f"baseline {name}: {BASELINE_WORDS[name]}")
        material = BASELINES[name].read(data, scorer.positions, seed)
        entries[name] = scorer.entry(name, material.total, material.parts)
        notes += material.notes
    facts = scorer.facts()
    earlier = read_finding(data, left_out_file("baseline", by)) or {}
    same = (earlier.get("folds_hash"), earlier.get("seed")) == (facts["folds_hash"], seed)
    kept = {name: entry for name, entry in baseline_entries(earlier).items() if same and name not in names}
    finding = LeftOutBaselines(by=column_name(by), entries=entries, kept=kept, notes=(data.info.form, *notes), **facts)
    return replace(finding, path=write_finding(data, left_out_file("baseline", by), finding.to_json()))


def _scorer(data: PreparedData, by: str, seed: int, repeats: int, split: SplitConfig | None) -> _Scorer:
    val_share = VAL_SHARE if split is None else split.val_share
    folds = leave_out_folds(data, by, val_share=val_share, seed=seed)
    positions = tuple(sorted({index for fold in folds for part in fold.parts().values() for index in part}))
    return _Scorer(data, column_name(by), folds, positions, repeats, seed)


def read_left_out_scores(data: PreparedData, name: str, by: str, hash_of_folds: str) -> list[HeldOutScore]:
    """Stored scores of a baseline under exactly these folds; empty where there are none.

    Args:
        data: Prepared data.
        name: A key of `TITLES`; file facts are what `dfkit audit` found, or `dfkit baseline`.
        by: What was left out.
        hash_of_folds: From `folds_hash`.
    Raises:
        DataError: A file is there and is not what its command writes.
    """
    kinds: tuple[Literal["audit", "baseline"], ...] = ("audit", "baseline")
    for kind in kinds:
        content = read_finding(data, left_out_file(kind, by))
        if content is None or content.get("folds_hash") != hash_of_folds:
            continue
        entries = {FACTS: content} if kind == "audit" else baseline_entries(content)
        if name in entries:
            return [HeldOutScore.from_json(row) for row in entries[name]["videos"]]
    return []


def left_out_command(data: PreparedData, name: str, config: str) -> str:
    """The command that makes such scores under the folds of a run.

    Args:
        data: Prepared data.
        name: A key of `TITLES`.
        config: The run's configuration, whose folds these are.
    """
    stage = "audit" if name == FACTS else "baseline"
    return f"dfkit {stage} {data.path} --config {config}" + ("" if name == FACTS else f" --of {name}")
