"""`dfkit audit`: how well facts of the files, which no detector should need, tell fake from real."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dfkit.audit.audit_facts import Fact, collect_facts
from dfkit.audit.findings import (
    AUDIT_FILE,
    WARN_AUC,
    AucScore,
    FoldedVideos,
    format_scores,
    write_finding,
    written_line,
)
from dfkit.config import SplitConfig
from dfkit.data.storage import PreparedData
from dfkit.errors import MissingExtraError
from dfkit.measures.bootstrap import REPEATS
from dfkit.measures.protocol import Protocol

KIND = "dfkit audit"
ALL_FACTS = "all facts together"
FACTS_RULE = "facts of the file and size of its faces"
"""What a video is judged by, in its protocol."""
"""Name of the score of the forest."""
TREE_DEPTH = 3
"""Eight leaves: enough for a threshold, a band, or three frame rates."""
NUM_TREES = 300


@dataclass(frozen=True)
class AuditResult:
    """How well facts of the files tell fake from real."""

    data: str
    facts: tuple[AucScore, ...]
    """By a tree on each fact alone, the highest AUC first."""
    together: AucScore
    """By a forest on all facts."""
    skipped: dict[str, str]
    """Facts that were not used, with the reason."""
    groups_known: bool
    num_groups: int
    num_real: int
    num_fake: int
    folds: int
    seed: int
    protocol: Protocol
    path: str | None = None
    """The file written; None for data on S3."""
    form: str = ""
    """Whether the videos are raw or equalised, in words."""

    @property
    def warnings(self) -> list[str]:
        """One line for each fact, and for all together, above the limit."""
        telling = [score for score in (*self.facts, self.together) if score.auc > WARN_AUC]
        return [f"{_subject(score.name)} real from fake with AUC {_format_auc(score)}" for score in telling]

    @property
    def notes(self) -> list[str]:
        """Limits of the audit itself."""
        return [self.form, *([] if self.groups_known else ["groups unknown: persons may leak"])]

    def summary(self) -> list[str]:
        """The audit as lines of text."""
        lines = [
            f"{self.data}: {self.num_real} real and {self.num_fake} fake videos, {self.num_groups} groups, "
            f"{self.folds} grouped folds",
            self.protocol.text,
            *format_scores([*self.facts, self.together]),
            *(f"not looked at ({reason}): {', '.join(names)}" for reason, names in self._skipped_by_reason().items()),
            *(f"note: {note}" for note in self.notes),
            *(f"WARNING: {warning}" for warning in self.warnings),
        ]
        if not self.warnings:
            lines.append(f"no fact tells the classes apart with an AUC above {WARN_AUC}")
        return [*lines, written_line(self.path)]

    def _skipped_by_reason(self) -> dict[str, list[str]]:
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        return by_reason

    def to_json(self) -> dict[str, Any]:
        """Content of `audit.json`."""
        plain = ("data", "skipped", "groups_known", "num_groups", "num_real", "num_fake", "folds", "seed")
        return {
            "kind": KIND,
            **{name: getattr(self, name) for name in plain},
            "protocol": self.protocol.to_json(),
            "limit": WARN_AUC,
            "facts": [score.to_json() for score in self.facts],
            "together": self.together.to_json(),
            "warnings": self.warnings,
            "notes": self.notes,
        }


def audit(
    data: PreparedData, *, folds: int = 5, seed: int = 0, repeats: int = REPEATS, split: SplitConfig | None = None
) -> AuditResult:
    """Predicts the label from each fact alone, and from all, under grouped folds; writes `audit.json`.

    A shallow tree per fact and a forest for all, both with balanced classes, so that a fold's share of fakes is
    no score. A video that lacks a fact is kept: to the tree that is a value, too.

    Args:
        data: Labelled.
        folds: Grouped folds; each video is scored by models that saw nothing of its group.
        seed: Of folds, forest and bootstrap.
        repeats: Resamples of the intervals.
        split: Of the experiment; see `FoldedVideos.from_data`.
    Returns:
        The facts' AUC by video.
    Raises:
        DataError: A class is missing, groups are too few, no fact is known, or a foreign audit.json is there.
    """
    models = fact_models(seed)
    videos = FoldedVideos.from_data(data, folds=folds, seed=seed, repeats=repeats, split=split)
    facts, skipped = collect_facts(data, videos.positions)
    scores = [videos.score(fact.name, fact.values, models.tree) for fact in facts]
    together = videos.score(ALL_FACTS, join_facts(facts), models.forest)
    result = AuditResult(
        data=data.path,
        facts=tuple(sorted(scores, key=lambda score: -score.auc)),
        together=together,
        skipped=skipped,
        groups_known=data.groups_known,
        num_groups=len(set(videos.groups)),
        num_real=int((videos.labels == 0).sum()),
        num_fake=int((videos.labels == 1).sum()),
        folds=len(videos.test_parts),
        seed=seed,
        form=data.info.form,
        protocol=videos.protocol(data, FACTS_RULE, frames=False),
    )
    path = write_finding(data, AUDIT_FILE, result.to_json())
    return replace(result, path=path)


@dataclass(frozen=True)
class FactModels:
    """Makers of unfitted scikit-learn classifiers."""

    tree: Callable[[], Any]
    """For one fact."""
    forest: Callable[[], Any]
    """For all of them."""


def fact_models(seed: int) -> FactModels:
    """The models that file facts are judged by, with balanced classes.

    Args:
        seed: Of both.
    Raises:
        MissingExtraError: There is no scikit-learn.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    options = {"class_weight": "balanced", "random_state": seed}
    return FactModels(
        tree=lambda: DecisionTreeClassifier(max_depth=TREE_DEPTH, min_samples_leaf=2, **options),
        forest=lambda: RandomForestClassifier(NUM_TREES, min_samples_leaf=2, n_jobs=1, **options),
    )


def join_facts(facts: Sequence[Fact]) -> np.ndarray:
    """(N, K) the columns of all facts beside each other."""
    return np.concatenate([fact.values for fact in facts], axis=1)


def _subject(name: str) -> str:
    return f"{name} tell" if name == ALL_FACTS else f"{name} alone tells"


def _format_auc(score: AucScore) -> str:
    if math.isnan(score.low):
        return f"{score.auc:.2f}"
    return f"{score.auc:.2f} [{score.low:.2f}, {score.high:.2f}]"
