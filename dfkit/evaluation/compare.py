"""`dfkit compare`: whether one evaluation's figures differ from another's on the same videos, beyond chance.

Two tests stand side by side: a paired bootstrap that draws groups whole, since videos of one person are not independent
answers, and DeLong's, which takes them for independent. Figures of unlike protocols are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfkit.errors import DataError
from dfkit.evaluation.levels import interval_json, video_margins_of
from dfkit.evaluation.scores_file import ScoredVideo, ScoresFile
from dfkit.measures.bootstrap import Interval, group_bootstrap
from dfkit.measures.decision import Aggregation, Decision, p_fake_of_margin
from dfkit.measures.delong import DeLongResult, delong_test
from dfkit.measures.finite import finite_or_none
from dfkit.measures.gates import MIN_GROUPS
from dfkit.measures.metrics import auc, balanced_accuracy
from dfkit.measures.protocol import differences, unstated
from dfkit.report.table import format_number, table_lines

LETTERS = ("A", "B")


@dataclass(frozen=True)
class Figure:
    """One metric of both, and its difference."""

    name: str
    first: float
    second: float
    difference: Interval
    """A less B, with the 95 % interval of a paired bootstrap over groups."""

    def to_json(self) -> dict[str, Any]:
        """Every field; NaN is None."""
        return {
            "name": self.name,
            "a": finite_or_none(self.first),
            "b": finite_or_none(self.second),
            "difference": interval_json(self.difference),
        }


@dataclass(frozen=True)
class Comparison:
    """Two evaluations on the videos that both answered."""

    names: tuple[str, str]
    """What the user named them by."""
    scores: tuple[ScoresFile, ScoresFile]
    figures: tuple[Figure, ...]
    """AUC, and where both decide by probabilities balanced accuracy, each at its own threshold."""
    delong: DeLongResult
    videos: tuple[dict[str, Any], ...]
    """One row per video of either: `video`, `label`, `group`, `a` and `b`, None where one has no answer."""
    num_shared: int
    num_groups: int
    aggregation: Aggregation | None
    """What both were put together by again; None where each keeps its own."""
    notes: tuple[str, ...]

    @property
    def coverage(self) -> float:
        """Share of the videos that both answered."""
        return self.num_shared / len(self.videos)

    @property
    def verdict(self) -> str:
        """What the bootstrap over groups says of the AUC, in words."""
        difference = self.figures[0].difference
        if difference.reason:
            return f"AUC not compared: {difference.reason}"
        if difference.low <= 0 <= difference.high:
            return "no difference in AUC shown: the interval holds 0"
        better = "A" if difference.value > 0 else "B"
        return f"{better} has the higher AUC: the interval leaves 0 out"

    def summary(self) -> list[str]:
        """The comparison as lines of text."""
        lines = []
        for letter, name, scores in zip(LETTERS, self.names, self.scores, strict=True):
            models = " + ".join(model.path for model in scores.models)
            lines += [f"{letter}: {name} ({models})", f"   {scores.protocol.text}"]
        only = Counter("B" if row["a"] is None else "A" for row in self.videos if None in (row["a"], row["b"]))
        lines.append(
            f"{self.num_shared} of {len(self.videos)} videos answered by both ({self.coverage:.0%}), {self.num_groups} "
            f"groups; by A alone {only['A']}, by B alone {only['B']}"
        )
        rows = [
            [
                figure.name,
                format_number(figure.first),
                format_number(figure.second),
                f"{figure.difference.value:+.3f}",
                _interval_text(figure.difference),
            ]
            for figure in self.figures
        ]
        lines += table_lines(("", "A", "B", "A - B", "95 % interval over groups"), rows)
        lines += [_delong_text(self.delong), self.verdict]
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every figure and a row per video."""
        return {
            "a": _side_json(self.names[0], self.scores[0]),
            "b": _side_json(self.names[1], self.scores[1]),
            "num_shared": self.num_shared,
            "num_groups": self.num_groups,
            "coverage": self.coverage,
            "aggregation": None if self.aggregation is None else self.aggregation.text,
            "figures": [figure.to_json() for figure in self.figures],
            "delong": self.delong.to_json(),
            "verdict": self.verdict,
            "notes": list(self.notes),
            "videos": list(self.videos),
        }


def _side_json(name: str, scores: ScoresFile) -> dict[str, Any]:
    return {
        "name": name,
        "models": [model.path for model in scores.models],
        "scores": scores.scores,
        "protocol": scores.protocol.to_json(),
    }


