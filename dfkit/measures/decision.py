"""From the logits of a video's clips to its verdict: clip -> track -> video, once for everything that decides.

The margin of a clip is its logit of fake less its logit of real. A track's margin is its clips' margins put together
by a named aggregation; a video is as suspicious as its most suspicious track, since one swapped face among four makes
it a fake. `p_fake` is 1 / (1 + exp(-margin / calibration_temperature)) throughout.

Training, evaluation, export, benchmarks and the runtime call these functions; `tests/golden/decision/decision.json`
holds inputs and answers for implementations in other languages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, PositiveInt

from dfkit.measures import metrics
from dfkit.measures.bootstrap import MIN_VALID_SHARE, rows_by_group
from dfkit.measures.evidence import Evidence, thin_evidence
from dfkit.measures.review import MAX_REVIEW_SHARE, TARGET_ERROR, ReviewBand, review_band

VerdictName = Literal["real", "fake", "review"]
MIN_VIDEOS_PER_CLASS = 10
"""Below this many validation videos of each class a fitted temperature or threshold is noise."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MIN_REVIEW_HALF_WIDTH = 0.05
"""The review band reaches at least so far to either side of the threshold, in p_fake, unless more than half of the
validation videos would lie inside."""
SMALL_SUM = 1e-8
"""Below it log(exp(sum) - 1) is log(sum) in a double, and softplus(margin) is exp(margin)."""
MIN_PARTLY_FAKE = 5
"""Below this many validation videos that are fake in part the mean is taken: a single one would decide."""
MIN_AUC_GAIN = 0.02
"""What another aggregation has to gain over the mean on validation videos before it is taken."""
INTERVAL_REPEATS = 200
"""Resamples of the validation groups behind the intervals of temperature and threshold."""


class Aggregation(BaseModel, frozen=True, extra="forbid"):
    """How the margins of a track's clips become the track's."""

    name: Literal["mean", "top_k", "noisy_or"] = "mean"
    """`mean` of all clips; `top_k`: mean of the k largest, of all where there are fewer; `noisy_or`: the logit of
    1 - product of (1 - p) over the clips, which rises with their number."""
    k: PositiveInt = 1
    """Of `top_k`; the others have no use for it."""
    chosen_on: str = "not chosen: the mean"
    """Which videos it was chosen on, and why."""

    @property
    def text(self) -> str:
        """Its name for people, such as `mean of the 3 most suspicious clips`."""
        if self.name == "top_k":
            return "most suspicious clip" if self.k == 1 else f"mean of the {self.k} most suspicious clips"
        return {"mean": "mean of all clips", "noisy_or": "noisy-or of all clips"}[self.name]


CANDIDATES = (
    Aggregation(name="mean"),
    Aggregation(name="top_k", k=3),
    Aggregation(name="top_k", k=1),
    Aggregation(name="noisy_or"),
)
"""Aggregations that are tried; of equally good ones the first is taken."""


