"""How far a clip's features lie from those of the real training videos, and the farthest at which a score means much.

Real faces differ along few directions of a CNN's features: light, skin, how near the camera is. For each kind of
picture those directions are stored with how far real videos go along them, and how far they lie off them. A clip's
distance is the root mean square of its deviations in these units, of the kind that is farther off; noise, a plain wall
and a drawing lie off the directions by far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, PositiveFloat

NUM_AXES = 6
"""Directions along which real faces differ; of four a picture of objects lay among real ones
(docs/experiments.md, "Far features")."""
QUANTILE = 1.6449
"""Of the standard normal distribution: 95 % of real videos like those of training lie within the limit."""
MIN_GROUPS = 8
"""Persons among the real training videos; of fewer no limit is set."""
SMALLEST_DISTANCE = 0.1
"""Nearer videos count as so far, before the logarithm is taken."""
SMALLEST_SCALE = 1e-3
"""Of the mean's length: real videos that do not differ at all would make any other one infinitely far."""
SMALLEST_LIMIT = 1.0
"""As far as the clips that the spread was fitted on are off, root mean square."""
MEAN_DIGITS, DIGITS, THOUSANDTHS = 5, 3, 1000
"""Significant digits of the means (of the largest one) and of scales and limit; parts of an axis' length."""


class FeatureSpread(BaseModel, frozen=True, extra="forbid"):
    """Where clips of real training videos lie. C features, K axes."""

    mean: tuple[FiniteFloat, ...]
    """(C,) of the clips' mean features."""
    axes: tuple[tuple[int, ...], ...]
    """(K, C) directions of length 1, at right angles, along which clips differ most; in thousandths."""
    scales: tuple[PositiveFloat, ...]
    """(K + 1,) root mean square of the clips along each axis, and last of their distance from all axes."""

    @classmethod
    def of(cls, clips: np.ndarray) -> FeatureSpread:
        """From examples.

        Args:
            clips: (N, C) mean features of clips; more than `NUM_AXES`.
        """
        clips = np.asarray(clips, np.float64)
        mean = _rounded(clips.mean(axis=0))
        centred = clips - mean
        directions = np.linalg.svd(centred, full_matrices=False)[2][:NUM_AXES]
        axes = np.rint(directions * THOUSANDTHS).astype(int)
        along = centred @ axes.T / THOUSANDTHS
        off = np.linalg.norm(centred - along @ axes / THOUSANDTHS, axis=1)
        scales = np.sqrt(np.mean(np.column_stack([along, off]) ** 2, axis=0))
        smallest = max(SMALLEST_SCALE * float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny))
        return cls(
            mean=tuple(mean.tolist()),
            axes=tuple(tuple(axis) for axis in axes.tolist()),
            scales=tuple(float(f"{max(scale, smallest):.{DIGITS}g}") for scale in scales),
        )

    def distance(self, features: np.ndarray) -> float:
        """Root mean square of a clip's deviations, in units of the real clips'.

        Args:
            features: (T, C) of its pictures.
        """
        deviation = np.asarray(features, np.float64).mean(axis=0) - np.array(self.mean)
        axes = np.array(self.axes) / THOUSANDTHS
        along = axes @ deviation
        off = float(np.linalg.norm(deviation - along @ axes))
        return float(np.sqrt(np.mean((np.array([*along, off]) / np.array(self.scales)) ** 2)))


class Familiarity(BaseModel, frozen=True, extra="forbid"):
    """What real training videos look like to the model's picture networks."""

    spreads: dict[str, FeatureSpread] = {}
    """By output of `encode`: `face_features`, `lip_features`. Empty where nothing is judged."""
    max_distance: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """A video whose median clip lies farther away is `review`; none where nothing is judged."""
    fitted_on: str = ""
    """Which videos, or why nothing is judged."""
    differences: dict[str, float] = {}
    """By runtime, where there are others than the first: the largest change of a training video's distance."""

    def distance(self, features: Mapping[str, np.ndarray]) -> float | None:
        """Of a clip: that of the kind of picture that is farthest off; None where nothing is judged.

        Args:
            features: Outputs of `encode` for its pictures, (T, C) by name.
        """
        if self.max_distance is None:
            return None
        # np.max keeps a NaN, which is no familiar clip.
        return float(np.max([spread.distance(features[name]) for name, spread in self.spreads.items()]))


