"""Which judged fakes are of generators that the models were trained on, and what they are worth on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dfkit.data.catalog import HASH_LENGTH
from dfkit.data.label_words import FAKE, family_of_method
from dfkit.evaluation.by_column import auc_interval
from dfkit.measures.bootstrap import Interval
from dfkit.measures.left_out import interval_facts
from dfkit.report.left_out import format_auc
from dfkit.training.seen_groups import START

if TYPE_CHECKING:
    from dfkit.data.storage import PreparedData
    from dfkit.evaluation.ensemble_members import EnsembleMember
    from dfkit.evaluation.scores_file import ScoredVideo

NOT_NAMED = "(no method given)"
LEAVE_OUT = "dfkit train --leave-out method measures them"


@dataclass(frozen=True)
class GeneratorPart:
    """Judged fakes of some generators against all judged real videos."""

    families: tuple[str, ...]
    num_fakes: int
    auc: Interval

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; NaN is None."""
        return {"families": list(self.families), "fakes": self.num_fakes, "auc": interval_facts(self.auc)}


@dataclass(frozen=True)
class SeenGenerators:
    """AUC by video on generators that a model trained on, and on others; both stand in every report."""

    trained: tuple[str, ...] | None
    """Generators in the training part; None where a model does not say."""
    seen: GeneratorPart
    """Of groups that it did not train on, as far as the evaluated part is its test or validation part."""
    unseen: GeneratorPart
    unknown: GeneratorPart
    """Fakes of which it is not known whether the model saw their generator."""

    @property
    def texts(self) -> list[str]:
        """One line for seen, one for unseen, and one for what is not known."""
        lines = [
            _line("seen generators", self.seen, "none is judged"),
            _line("unseen generators", self.unseen, f"none is judged; {LEAVE_OUT}"),
        ]
        if self.unknown.num_fakes:
            why = "the model does not say which generators it trained on" if self.trained is None else "no method given"
            lines.append(f"{_line('seen or not is not known', self.unknown, '')}: {why}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Entry `generators` of `report.json`."""
        return {
            "trained": None if self.trained is None else list(self.trained),
            "seen": self.seen.to_json(),
            "unseen": self.unseen.to_json(),
            "unknown": self.unknown.to_json(),
        }


def _line(name: str, part: GeneratorPart, empty: str) -> str:
    if not part.num_fakes:
        return f"{name}: {empty}"
    reason = f", no interval: {part.auc.reason}" if part.auc.reason else ""
    return f"{name}: video AUC {format_auc(part.auc)} ({part.num_fakes} fakes: {', '.join(part.families)}{reason})"


def seen_generators(
    videos: Sequence[ScoredVideo], p_fake: np.ndarray, trained: tuple[str, ...] | None
) -> SeenGenerators:
    """Sorts judged fakes by whether any of the models was trained on their generator.

    Args:
        videos: N judged ones.
        p_fake: (N,) their scores.
        trained: From `trained_families`; None where it is not known.
    """
    labels = np.array([video.label for video in videos], np.int64)
    groups = np.array([video.group for video in videos], str)
    families = np.array([family_of_method(video.method) if video.method else NOT_NAMED for video in videos], str)
    named = families != NOT_NAMED
    was_seen = np.isin(families, [] if trained is None else list(trained))
    fakes = labels == FAKE

    def part(mask: np.ndarray) -> GeneratorPart:
        at = np.flatnonzero((mask & fakes) | ~fakes)
        return GeneratorPart(
            families=tuple(sorted(set(families[mask & fakes].tolist()))),
            num_fakes=int((mask & fakes).sum()),
            auc=auc_interval(labels[at], p_fake[at], groups[at]),
        )

    known = named & (trained is not None)
    return SeenGenerators(trained, part(known & was_seen), part(known & ~was_seen), part(~known))


def trained_families(data: PreparedData, members: Sequence[EnsembleMember]) -> tuple[str, ...] | None:
    """Generators that any of the models was trained on; None where one of them does not say.

    A run of before they were stored is asked by its files, where all of them are in these data.
    """
    found: set[str] = set()
    for member in members:
        facts = (member.splits or {}).get("train", {})
        if "families" in facts:
            found |= {*facts["families"], *(member.splits or {}).get(START, {}).get("families", ())}
            continue
        hashes = set(facts.get("file_hashes", ()))
        rows = [row for row in data.videos if row.sha256[:HASH_LENGTH] in hashes]
        if not hashes or len({row.sha256[:HASH_LENGTH] for row in rows}) < len(hashes):
            return None
        found |= {family_of_method(row.method) for row in rows if row.label == FAKE and row.method}
    return tuple(sorted(found))