class Calibration(BaseModel, frozen=True, extra="forbid"):
    """From margins to `p_fake`: the margin is divided by the temperature."""

    calibration_temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Unitless."""
    fitted_on: str = "not fitted"
    """Which data it was fitted on."""
    interval: tuple[FiniteFloat, FiniteFloat] | None = None
    """95 % interval over resampled validation groups; none where it was not fitted."""


class OperatingPoint(BaseModel, frozen=True, extra="forbid"):
    """Where `p_fake` becomes a verdict."""

    threshold: float = Field(ge=0, le=1)
    """Fake from here on."""
    review_low: float = Field(ge=0, le=1)
    """`review` from here ..."""
    review_high: float = Field(ge=0, le=1)
    """... to here, not included; both equal to the threshold where there is no band."""
    name: str
    """Operating point and the data it was chosen on, such as `EER on 12 real and 12 fake validation videos`, and what
    the review band did there."""
    interval: tuple[FiniteFloat, FiniteFloat] | None = None
    """95 % interval of the threshold over resampled validation groups, the temperature fitted anew to each; none where
    it was not fitted."""


@dataclass(frozen=True)
class OperatingTarget:
    """What a threshold is chosen for."""

    point: Literal["eer", "youden", "max_fpr"] = "eer"
    """Equal errors, largest TPR - FPR, or most fakes found with no more than `max_fpr` false alarms."""
    max_fpr: float = 0.05
    """Of `max_fpr`, in [0, 1]."""
    review_error: float = TARGET_ERROR
    """Wanted share of wrong verdicts outside of the review band."""

    @property
    def text(self) -> str:
        """Its name, such as `EER` or `FPR 0.05`."""
        return {"eer": "EER", "youden": "Youden", "max_fpr": f"FPR {self.max_fpr:.3g}"}[self.point]


@dataclass(frozen=True)
class Decision:
    """How the logits of a video's clips become its verdict."""

    calibration: Calibration = field(default_factory=Calibration)
    operating_point: OperatingPoint = field(default_factory=lambda: unfitted_point("not fitted"))
    aggregation: Aggregation = field(default_factory=Aggregation)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Decision | None:
        """The decision that a checkpoint carries; None where it carries none.

        Raises:
            pydantic.ValidationError: It carries something else under these names.
        """
        if "calibration" not in facts or "operating_point" not in facts:
            return None
        return cls(
            Calibration.model_validate(facts["calibration"]),
            OperatingPoint.model_validate(facts["operating_point"]),
            Aggregation.model_validate(facts.get("aggregation", {})),
        )

    def to_facts(self) -> dict[str, Any]:
        """What a checkpoint carries of it: plain values."""
        return {
            "calibration": self.calibration.model_dump(),
            "operating_point": self.operating_point.model_dump(),
            "aggregation": self.aggregation.model_dump(),
        }

    @classmethod
    def muted_from_facts(cls, facts: Mapping[str, Any]) -> Decision | None:
        """The decision for videos without sound that a checkpoint carries; None where it was not trained for them."""
        return cls.from_facts(facts.get("muted", {}))

    @property
    def text(self) -> str:
        """Threshold and temperature with their intervals, and the aggregation, for people."""
        return (
            f"threshold {self.threshold:.3f}{interval_text(self.operating_point.interval)}, temperature "
            f"{self.temperature:.3f}{interval_text(self.calibration.interval)}, {self.aggregation.text}"
        )

    @property
    def temperature(self) -> float:
        """Divides margins."""
        return self.calibration.calibration_temperature

    @property
    def threshold(self) -> float:
        """On p_fake; fake from here on."""
        return self.operating_point.threshold

    @property
    def threshold_margin(self) -> float:
        """The margin at which p_fake is the threshold; infinite at 0 and 1."""
        if self.threshold <= 0:
            return -math.inf
        return math.inf if self.threshold >= 1 else self.temperature * math.log(self.threshold / (1 - self.threshold))


@dataclass(frozen=True)
class VideoScores:
    """The scored clips of one video. N clips, at least one."""

    clip_logits: np.ndarray
    """(N, 2), class 1 fake."""
    track_ids: np.ndarray
    """(N,) int: which face."""
    start_s: np.ndarray
    """(N,) seconds from the first picture."""

    @classmethod
    def of_clip(cls, logits: np.ndarray) -> VideoScores:
        """A video of one clip, from its logits (2,)."""
        return cls(np.asarray(logits).reshape(1, 2), np.zeros(1, np.int64), np.zeros(1))

    @property
    def margins(self) -> np.ndarray:
        """(N,) float64."""
        return margins_of(self.clip_logits)


@dataclass(frozen=True)
class Verdict:
    """A video's verdict and what it rests on."""

    verdict: VerdictName
    p_fake: float
    """Of the video, in [0, 1]."""
    margin: float
    """Of the video, before calibration."""
    track_id: int
    """The most suspicious track; the video's score is its score."""
    track_p_fake: dict[int, float]
    """Of every track, by id in rising order."""
    worst_clip: int
    """Place of the most suspicious clip of all tracks."""
    worst_clip_start_s: float
    worst_clip_p_fake: float
    reasons: tuple[str, ...] = ()
    """Why it is `review` whatever the score is."""


@dataclass(frozen=True)
class DecisionChange:
    """What a second answer to the same videos changes under one decision."""

    num: int
    num_flips: int
    """Videos on the other side of the threshold, inside of the review band or not."""
    num_flips_above_margin: int
    """Of these those whose margin was more than `margin_limit` away from the threshold's."""
    max_p_change: float
    """Largest change of p_fake; NaN where an answer is not finite."""
    mean_p_change: float
    p_before: tuple[float, ...]
    p_after: tuple[float, ...]

    @property
    def is_finite(self) -> bool:
        """False where an answer is NaN or infinite: such a comparison passes nothing."""
        return math.isfinite(self.max_p_change)


@dataclass(frozen=True)
class TemperatureFit:
    """A fitted temperature."""

    temperature: float
    at_bound: bool
    """Whether the data asked for one outside of the allowed range."""


def interval_text(interval: tuple[float, float] | None) -> str:
    """Such as ` [0.410, 0.660]`, a 95 % interval over validation groups; nothing where there is none."""
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"


