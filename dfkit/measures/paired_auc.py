"""AUC over pairs of a fake and a real video that one model scored, of many weighted resamples at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class _FoldPairs:
    """Answers of one fold, by rising score. M of them."""

    rows: np.ndarray
    """(M,) their places among all answers."""
    is_fake: np.ndarray
    """(M,) bool."""
    starts: np.ndarray
    """Places in `rows` where a new score begins."""

    @classmethod
    def of(cls, rows: np.ndarray, labels: np.ndarray, p_fake: np.ndarray) -> _FoldPairs:
        ordered = rows[np.argsort(p_fake[rows], kind="stable")]
        scores = p_fake[ordered]
        starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
        return cls(ordered, labels[ordered] == 1, starts)

    def count(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted pairs in the right order (ties count half), and all pairs, of each row of (D, N) weights."""
        own = weights[:, self.rows]
        fakes = np.add.reduceat(own * self.is_fake, self.starts, axis=1)
        reals = np.add.reduceat(own * ~self.is_fake, self.starts, axis=1)
        below = np.cumsum(reals, axis=1) - reals
        return (fakes * (below + reals / 2)).sum(axis=1), fakes.sum(axis=1) * reals.sum(axis=1)


class PairedAuc:
    """Share of the pairs of a fake and a real video of one fold that are in the right order, ties counting half.

    Scores of two models share no scale, so videos of two folds are never compared.
    Source: Mann and Whitney 1947, summed over folds.
    """

    def __init__(self, labels: np.ndarray, p_fake: np.ndarray, folds: np.ndarray, rows: np.ndarray) -> None:
        """Sorts the answers once.

        Args:
            labels: (N,) 0 or 1.
            p_fake: (N,) finite; only the order within a fold matters.
            folds: (N,) number of the model that scored each.
            rows: Places of the answers that take part.
        """
        self._folds = [_FoldPairs.of(rows[folds[rows] == fold], labels, p_fake) for fold in np.unique(folds[rows])]

    def values(self, weights: np.ndarray) -> np.ndarray:
        """AUC of each of D resamples.

        Args:
            weights: (D, N) how often each answer was drawn.
        Returns:
            (D,) in [0, 1]; NaN where no fold has both classes.
        """
        right, total = np.zeros(len(weights)), np.zeros(len(weights))
        for fold in self._folds:
            in_order, pairs = fold.count(weights)
            right, total = right + in_order, total + pairs
        return np.divide(right, total, out=np.full(len(weights), np.nan), where=total > 0)

    def value(self, num_answers: int) -> float:
        """AUC of all N answers, each counted once."""
        return float(self.values(np.ones((1, num_answers)))[0])


def auc_within_folds(labels: np.ndarray, p_fake: np.ndarray, folds: np.ndarray) -> float:
    """`PairedAuc` of all answers.

    Args:
        labels: (N,) 0 or 1.
        p_fake: (N,); only the order within a fold matters.
        folds: (N,) number of the model that scored each.
    Returns:
        In [0, 1]; NaN where no fold has both classes.
    """
    return PairedAuc(labels, p_fake, folds, np.arange(len(labels))).value(len(labels))
