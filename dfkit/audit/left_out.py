"""File facts and hand-made features under folds that leave families of fakes out: what a network stands beside there.

Each fold's model is fitted on the fold's training and validation videos, since it has nothing to stop or to calibrate,
and scores what the fold holds out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfkit.audit.audit import fact_models, join_facts
from dfkit.audit.audit_facts import collect_facts
from dfkit.audit.findings import left_out_file, read_finding, write_finding
from dfkit.audit.forest import feature_forest, video_features
from dfkit.config import SplitConfig
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
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.measures.bootstrap import REPEATS
from dfkit.measures.left_out import HeldOutScore, LeftOutResult, measure_left_out
from dfkit.report.left_out import format_auc, left_out_lines

FindingKind = Literal["audit", "baseline"]
TITLES: dict[FindingKind, str] = {"audit": "file facts", "baseline": "hand-made"}
"""How a finding is called beside a network."""


@dataclass(frozen=True)
class LeftOutFinding:
    """What file facts, or hand-made features, are worth on families that their models never saw."""

    kind: FindingKind
    data: str
    by: str
    """What was left out."""
    folds: tuple[str, ...]
    """The table of folds, as lines."""
    folds_hash: str
    total: LeftOutResult
    """All facts or features together."""
    single: dict[str, LeftOutResult]
    """Each fact, or family of features, alone."""
    scores: tuple[HeldOutScore, ...]
    """Of all together."""
    seed: int
    path: str | None = None
    """The file written; None for data on S3."""

    def summary(self) -> list[str]:
        """The finding as lines of text."""
        width = max(map(len, self.single), default=0)
        title = "file facts" if self.kind == "audit" else "hand-made features"
        ranked = sorted(self.single.items(), key=lambda item: -np.nan_to_num(item[1].mean.value))
        return [
            f"{self.data}: {title} under folds that leave out a {self.by}",
            *self.folds,
            *left_out_lines({TITLES[self.kind]: self.total}),
            "alone, mean over families (unseen; seen):",
            *(f"  {name:{width}}  {format_auc(each.mean)}; {format_auc(each.seen)}" for name, each in ranked),
            f"written to {self.path}" if self.path else "not written: the data is read from S3",
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of the file."""
        return {
            "kind": f"dfkit {self.kind} --leave-out",
            "data": self.data,
            "by": self.by,
            "folds_hash": self.folds_hash,
            "seed": self.seed,
            "together": self.total.to_json(),
            "alone": {name: result.to_json() for name, result in self.single.items()},
            "videos": [score.to_json() for score in self.scores],
        }


@dataclass(frozen=True)
class _Scorer:
    """Scores columns of numbers under folds."""

    data: PreparedData
    folds: Sequence[LeaveOutFold]
    positions: tuple[int, ...]
    """Indices of the videos that the rows of the columns are of."""
    repeats: int
    seed: int

    def scores(self, values: NDArray[np.float64], make_model: Callable[[], Any]) -> tuple[HeldOutScore, ...]:
        """Held-out scores of all folds.

        Args:
            values: (N, K) one row per position; NaN where a value is missing.
            make_model: Gives an unfitted scikit-learn classifier that takes NaN.
        """
        labels = np.array([self.data.videos[index].label for index in self.positions])
        row_of = {index: row for row, index in enumerate(self.positions)}
        scores: list[HeldOutScore] = []
        for number, fold in enumerate(self.folds, start=1):
            training = [row_of[index] for index in (*fold.train, *fold.val)]
            model = make_model().fit(values[training], labels[training])
            judged = [*fold.test, *fold.seen]
            p_fake = model.predict_proba(values[[row_of[index] for index in judged]])[:, 1]
            scores += held_out_scores(self.data, fold, number, dict(zip(judged, p_fake, strict=True)))
        return tuple(scores)

    def measure(self, scores: Sequence[HeldOutScore]) -> LeftOutResult:
        return measure_left_out(scores, left_out_families(self.folds), repeats=self.repeats, seed=self.seed)


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
    if not facts:
        raise DataError(f"{data.path}: not one fact of its files is known", fix="dfkit prepare the videos again")
    single = {fact.name: scorer.measure(scorer.scores(fact.values, models.tree)) for fact in facts}
    return _finish("audit", by, scorer, single, scorer.scores(join_facts(facts), models.forest))


def baseline_left_out(
    data: PreparedData, by: str, *, seed: int = 0, repeats: int = REPEATS, split: SplitConfig | None = None
) -> LeftOutFinding:
    """`dfkit baseline --leave-out`: hand-made features likewise; arguments and errors as of `audit_left_out`."""
    forest, scorer = feature_forest(seed), _scorer(data, by, seed, repeats, split)
    _, columns = video_features(data, scorer.positions)
    single = {name: scorer.measure(scorer.scores(values, forest)) for name, values in columns.items()}
    return _finish(
        "baseline", by, scorer, single, scorer.scores(np.concatenate(list(columns.values()), axis=1), forest)
    )


def _scorer(data: PreparedData, by: str, seed: int, repeats: int, split: SplitConfig | None) -> _Scorer:
    val_share = VAL_SHARE if split is None else split.val_share
    folds = leave_out_folds(data, by, val_share=val_share, seed=seed)
    positions = tuple(sorted({index for fold in folds for part in fold.parts().values() for index in part}))
    return _Scorer(data, folds, positions, repeats, seed)


def _finish(
    kind: FindingKind,
    by: str,
    scorer: _Scorer,
    single: Mapping[str, LeftOutResult],
    scores: tuple[HeldOutScore, ...],
) -> LeftOutFinding:
    finding = LeftOutFinding(
        kind=kind,
        data=scorer.data.path,
        by=column_name(by),
        folds=tuple(format_folds(scorer.data, scorer.folds)),
        folds_hash=folds_hash(scorer.data, scorer.folds),
        total=scorer.measure(scores),
        single=dict(single),
        scores=scores,
        seed=scorer.seed,
    )
    return replace(finding, path=write_finding(scorer.data, left_out_file(kind, by), finding.to_json()))


def read_left_out_scores(data: PreparedData, kind: FindingKind, by: str, hash_of_folds: str) -> list[HeldOutScore]:
    """Stored scores of file facts or hand-made features under exactly these folds; empty where there are none.

    Args:
        data: Prepared data.
        kind: Which of the two.
        by: What was left out.
        hash_of_folds: From `folds_hash`.
    Raises:
        DataError: The file is there and is not what its command writes.
    """
    content = read_finding(data, left_out_file(kind, by))
    if content is None or content.get("folds_hash") != hash_of_folds:
        return []
    return [HeldOutScore.from_json(row) for row in content["videos"]]


def left_out_command(data: PreparedData, kind: FindingKind, config: str) -> str:
    """The command that makes such a file under the folds of a run.

    Args:
        data: Prepared data.
        kind: Which of the two.
        config: The run's configuration, whose folds these are.
    """
    return f"dfkit {kind} {data.path} --config {config}"