def margins_of(logits: np.ndarray) -> np.ndarray:
    """Logit of fake less logit of real: (..., 2) to (...), float64."""
    return np.asarray(logits[..., 1], np.float64) - np.asarray(logits[..., 0], np.float64)


def p_fake_of(logits: np.ndarray, *, calibration_temperature: float) -> np.ndarray:
    """Probability of fake.

    Args:
        logits: (..., 2), class 1 fake.
        calibration_temperature: Divides the logits; > 0.
    Returns:
        (...) float64 in [0, 1].
    """
    return p_fake_of_margin(margins_of(logits), calibration_temperature=calibration_temperature)


def p_fake_of_margin(margin: np.ndarray | float, *, calibration_temperature: float) -> np.ndarray:
    """Probability of fake from the margin: any shape, float64 in [0, 1]."""
    gap = -np.asarray(margin, np.float64) / calibration_temperature
    # exp of more than 709 overflows a double; the answer is 0 long before.
    return np.asarray(1.0 / (1.0 + np.exp(np.minimum(gap, 700.0))))


def verdict_of(p_fake: float, point: OperatingPoint) -> VerdictName:
    """Verdict at an operating point: `review` from `review_low` up to, not including, `review_high`."""
    if point.review_low <= p_fake < point.review_high:
        return "review"
    return "fake" if p_fake >= point.threshold else "real"


def aggregate(margins: np.ndarray, aggregation: Aggregation) -> float:
    """One margin for a track.

    Args:
        margins: (N,) of its clips; at least one.
        aggregation: How.
    Source: `noisy_or`: Pearl 1988, section 4.3.2, on the clips' probabilities before calibration.
    """
    values = np.asarray(margins, np.float64)
    if aggregation.name == "mean":
        return float(values.mean())
    if aggregation.name == "top_k":
        return float(np.sort(values)[-aggregation.k :].mean())
    # log(1 - p) of a clip is -softplus(margin), so the logit of 1 - prod(1 - p) is log(exp(sum of softplus) - 1).
    if np.isnan(values).any():
        return math.nan
    total = float(np.logaddexp(0.0, values).sum())
    if total < SMALL_SUM:
        return float(np.logaddexp.reduce(values))
    return total + math.log(-math.expm1(-total))


def track_margins(scores: VideoScores, aggregation: Aggregation) -> dict[int, float]:
    """Margin of every track, by id in rising order."""
    margins = scores.margins
    return {
        int(track): aggregate(margins[scores.track_ids == track], aggregation) for track in np.unique(scores.track_ids)
    }


def video_margin(scores: VideoScores, aggregation: Aggregation) -> float:
    """Margin of the most suspicious track. NaN where any clip has none: a NaN must not be outvoted."""
    values = list(track_margins(scores, aggregation).values())
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def judge(scores: VideoScores, decision: Decision, *, evidence_of: Callable[[int], Evidence] | None = None) -> Verdict:
    """The verdict on a video.

    Args:
        scores: Its clips, all logits finite.
        decision: The rule.
        evidence_of: What a track's score rests on; where that is thin, the verdict is `review`.
    """
    tracks = track_margins(scores, decision.aggregation)
    suspect = max(tracks, key=lambda track: tracks[track])
    margins = scores.margins
    # Of equally suspicious clips the earliest.
    worst = int(np.lexsort((scores.start_s, -margins))[0])

    def p_of(margin: float) -> float:
        return float(p_fake_of_margin(margin, calibration_temperature=decision.temperature))

    p_fake = p_of(tracks[suspect])
    reasons = () if evidence_of is None else thin_evidence(evidence_of(suspect))
    return Verdict(
        verdict="review" if reasons else verdict_of(p_fake, decision.operating_point),
        p_fake=p_fake,
        margin=tracks[suspect],
        track_id=suspect,
        track_p_fake={track: p_of(margin) for track, margin in tracks.items()},
        worst_clip=worst,
        worst_clip_start_s=float(scores.start_s[worst]),
        worst_clip_p_fake=p_of(float(margins[worst])),
        reasons=reasons,
    )