def _interval_text(interval: Interval) -> str:
    return f"none: {interval.reason}" if interval.reason else f"{interval.low:+.3f} to {interval.high:+.3f}"


def _delong_text(result: DeLongResult) -> str:
    if result.reason:
        return f"DeLong: no value ({result.reason})"
    return (
        f"DeLong: AUC difference {result.difference:+.3f}, z {result.z:+.2f}, p {result.p_value:.3g} "
        "(takes every video for an independent answer)"
    )


def compare(
    first: ScoresFile,
    second: ScoresFile,
    *,
    names: tuple[str, str],
    min_coverage: float,
    aggregation: Aggregation | None = None,
) -> Comparison:
    """Compares two evaluations of the same videos.

    Args:
        first: A.
        second: B.
        names: Of both, for messages.
        min_coverage: Share of the videos of either that both have to answer, in [0, 1].
        aggregation: Puts the clips of both together anew, alike; thresholds were fitted under their own, so that only
            the AUC is compared then.
    Raises:
        DataError: The protocols differ, labels contradict each other, or too few videos are answered by both.
    """
    _refuse_unlike(first, second, names, aggregation)
    sides = [_values_by_place(scores, aggregation) for scores in (first, second)]
    places = _match(first.videos, second.videos)
    _refuse_other_labels(first.videos, second.videos, places, names)
    rows: list[dict[str, Any]] = []
    for a, b in places:
        values = (sides[0].get(a), sides[1].get(b))
        video = first.videos[a] if a is not None else second.videos[b]  # type: ignore[index]
        if values == (None, None):
            continue  # neither answers: it is in no figure of either
        rows.append({"video": video.path, "label": video.label, "group": video.group, "a": values[0], "b": values[1]})
    both = [row for row in rows if row["a"] is not None and row["b"] is not None]
    _require_coverage(len(both), len(rows), names, min_coverage)
    labels = np.array([row["label"] for row in both])
    groups = [row["group"] for row in both]
    a_values, b_values = (np.array([row[side] for row in both], np.float64) for side in ("a", "b"))
    figures = [_figure("AUC", labels, groups, (a_values, b_values), auc)]
    decisions = [None if scores.decision is None else scores.decision.decision for scores in (first, second)]
    notes = _notes(first, second, len(set(groups)))
    if aggregation is None and None not in decisions:
        figures.append(_balanced_accuracy(labels, groups, (a_values, b_values), decisions))  # type: ignore[arg-type]
    else:
        why = "a foreign detector's scores are no probabilities" if aggregation is None else "another aggregation"
        notes.append(f"balanced accuracy is not compared: there is no threshold for it ({why})")
    return Comparison(
        names=names,
        scores=(first, second),
        figures=tuple(figures),
        delong=delong_test(labels, a_values, b_values),
        videos=tuple(rows),
        num_shared=len(both),
        num_groups=len(set(groups)),
        aggregation=aggregation,
        notes=tuple(notes),
    )


def _refuse_unlike(
    first: ScoresFile, second: ScoresFile, names: tuple[str, str], aggregation: Aggregation | None
) -> None:
    protocols = [scores.protocol for scores in (first, second)]
    if aggregation is not None:
        protocols = [
            each.model_copy(update={"aggregation": None if each.aggregation is None else aggregation.text})
            for each in protocols
        ]
    found = differences(*protocols)
    if not found:
        return
    lines = [f"  - {difference.text}" for difference in found]
    raise DataError(
        "\n".join([f"{names[0]} and {names[1]} were not measured alike:", *lines]),
        fix="; ".join(dict.fromkeys(difference.fix for difference in found)),
    )


def _values_by_place(scores: ScoresFile, aggregation: Aggregation | None) -> dict[int | None, float]:
    """Scores by place in the file: p_fake under the file's own decision, or what stands in for it.

    Margins would rank alike; p_fake is what people know, and a threshold lies on it.
    """
    places = [place for place, video in enumerate(scores.videos) if video.answered]
    if scores.scores != "logits":
        return {place: float(scores.videos[place].score or 0) for place in places}
    decision = Decision() if scores.decision is None else scores.decision.decision
    margins = video_margins_of(scores.answered, aggregation or decision.aggregation)
    p_fake = p_fake_of_margin(margins, calibration_temperature=decision.temperature)
    return dict(zip(places, p_fake.tolist(), strict=True))