Clip = Mapping[str, np.ndarray]
"""Features of a clip's pictures, (T, C), by output of `encode`."""


def fit_familiarity(
    videos: Sequence[Sequence[Clip]], groups: Sequence[str], held_out: Sequence[Sequence[Clip]]
) -> Familiarity:
    """Fits the spread on real training videos, and the limit on real videos that had no part in it.

    Args:
        videos: Clips of each real training video, at least one.
        groups: Of each video; one that is left out for the limit is left out with its whole group.
        held_out: Clips of each real validation video.
    Returns:
        What is stored; of fewer than `MIN_GROUPS` groups only that.
    """
    names = sorted(set(groups))
    counts = f"{len(videos)} real training videos of {len(names)} groups"
    if len(names) < MIN_GROUPS:
        return Familiarity(fitted_on=f"not fitted: {counts}, at least {MIN_GROUPS} groups are needed")
    distances = [video_distance(fit_spreads(videos), video) for video in held_out]
    for name in names:
        rest = fit_spreads([video for video, group in zip(videos, groups, strict=True) if group != name])
        distances += [video_distance(rest, video) for video, group in zip(videos, groups, strict=True) if group == name]
    limit, num_far = limit_of(distances, len(names))
    fitted_on = (
        f"{counts}; limit for 95 % of {len(distances)} held out ({len(videos)} left out with their groups, "
        f"{len(held_out)} real validation videos), of which {num_far} lie beyond"
    )
    return Familiarity(spreads=fit_spreads(videos), max_distance=limit, fitted_on=fitted_on)


def limit_of(distances: Sequence[float], num_groups: int) -> tuple[float, int]:
    """The limit, and how many of the videos lie beyond it.

    Their logarithms are taken as normal: of 20 videos the largest one alone, which may be odd, would decide. Of few
    persons mean and spread are uncertain themselves, so that the limit for one more lies farther out.

    Args:
        distances: Of real videos that had no part in the fit, at least two.
        num_groups: Persons that they are of; videos of one person are alike.
    """
    logs = np.log(np.maximum(distances, SMALLEST_DISTANCE))
    reach = student_quantile(num_groups - 1) * math.sqrt(1 + 1 / num_groups)
    limit = max(math.exp(logs.mean() + reach * logs.std(ddof=1)), SMALLEST_LIMIT)
    limit = float(f"{limit:.{DIGITS}g}")
    return limit, sum(distance > limit for distance in distances)


def student_quantile(degrees: int) -> float:
    """95 % quantile of Student's t distribution, to three digits from five degrees of freedom on.

    Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 26.7.5.
    """
    z = QUANTILE
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def fit_spreads(videos: Sequence[Sequence[Clip]]) -> dict[str, FeatureSpread]:
    """The spread of each output over all clips of the videos."""
    clips = [clip for video in videos for clip in video]
    return {name: FeatureSpread.of(np.stack([clip[name].mean(axis=0) for clip in clips])) for name in clips[0]}


def video_distance(spreads: Mapping[str, FeatureSpread], clips: Sequence[Clip]) -> float:
    """Median of the clips' distances."""
    return float(
        np.median([np.max([spread.distance(clip[name]) for name, spread in spreads.items()]) for clip in clips])
    )


def _rounded(values: np.ndarray) -> np.ndarray:
    """To `MEAN_DIGITS` significant digits of the largest value, so that the manifest stays small."""
    largest = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))
    return np.round(values, MEAN_DIGITS - math.ceil(math.log10(largest)))