def compare_decisions(
    before: Sequence[VideoScores], after: Sequence[VideoScores], decision: Decision, *, margin_limit: float = 0.1
) -> DecisionChange:
    """What a second answer to the same videos changes, under the decision that ships.

    Args:
        before: The reference's scores.
        after: The same videos' again, such as those of the INT8 graph.
        decision: Of the bundle.
        margin_limit: A flip counts as `above_margin` where the reference was further than this from the threshold, in
            logits.
    Raises:
        ValueError: No videos, or not the same number.
    """
    if not before or len(before) != len(after):
        raise ValueError(f"{len(before)} and {len(after)} videos: at least one is needed, and as many of each")
    margins = [np.array([video_margin(s, decision.aggregation) for s in part]) for part in (before, after)]
    p_before, p_after = (p_fake_of_margin(m, calibration_temperature=decision.temperature) for m in margins)
    flipped = (p_before >= decision.threshold) != (p_after >= decision.threshold)
    if all(np.isfinite(m).all() for m in margins):
        far = np.abs(margins[0] - decision.threshold_margin) > margin_limit
        change = np.abs(p_before - p_after)
    else:
        far, change = np.ones(len(before), bool), np.full(len(before), np.nan)
    return DecisionChange(
        num=len(before),
        num_flips=int(flipped.sum()),
        num_flips_above_margin=int((flipped & far).sum()),
        max_p_change=float(change.max()),
        mean_p_change=float(change.mean()),
        p_before=tuple(p_before.tolist()),
        p_after=tuple(p_after.tolist()),
    )


def fit_temperature(margins: np.ndarray, labels: np.ndarray) -> TemperatureFit:
    """The temperature that minimises the cross-entropy against softened targets.

    Targets are (n + 1) / (n + 2) for the n fakes and 1 / (n + 2) for the n reals, so that separated classes do not ask
    for a temperature of zero. The loss is convex in 1 / temperature: its derivative is bisected.

    Args:
        margins: (N,) of videos, finite.
        labels: (N,) 0 or 1.
    Raises:
        ValueError: A margin is not finite.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2 (one temperature); Platt 1999, section 2.2 (targets).
    """
    values, truth = np.asarray(margins, np.float64), np.asarray(labels) == 1
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        raise ValueError(f"{len(bad)} of {len(values)} margins are not finite, the first at place {bad[0]}")
    num_fake, num_real = int(truth.sum()), int((~truth).sum())
    targets = np.where(truth, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))

    def slope(scale: float) -> float:
        p_fake = p_fake_of_margin(values, calibration_temperature=1 / scale)
        return float(((p_fake - targets) * values).sum())

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0:
        return TemperatureFit(MAX_TEMPERATURE, at_bound=True)
    if slope(high) <= 0:
        return TemperatureFit(MIN_TEMPERATURE, at_bound=True)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return TemperatureFit(2 / (low + high), at_bound=False)


def unfitted_point(reason: str) -> OperatingPoint:
    """The threshold where none could be chosen: 0.5, in the middle of the narrowest band."""
    return OperatingPoint(
        threshold=0.5,
        review_low=0.5 - MIN_REVIEW_HALF_WIDTH,
        review_high=0.5 + MIN_REVIEW_HALF_WIDTH,
        name=f"0.5, {reason}",
    )


def fit_decision(
    clips: Sequence[VideoScores],
    labels: np.ndarray,
    *,
    target: OperatingTarget | None = None,
    groups: Sequence[str] | None = None,
    partly_fake: np.ndarray | None = None,
) -> Decision:
    """Aggregation, temperature, threshold and review band from validation videos.

    Args:
        clips: The scored clips of each video.
        labels: (V,) 0 or 1.
        target: What the threshold is chosen for; equal errors where left out.
        groups: Of each video, resampled for the intervals; where left out each video is its own.
        partly_fake: (V,) bool, fakes of which only a stretch is fake; the aggregation is chosen only where there are
            at least `MIN_PARTLY_FAKE`.
    Raises:
        ValueError: A video's margin is not finite.
    Returns:
        The decision; with fewer than `MIN_VIDEOS_PER_CLASS` videos of a class the default one, which says so.
    """
    target = target or OperatingTarget()
    truth = np.asarray(labels)
    counts = np.bincount(truth, minlength=2)
    seen = f"{counts[0]} real and {counts[1]} fake validation videos"
    if counts.min() < MIN_VIDEOS_PER_CLASS:
        reason = f"not fitted: {seen}, at least {MIN_VIDEOS_PER_CLASS} of each are needed"
        return Decision(Calibration(fitted_on=f"not fitted: {seen}"), unfitted_point(reason))
    aggregation = choose_aggregation(clips, truth, partly_fake, seen)
    margins = np.array([video_margin(scores, aggregation) for scores in clips])
    fit = fit_temperature(margins, truth)
    p_fake = p_fake_of_margin(margins, calibration_temperature=fit.temperature)
    threshold = metrics.operating_threshold(truth, p_fake, point=target.point, max_fpr=target.max_fpr)
    band = review_band(truth, p_fake, threshold=threshold, target_error=target.review_error)
    low, high, inside = _widened(band, truth, p_fake, threshold)
    temperatures, thresholds = _fit_intervals(margins, truth, groups, target)
    fitted_on = f"{seen}; at the bound of the allowed range" if fit.at_bound else seen
    return Decision(
        Calibration(calibration_temperature=fit.temperature, fitted_on=fitted_on, interval=temperatures),
        OperatingPoint(
            threshold=threshold,
            review_low=low,
            review_high=high,
            name=f"{target.text} on {seen}; {inside}",
            interval=thresholds,
        ),
        aggregation,
    )


