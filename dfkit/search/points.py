"""Points of a search: which candidates are distilled, what came of them, and which is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfkit.config import SearchConfig
from dfkit.distill.variants import Spread
from dfkit.errors import ConfigError
from dfkit.search.family import Candidate
from dfkit.search.measure import Figures

SCATTER_LIMIT = 1.25
"""p90 over p50 above which a machine was not at rest: mostly 1.02 to 1.11 in quiet, 1.2 to 2.6 beside other work."""


@dataclass(frozen=True)
class Point:
    """One candidate after fine-tuning."""

    figures: Figures
    candidate: Candidate
    parameters: int
    val_auc: Spread
    """Video AUC of the validation part over seeds."""
    test_auc: Spread
    """Of the test part, for the report alone."""
    meets: bool
    """Whether size and time are within the targets."""
    checkpoint: str
    """Of the best seed by validation AUC."""
    baselines: tuple[dict[str, Any], ...] = ()
    """Scratch and prune-only at equal steps, as `StudentSummary.variants` has them."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        spec = self.candidate.spec
        return {
            "label": self.figures.label,
            "face_channels": list(spec.face_channels),
            "lip_channels": list(spec.lip_channels),
            "gru_hidden": spec.gru_hidden,
            "parameters": self.parameters,
            "kept_importance": self.candidate.kept_importance,
            **{name: value for name, value in vars(self.figures).items() if name != "label"},
            "val_auc": self.val_auc.to_json(),
            "test_auc": self.test_auc.to_json(),
            "meets": self.meets,
            "checkpoint": self.checkpoint,
            "baselines": list(self.baselines),
        }


def most_important(family: Sequence[Candidate], figures: Sequence[Figures], section: SearchConfig) -> list[Candidate]:
    """The measured candidates within the targets, the one that keeps most of the teacher's importance first.

    Args:
        family: Candidates.
        figures: What was measured; a candidate without figures was too heavy to be measured.
        section: The targets.
    Raises:
        ConfigError: None is within them; names the nearest and what it reaches.
    """
    by_label = {row.label: row for row in figures}
    found = [c for c in family if c.label in by_label and by_label[c.label].meets(section.target_mb, section.target_ms)]
    if found:
        return sorted(found, key=lambda c: (-c.kept_importance, by_label[c.label].clip_p50_ms))
    raise unreachable(figures, section)


def unreachable(figures: Sequence[Figures], section: SearchConfig) -> ConfigError:
    """The refusal of targets that nothing meets."""
    nearest = min(figures, key=lambda row: row.excess(section.target_mb, section.target_ms))
    wanted = [f"{section.target_mb:g} MB"] if section.target_mb is not None else []
    wanted += [f"{section.target_ms:g} ms"] if section.target_ms is not None else []
    return ConfigError(
        f"none of {len(figures)} measured candidates is within {' and '.join(wanted)}; the nearest is {nearest.label} "
        f"with {nearest.model_mb:.3f} MB and {nearest.clip_p50_ms:.2f} ms a clip (p50, one thread)",
        fix="raise the targets, or name narrower widths in distill.search.cnn_shares and gru_hidden",
    )


def spread_out(figures: Sequence[Figures], count: int, first: str | None) -> list[str]:
    """Labels of candidates spread over the measured times, from the fastest to the slowest.

    Args:
        figures: What was measured.
        count: How many.
        first: One that has to be among them: takes the place of the nearest in time.
    Raises:
        ConfigError: There are fewer candidates.
    """
    if count > len(figures):
        raise ConfigError(
            f"{count} points wanted, and there are {len(figures)} candidates",
            fix="name more shares in distill.search.cnn_shares or more widths in gru_hidden, or take fewer points",
        )
    order = [row.label for row in sorted(figures, key=lambda row: row.clip_p50_ms)]
    step = (len(order) - 1) / (count - 1) if count > 1 else 0.0
    places = [round(number * step) for number in range(count)]
    if first is not None and order.index(first) not in places:
        wanted = order.index(first)
        nearest = min(range(count), key=lambda number: abs(places[number] - wanted))
        places[nearest] = wanted
    return [order[place] for place in sorted(places)]


def ranked(points: Sequence[Point]) -> list[Point]:
    """The points within the targets, the highest mean validation AUC first, of equals the fastest.

    The test part has no say. An AUC that is not defined comes last.
    """

    def place(point: Point) -> tuple[float, float]:
        auc = -1.0 if point.val_auc.mean is None else point.val_auc.mean
        return -auc, point.figures.clip_p50_ms

    return sorted((point for point in points if point.meets), key=place)


def scattered(figures: Sequence[Figures]) -> list[str]:
    """Labels of candidates whose slow clips say that the machine had other work."""
    return [row.label for row in figures if row.clip_p90_ms > SCATTER_LIMIT * row.clip_p50_ms]


def within_noise(points: Sequence[Point], best: Point) -> list[str]:
    """Labels of points whose validation AUC is within one standard deviation (the larger of both) of the best one's.

    Args:
        points: All points.
        best: The one that is taken.
    Returns:
        Empty with one seed, where the noise is not known.
    """
    top, noise = best.val_auc.mean, best.val_auc.std
    if top is None or noise is None:
        return []
    near = []
    for point in points:
        mean, std = point.val_auc.mean, point.val_auc.std
        if point is not best and mean is not None and std is not None and abs(top - mean) <= max(noise, std):
            near.append(point.figures.label)
    return near
