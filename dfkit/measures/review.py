"""The `review` band: the scores around the threshold that a person should look at, chosen on validation data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfkit.measures.spacing import evenly_spaced

TARGET_ERROR = 0.05
"""Wanted share of wrong verdicts among those that the detector gives by itself."""
MAX_REVIEW_SHARE = 0.5
"""A detector that passes more than half of the videos on decides nothing: no band is better."""
MAX_EDGES = 1000
"""Candidates on each side; more are thinned out evenly, since their product is tried."""


@dataclass(frozen=True)
class ReviewBand:
    """A band of `p_fake`, from `low` up to, not including, `high`, and what it does on the data it was chosen on."""

    low: float
    high: float
    num: int
    num_inside: int
    num_errors: int
    """Wrong verdicts outside of the band."""
    target_error: float
    met: bool
    """False: no band of at most half of the videos reaches the target, and both ends are the threshold."""

    @property
    def description(self) -> str:
        """What the band does, such as `review band for 5%: 2 of 12 inside, 0 of 10 verdicts wrong outside`."""
        outside = self.num - self.num_inside
        share = f"{self.num_errors} of {outside} verdicts wrong"
        if not self.met:
            return f"no review band: {share}, and none of at most half of the videos gets to {self.target_error:.0%}"
        if self.num_inside == 0:
            return f"review band empty: {share} without one, target {self.target_error:.0%}"
        return f"review band for {self.target_error:.0%}: {self.num_inside} of {self.num} inside, {share} outside"


def review_band(
    labels: np.ndarray, p_fake: np.ndarray, *, threshold: float, target_error: float = TARGET_ERROR
) -> ReviewBand:
    """The band with the fewest videos inside, outside of which at most `target_error` of the verdicts are wrong.

    Args:
        labels: (N,) 0 or 1, of validation videos.
        p_fake: (N,) in [0, 1].
        threshold: Fake from here on; lies inside of the band or on its edge.
        target_error: Share in [0, 1].
    Returns:
        The band; of equally full ones that with fewer errors, then the narrowest. Both ends at the threshold
        where no band is needed, or none will do.
    """
    truth, scores = np.asarray(labels), np.asarray(p_fake, np.float64)
    lows, highs = _edges(scores, threshold)
    # (L, 1) and (1, H): what a band from a low to a high edge leaves outside.
    below = (scores < lows[:, None]).sum(axis=1)[:, None]
    misses = (scores[truth == 1] < lows[:, None]).sum(axis=1)[:, None]
    above = (scores >= highs[:, None]).sum(axis=1)[None]
    alarms = (scores[truth == 0] >= highs[:, None]).sum(axis=1)[None]
    outside, errors = below + above, misses + alarms
    # 1e-9: 0.05 * 20 is not to fall short of 1.
    few_errors = errors <= target_error * outside + 1e-9
    few_inside = outside >= (1 - MAX_REVIEW_SHARE) * scores.size
    acceptable = few_errors & few_inside
    if not scores.size or not acceptable.any():
        num_wrong = int(((scores >= threshold) != (truth == 1)).sum())
        return ReviewBand(threshold, threshold, scores.size, 0, num_wrong, target_error, met=False)
    widths = highs[None] - lows[:, None]
    rows, columns = np.nonzero(acceptable)
    # lexsort's last key counts first: most videos outside, then fewest errors, then the narrowest.
    best = np.lexsort((widths[rows, columns], errors[rows, columns], -outside[rows, columns]))[0]
    row, column = rows[best], columns[best]
    num_inside = scores.size - int(outside[row, column])
    low, high = float(lows[row]), float(highs[column])
    return ReviewBand(low, high, scores.size, num_inside, int(errors[row, column]), target_error, met=True)


def _edges(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Candidates for both ends: the threshold, 0 and 1, and the middles between neighbouring scores."""
    unique = np.unique(scores)
    middles = (unique[1:] + unique[:-1]) / 2
    lows = np.concatenate([[threshold, 0.0], middles[middles < threshold]])
    highs = np.concatenate([[threshold, 1.0], middles[middles > threshold]])
    return _thinned(lows), _thinned(highs)


def _thinned(edges: np.ndarray) -> np.ndarray:
    if len(edges) <= MAX_EDGES:
        return edges
    return edges[evenly_spaced(len(edges), MAX_EDGES)]