def _match(first: Sequence[ScoredVideo], second: Sequence[ScoredVideo]) -> list[tuple[int | None, int | None]]:
    """Places of the same videos in both, and of those in one alone: by content, else by path, else by file name."""
    open_first, open_second = dict(enumerate(first)), dict(enumerate(second))
    pairs: list[tuple[int | None, int | None]] = []
    for spell in (_content, _path, _file_name):
        of_first, of_second = _unique(open_first, spell), _unique(open_second, spell)
        for key in of_first.keys() & of_second.keys():
            pairs.append((of_first[key], of_second[key]))
            del open_first[of_first[key]], open_second[of_second[key]]
    pairs += [(place, None) for place in open_first]
    pairs.sort(key=lambda pair: pair[0] or 0)
    return [*pairs, *((None, place) for place in open_second)]


def _unique(videos: dict[int, ScoredVideo], spell: Callable[[ScoredVideo], str | None]) -> dict[str, int]:
    spelled = {place: spell(video) for place, video in videos.items()}
    counts = Counter(spelled.values())
    return {key: place for place, key in spelled.items() if key is not None and counts[key] == 1}


def _content(video: ScoredVideo) -> str | None:
    return video.sha256


def _path(video: ScoredVideo) -> str:
    return video.path.replace("\\", "/")


def _file_name(video: ScoredVideo) -> str:
    return _path(video).rsplit("/", 1)[-1]


def _refuse_other_labels(
    first: Sequence[ScoredVideo],
    second: Sequence[ScoredVideo],
    places: Sequence[tuple[int | None, int | None]],
    names: tuple[str, str],
) -> None:
    wrong = [first[a].path for a, b in places if a is not None and b is not None and first[a].label != second[b].label]
    if wrong:
        raise DataError(
            f"{names[0]} and {names[1]} call {len(wrong)} of the same videos by another label, the first is {wrong[0]}",
            fix="evaluate both with the same labels",
        )


def _require_coverage(num_shared: int, num: int, names: tuple[str, str], min_coverage: float) -> None:
    if not 0 <= min_coverage <= 1:
        raise DataError(f"a coverage of {min_coverage:g} is no share", fix="--min-coverage 0.5, or another from 0 to 1")
    if num_shared and num_shared >= min_coverage * num:
        return
    share = num_shared / num if num else 0.0
    raise DataError(
        f"{names[0]} and {names[1]} both answer {num_shared} of {num} videos ({share:.0%}), at least "
        f"{min_coverage:.0%} are wanted",
        fix="evaluate both on the same part of the same data"
        + (f"; --min-coverage {int(100 * share) / 100:g} goes on with these" if num_shared else ""),
    )


def _figure(
    name: str,
    labels: np.ndarray,
    groups: Sequence[str],
    values: tuple[np.ndarray, np.ndarray],
    metric: Callable[[np.ndarray, np.ndarray], float],
) -> Figure:
    first, second = values

    def difference(places: np.ndarray) -> float:
        return metric(labels[places], first[places]) - metric(labels[places], second[places])

    return Figure(name, metric(labels, first), metric(labels, second), group_bootstrap(groups, difference))


def _balanced_accuracy(
    labels: np.ndarray,
    groups: Sequence[str],
    values: tuple[np.ndarray, np.ndarray],
    decisions: Sequence[Decision],
) -> Figure:
    """Each at its own threshold: called fake is 1, so that both are cut at 0.5."""
    called = [(p_fake >= decision.threshold).astype(float) for p_fake, decision in zip(values, decisions, strict=True)]

    def at_half(truth: np.ndarray, answers: np.ndarray) -> float:
        return balanced_accuracy(truth, answers, threshold=0.5)

    return _figure("balanced accuracy", labels, groups, (called[0], called[1]), at_half)


def _notes(first: ScoresFile, second: ScoresFile, num_groups: int) -> list[str]:
    notes = []
    if missing := unstated(first.protocol, second.protocol):
        notes.append(f"stated by one alone, so not compared: {', '.join(missing)}")
    if not (first.protocol.groups_known and second.protocol.groups_known):
        notes.append("groups unknown: persons may leak")
    if num_groups < MIN_GROUPS:
        notes.append(f"groups are few ({num_groups}): a demonstration; {MIN_GROUPS} are needed to judge")
    return notes
