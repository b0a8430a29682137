"""Points of a search: which candidates are distilled, their metrics, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfkit.config import SearchConfig
from dfkit.distill.search.candidates import Candidate
from dfkit.distill.search.measure import CandidateMeasurement
from dfkit.errors import ConfigError
from dfkit.measures.spread import Spread

NOISE_RATIO_LIMIT = 1.25
"""p90 over p50 above which other programs were running: mostly 1.02 to 1.11 without, 1.2 to 2.6 with them."""


@dataclass(frozen=True)
class SearchPoint:
    """One candidate after distillation."""

    measurement: CandidateMeasurement
    candidate: Candidate
    parameters: int
    """Trainable values."""
    val_auc: Spread
    """Video AUC on the validation split, over seeds."""
    test_auc: Spread
    """Video AUC on the test split, over seeds; for the report alone."""
    meets: bool
    """Whether size and p50 are within the targets."""
    checkpoint: str
    """File of the best seed by validation AUC."""
    baselines: tuple[dict[str, Any], ...] = ()
    """Scratch and prune-only, with the steps that each took, as `StudentSummary.variants` has them."""
    training_length: str = ""
    """Whether student and baselines took as many steps, in words."""

    def to_json(self) -> dict[str, Any]:
        """One entry of `points` in `search.json`."""
        spec = self.candidate.spec
        sizes_and_times = {name: value for name, value in vars(self.measurement).items() if name != "label"}
        return {
            "label": self.measurement.label,
            "face_channels": list(spec.face_channels),
            "lip_channels": list(spec.lip_channels),
            "gru_hidden": spec.gru_hidden,
            "parameters": self.parameters,
            "kept_importance": self.candidate.kept_importance,
            **sizes_and_times,
            "val_auc": self.val_auc.to_json(),
            "test_auc": self.test_auc.to_json(),
            "meets": self.meets,
            "checkpoint": self.checkpoint,
            "baselines": list(self.baselines),
            "training_length": self.training_length,
        }


def rank_within_targets(
    candidates: Sequence[Candidate], measurements: Sequence[CandidateMeasurement], section: SearchConfig
) -> list[Candidate]:
    """The measured candidates within the targets, the one that keeps most of the teacher's importance first.

    Args:
        candidates: All of them; one without a measurement was too large to be timed.
        measurements: Size and latency.
        section: The targets.
    Raises:
        ConfigError: None is within them; names the nearest and what it reaches.
    """
    by_label = {measurement.label: measurement for measurement in measurements}
    within = [
        candidate
        for candidate in candidates
        if candidate.label in by_label and by_label[candidate.label].meets(section.target_mb, section.target_ms)
    ]
    if not within:
        raise unreachable_targets_error(measurements, section)
    return sorted(within, key=lambda c: (-c.kept_importance, by_label[c.label].clip_p50_ms))


def unreachable_targets_error(measurements: Sequence[CandidateMeasurement], section: SearchConfig) -> ConfigError:
    """The error about targets that no measured candidate meets; names the nearest one."""
    nearest = min(measurements, key=lambda measurement: measurement.excess(section.target_mb, section.target_ms))
    targets = []
    if section.target_mb is not None:
        targets.append(f"{section.target_mb:g} MB")
    if section.target_ms is not None:
        targets.append(f"{section.target_ms:g} ms")
    return ConfigError(
        f"none of {len(measurements)} measured candidates is within {' and '.join(targets)}; the nearest is "
        f"{nearest.label} with {nearest.model_mb:.3f} MB and {nearest.clip_p50_ms:.2f} ms a clip (p50, one thread)",
        fix="raise the targets, or name narrower widths in distill.search.cnn_shares and gru_hidden",
    )


def spread_over_latency(measurements: Sequence[CandidateMeasurement], count: int, required: str | None) -> list[str]:
    """Labels of candidates spread evenly over the order of their p50, from the fastest to the slowest.

    Args:
        measurements: Of all timed candidates.
        count: How many are chosen.
        required: Label of one that has to be among them; it replaces the nearest in that order.
    Raises:
        ConfigError: There are fewer candidates.
    """
    if count > len(measurements):
        raise ConfigError(
            f"{count} points wanted, and there are {len(measurements)} candidates",
            fix="name more shares in distill.search.cnn_shares or more widths in gru_hidden, or take fewer points",
        )
    by_latency = sorted(measurements, key=lambda measurement: measurement.clip_p50_ms)
    labels = [measurement.label for measurement in by_latency]
    step = (len(labels) - 1) / (count - 1) if count > 1 else 0.0
    places = [round(number * step) for number in range(count)]
    if required is not None and labels.index(required) not in places:
        required_place = labels.index(required)
        nearest = min(range(count), key=lambda number: abs(places[number] - required_place))
        places[nearest] = required_place
    return [labels[place] for place in sorted(places)]


def slower_in_int8(measurements: Sequence[CandidateMeasurement]) -> list[str]:
    """Labels of candidates whose INT8 graph takes longer than their float32 one."""
    return [m.label for m in measurements if m.clip_p50_ms > m.fp32_clip_p50_ms]


def rank_points(points: Sequence[SearchPoint]) -> list[SearchPoint]:
    """The points within the targets, the highest mean validation AUC first, of equals the fastest.

    The test split has no say. An undefined AUC comes last.
    """

    def sort_key(point: SearchPoint) -> tuple[float, float]:
        auc = -1.0 if point.val_auc.mean is None else point.val_auc.mean
        return -auc, point.measurement.clip_p50_ms

    return sorted((point for point in points if point.meets), key=sort_key)


def noisy_measurements(measurements: Sequence[CandidateMeasurement]) -> list[str]:
    """Labels of candidates whose p90 is so far above p50 that other programs must have been running."""
    return [
        measurement.label
        for measurement in measurements
        if measurement.clip_p90_ms > NOISE_RATIO_LIMIT * measurement.clip_p50_ms
    ]


def points_within_noise(points: Sequence[SearchPoint], best: SearchPoint) -> list[str]:
    """Labels of points whose validation AUC is within one standard deviation (the larger of both) of the best one's.

    Args:
        points: All points.
        best: The one that is taken.
    Returns:
        Empty with one seed, of which no standard deviation is known.
    """
    best_mean, best_std = best.val_auc.mean, best.val_auc.std
    if best_mean is None or best_std is None:
        return []
    near = []
    for point in points:
        mean, std = point.val_auc.mean, point.val_auc.std
        if point is best or mean is None or std is None:
            continue
        if abs(best_mean - mean) <= max(best_std, std):
            near.append(point.measurement.label)
    return near
