"""`dfkit audit`: how well facts of the files, which no detector should need, tell fake from real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dfkit.benchmarks.bootstrap import REPEATS
from dfkit.data.audit_facts import Fact, collect_facts
from dfkit.data.findings import AUDIT_FILE, WARN_AUC, FoldedVideos, Score, score_lines, write_finding
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError, MissingExtraError

KIND = "dfkit audit"
TOGETHER = "all facts together"
TREE_DEPTH = 3
"""Eight steps: enough for any of a threshold, a band, and three frame rates."""
NUM_TREES = 300


@dataclass(frozen=True)
class AuditResult:
    """What the facts give away, strongest first."""

    data: str
    facts: tuple[Score, ...]
    together: Score
    skipped: dict[str, str]
    """Facts that were not looked at, with the reason."""
    groups_known: bool
    num_groups: int
    num_real: int
    num_fake: int
    folds: int
    seed: int
    path: str | None = None
    """The file written; None for data on S3."""

    @property
    def warnings(self) -> list[str]:
        """One line for each fact, and for all together, above the limit."""
        loud = [score for score in (*self.facts, self.together) if score.auc > WARN_AUC]
        return [f"{_subject(score.name)} real from fake with AUC {_with_interval(score)}" for score in loud]

    @property
    def notes(self) -> list[str]:
        """What to bear in mind, and is no finding."""
        return [] if self.groups_known else ["groups unknown: persons may leak"]

    def summary(self) -> list[str]:
        """Lines for people."""
        lines = [
            f"{self.data}: {self.num_real} real and {self.num_fake} fake videos, {self.num_groups} groups, "
            f"{self.folds} grouped folds",
            *score_lines([*self.facts, self.together]),
            *(f"not looked at ({reason}): {', '.join(names)}" for reason, names in self._skipped_by_reason().items()),
            *(f"note: {note}" for note in self.notes),
            *(f"WARNING: {warning}" for warning in self.warnings),
        ]
        if not self.warnings:
            lines.append(f"no fact tells the classes apart with an AUC above {WARN_AUC}")
        return [*lines, f"written to {self.path}" if self.path else "not written: the data is read from S3"]

    def _skipped_by_reason(self) -> dict[str, list[str]]:
        reasons = dict.fromkeys(self.skipped.values())
        return {reason: [name for name, own in self.skipped.items() if own == reason] for reason in reasons}

    def to_json(self) -> dict[str, Any]:
        """Content of `audit.json`."""
        plain = ("data", "skipped", "groups_known", "num_groups", "num_real", "num_fake", "folds", "seed")
        return {
            "kind": KIND,
            **{name: getattr(self, name) for name in plain},
            "limit": WARN_AUC,
            "facts": [score.to_json() for score in self.facts],
            "together": self.together.to_json(),
            "warnings": self.warnings,
            "notes": self.notes,
        }


def audit(data: PreparedData, *, folds: int = 5, seed: int = 0, repeats: int = REPEATS) -> AuditResult:
    """Predicts the label from each fact alone, and from all, under grouped folds; writes `audit.json`.

    A shallow tree per fact and a forest for all, both with balanced classes, so that a fold's share of fakes is
    no score. A video that lacks a fact is kept: that is a value of its own to the tree.

    Args:
        data: Labelled.
        folds: Grouped folds; each video is scored by models that saw nothing of its group.
        seed: Of folds, forest and bootstrap.
        repeats: Resamples of the intervals.
    Returns:
        The facts' AUC by video.
    Raises:
        DataError: A class is missing, groups are too few, no fact is known, or a foreign audit.json is there.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    videos = FoldedVideos.of(data, folds=folds, seed=seed, repeats=repeats)
    facts, skipped = collect_facts(data, videos.positions)
    if not facts:
        raise DataError(f"{data.path}: not one fact of its files is known", fix="dfkit prepare the videos again")
    options = {"class_weight": "balanced", "random_state": seed}
    scores = [
        videos.score(
            fact.name,
            fact.values,
            lambda: DecisionTreeClassifier(max_depth=TREE_DEPTH, min_samples_leaf=2, **options),
        )
        for fact in facts
    ]
    together = videos.score(
        TOGETHER,
        _joined(facts),
        lambda: RandomForestClassifier(NUM_TREES, min_samples_leaf=2, n_jobs=1, **options),
    )
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
    )
    path = write_finding(data, AUDIT_FILE, result.to_json())
    return AuditResult(**{**vars(result), "path": path})


def _joined(facts: list[Fact]) -> np.ndarray:
    return np.concatenate([fact.values for fact in facts], axis=1)


def _subject(name: str) -> str:
    return f"{name} tell" if name == TOGETHER else f"{name} alone tells"


def _with_interval(score: Score) -> str:
    return f"{score.auc:.2f}" if score.low != score.low else f"{score.auc:.2f} [{score.low:.2f}, {score.high:.2f}]"
