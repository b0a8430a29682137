"""`dfkit baseline`: several small models under the grouped folds that networks are tested with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.audit.baselines import BASELINES, Material, choose_baselines, entry_head, weights_lines
from dfkit.audit.findings import (
    BASELINE_FILE,
    BASELINE_WORDS,
    AucScore,
    FoldedVideos,
    baseline_entries,
    format_scores,
    read_finding,
    write_answers,
    write_finding,
    written_line,
)
from dfkit.config import SplitConfig
from dfkit.console import note
from dfkit.data.hashing import sha256_json
from dfkit.data.storage import PreparedData
from dfkit.measures.bootstrap import REPEATS
from dfkit.measures.protocol import Protocol

KIND = "dfkit baseline"


@dataclass(frozen=True)
class Entry:
    """The result of one baseline."""

    name: str
    total: AucScore
    parts: tuple[AucScore, ...]
    details: Mapping[str, Any]
    videos: tuple[dict[str, Any], ...]
    """Key, label, group and out-of-fold `p_fake` of each, for paired comparisons."""
    protocol: Protocol

    def lines(self) -> list[AucScore]:
        """Rows of the table: the baseline, then its parts."""
        return [replace(self.total, name=self.name), *(replace(each, name=f"  {each.name}") for each in self.parts)]

    def to_json(self) -> dict[str, Any]:
        """Of one name in `baseline.json`."""
        return {
            **entry_head(self.name),
            **{name: value for name, value in self.total.to_json().items() if name != "name"},
            "protocol": self.protocol.to_json(),
            "parts": [score.to_json() for score in self.parts],
            **self.details,
            "videos": list(self.videos),
        }


@dataclass(frozen=True)
class BaselineResult:
    """AUC by video of every baseline measured."""

    data: str
    entries: tuple[Entry, ...]
    kept: dict[str, dict[str, Any]]
    """Entries of `baseline.json` that an earlier run measured under the same folds."""
    groups_known: bool
    num_groups: int
    folds: int
    folds_hash: str
    """SHA-256 over the videos of each fold's test part."""
    seed: int
    notes: tuple[str, ...] = ()
    path: str | None = None
    answers: tuple[str, ...] = ()
    """Tables of out-of-fold answers by video, one per baseline measured."""

    def summary(self) -> list[str]:
        """The baselines as lines of text."""
        num_videos = self.entries[0].total.num_videos
        kept = ", ".join(self.kept)
        return [
            f"{self.data}: {num_videos} videos, {self.num_groups} groups, {self.folds} grouped folds",
            *format_scores([line for entry in self.entries for line in entry.lines()]),
            *(f"{entry.name}: {entry.protocol.text}" for entry in self.entries),
            *weights_lines(entry.name for entry in self.entries),
            *([f"measured earlier under the same folds and kept: {kept}"] if self.kept else []),
            *(f"note: {note}" for note in self.notes),
            written_line(self.path),
            *([f"answers by video, out of fold: {', '.join(self.answers)}"] if self.answers else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of `baseline.json`."""
        plain = ("data", "groups_known", "num_groups", "folds", "folds_hash", "seed")
        measured = {entry.name: entry.to_json() for entry in self.entries}
        return {
            "kind": KIND,
            **{name: getattr(self, name) for name in plain},
            "notes": list(self.notes),
            "baselines": {**self.kept, **measured},
        }


def baseline(
    data: PreparedData,
    *,
    of: Sequence[str] = (),
    folds: int = 5,
    seed: int = 0,
    repeats: int = REPEATS,
    split: SplitConfig | None = None,
) -> BaselineResult:
    """Measures baselines under grouped folds; writes `baseline.json`, and features into the folder of the data.

    Args:
        data: Labelled.
        of: Keys of `BASELINES`; all whose packages are installed and which the data suits where left out.
        folds: Grouped folds, those of `dfkit train` at the same number and seed.
        seed: Of folds, models and bootstrap.
        repeats: Resamples of the intervals.
        split: Of the experiment; see `FoldedVideos.from_data`.
    Returns:
        AUC by video, of each baseline and of its parts.
    Raises:
        MissingExtraError: A package of one that was asked for is not installed.
        DataError: A class is missing, groups are too few, the data does not suit one that was asked for, or a
            foreign baseline.json is there.
    """
    names, notes = choose_baselines(data, of)
    videos = FoldedVideos.from_data(data, folds=folds, seed=seed, repeats=repeats, split=split)
    entries = []
    for name in names:
        note(f"baseline {name}: {BASELINE_WORDS[name]}")
        material = BASELINES[name].read(data, videos.positions, seed)
        entries.append(_measure(name, material, data, videos))
        notes += material.notes
    notes.insert(0, data.info.form)
    if not data.groups_known:
        notes.append("groups unknown: persons may leak")
    folds_hash = sha256_json([[data.videos[videos.positions[row]].key for row in part] for part in videos.test_parts])
    result = BaselineResult(
        data=data.path,
        entries=tuple(entries),
        kept=_kept_entries(data, folds_hash, seed, names),
        groups_known=data.groups_known,
        num_groups=len(set(videos.groups)),
        folds=len(videos.test_parts),
        folds_hash=folds_hash,
        seed=seed,
        notes=tuple(notes),
    )
    path = write_finding(data, BASELINE_FILE, result.to_json())
    tables = [
        write_answers(data, entry.name, videos.positions, [row["p_fake"] for row in entry.videos]) for entry in entries
    ]
    return replace(result, path=path, answers=tuple(each for each in tables if each is not None))


def _measure(name: str, material: Material, data: PreparedData, videos: FoldedVideos) -> Entry:
    models = list(videos.fitted(material.total.make_model))
    p_fake = videos.gather((test, model.p_fake(test)) for test, model in models)
    parts = [
        videos.score_predictions(part, videos.out_of_fold(each.make_model), missing=each.missing)
        for part, each in material.parts.items()
    ]
    return Entry(
        name=name,
        total=videos.score_predictions(name, p_fake, missing=material.total.missing),
        parts=(*parts, *material.tests(models, videos)),
        details=material.details,
        videos=tuple(_video_rows(data, videos, p_fake)),
        protocol=videos.protocol(data, BASELINES[name].rule, frames=BASELINES[name].sees_frames),
    )


def _video_rows(data: PreparedData, videos: FoldedVideos, p_fake: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    for index, label, group, p in zip(videos.positions, videos.labels, videos.groups, p_fake, strict=True):
        yield {"key": data.videos[index].key, "label": int(label), "group": group, "p_fake": round(float(p), 6)}


def _kept_entries(data: PreparedData, folds_hash: str, seed: int, measured: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What an earlier run found under the same folds; anything else is replaced."""
    found = read_finding(data, BASELINE_FILE)
    if found is None or (found.get("folds_hash"), found.get("seed")) != (folds_hash, seed):
        return {}
    return {name: entry for name, entry in baseline_entries(found).items() if name not in measured}