def _widened(band: ReviewBand, truth: np.ndarray, p_fake: np.ndarray, threshold: float) -> tuple[float, float, str]:
    """The band with at least `MIN_REVIEW_HALF_WIDTH` to either side, and what it does, for people."""
    low = max(0.0, min(band.low, threshold - MIN_REVIEW_HALF_WIDTH))
    high = min(1.0, max(band.high, threshold + MIN_REVIEW_HALF_WIDTH))
    inside = (p_fake >= low) & (p_fake < high)
    wrong = int(((p_fake >= threshold) != (truth == 1))[~inside].sum())
    num, num_inside = len(p_fake), int(inside.sum())
    least = f"{MIN_REVIEW_HALF_WIDTH:g} to either side"
    if num_inside > MAX_REVIEW_SHARE * num:
        return band.low, band.high, f"{band.description}; {num_inside} of {num} would lie within {least}"
    counts = f"{num_inside} of {num} inside, {wrong} of {num - num_inside} verdicts wrong outside"
    if not band.met:
        return low, high, f"review band of {least}: {counts}; none of at most half gets to {band.target_error:.0%}"
    return low, high, f"review band for {band.target_error:.0%}, at least {least}: {counts}"


def choose_aggregation(
    clips: Sequence[VideoScores], labels: np.ndarray, partly_fake: np.ndarray | None, seen: str
) -> Aggregation:
    """The candidate with the highest AUC by video, if it gains `MIN_AUC_GAIN` over the mean.

    Args:
        clips: The scored clips of each video.
        labels: (V,) 0 or 1, both classes there.
        partly_fake: (V,) bool; below `MIN_PARTLY_FAKE` the mean is taken, since too little tells the candidates apart.
        seen: Names the videos, for people.
    """
    count = 0 if partly_fake is None else int(np.asarray(partly_fake).sum())
    if count < MIN_PARTLY_FAKE:
        few = "none" if count == 0 else f"{count}, fewer than {MIN_PARTLY_FAKE},"
        return Aggregation(chosen_on=f"not chosen: {few} of {seen} {'are' if count > 1 else 'is'} fake in part only")
    aucs = {
        each: metrics.auc(labels, np.array([video_margin(scores, each) for scores in clips])) for each in CANDIDATES
    }
    mean, best = CANDIDATES[0], max(CANDIDATES, key=lambda each: aucs[each])
    chosen = best if aucs[best] >= aucs[mean] + MIN_AUC_GAIN else mean
    compared = ", ".join(f"{each.text} {aucs[each]:.3f}" for each in CANDIDATES)
    return chosen.model_copy(update={"chosen_on": f"{seen}, {count} of them fake in part; video AUC: {compared}"})


def _fit_intervals(
    margins: np.ndarray, labels: np.ndarray, groups: Sequence[str] | None, target: OperatingTarget
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """95 % intervals of temperature and threshold over resampled groups; None for one group, or where too few draws
    hold both classes."""
    members = rows_by_group(np.arange(len(labels)) if groups is None else np.asarray(groups))
    if len(members) < 2:
        return None, None
    rng = np.random.default_rng(0)
    temperatures, thresholds = [], []
    for _ in range(INTERVAL_REPEATS):
        rows = np.concatenate([members[n] for n in rng.integers(0, len(members), len(members))])
        if len(np.unique(labels[rows])) < 2:
            continue
        temperature = fit_temperature(margins[rows], labels[rows]).temperature
        p_fake = p_fake_of_margin(margins[rows], calibration_temperature=temperature)
        temperatures.append(temperature)
        thresholds.append(metrics.operating_threshold(labels[rows], p_fake, point=target.point, max_fpr=target.max_fpr))
    if len(temperatures) < MIN_VALID_SHARE * INTERVAL_REPEATS:
        return None, None
    return _percentiles(temperatures), _percentiles(thresholds)


def _percentiles(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
