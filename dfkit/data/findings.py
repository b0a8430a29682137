"""What can be told about labels without a network: models scored out of fold, kept beside the data.

`dfkit audit` and `dfkit baseline` both fit small models under the grouped folds that networks are tested with,
and leave one JSON file each in the folder of the data, where `dfkit evaluate` finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.benchmarks.bootstrap import REPEATS, group_bootstrap
from dfkit.benchmarks.metrics import auc
from dfkit.data import catalog
from dfkit.data.hashing import sha256_json
from dfkit.data.splits import make_folds
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError

SCHEMA_VERSION = 1
AUDIT_FILE, BASELINE_FILE = "audit.json", "baseline.json"
WARN_AUC = 0.7
"""From here on a finding is named beside every metric; DESIGN section 9."""


@dataclass(frozen=True)
class Score:
    """How well one thing tells fake from real on videos of groups it was not fitted on."""

    name: str
    auc: float
    """By video, out-of-fold scores of all folds pooled."""
    low: float
    """Lower end of the 95 % interval over groups; NaN, like `high`, where there are too few groups."""
    high: float
    num_videos: int
    num_missing: int = 0
    """Videos without a value; that is a value of its own to the model, since it may tell the label, too."""

    def to_json(self) -> dict[str, Any]:
        """The fields, NaN as None."""
        return {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in vars(self).items()
        }


@dataclass(frozen=True)
class FoldedVideos:
    """The usable videos of a data set and the fold in which each is tested."""

    positions: tuple[int, ...]
    """Index of each in `PreparedData.videos`."""
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    test_parts: tuple[NDArray[np.int64], ...]
    """Places in `positions`, one array per fold, disjoint and together all."""
    seed: int
    """Of the folds and the bootstrap."""
    repeats: int = REPEATS
    """Resamples of the bootstrap."""

    @classmethod
    def of(cls, data: PreparedData, *, folds: int, seed: int, repeats: int = REPEATS) -> FoldedVideos:
        """The folds of `dfkit train` at the same number and seed.

        Raises:
            DataError: Labels or a class are missing, or there are too few groups.
        """
        splits = make_folds(data, folds=folds, seed=seed)
        positions = tuple(sorted(index for split in splits for index in split.test))
        place = {index: number for number, index in enumerate(positions)}
        labels = [data.videos[index].label for index in positions]
        return cls(
            positions=positions,
            labels=np.asarray(labels, np.int64),
            groups=tuple(data.groups[index] for index in positions),
            test_parts=tuple(np.asarray([place[index] for index in split.test]) for split in splits),
            seed=seed,
            repeats=repeats,
        )

    def score(self, name: str, values: NDArray[np.float64], make_model: Callable[[], Any]) -> Score:
        """Fits a model on the other folds of each fold and scores the fold's videos.

        Args:
            name: Of the result.
            values: (N, K) one row per video; NaN where a value is missing.
            make_model: Gives an unfitted scikit-learn classifier that takes NaN.
        """
        return self.judge(name, values, self.out_of_fold(values, make_model))

    def judge(self, name: str, values: NDArray[np.float64], p_fake: NDArray[np.float64]) -> Score:
        """The AUC of out-of-fold scores with its interval over groups; `values` say how much was missing."""
        interval = group_bootstrap(
            self.groups,
            lambda rows: auc(self.labels[rows], p_fake[rows]),
            repeats=self.repeats,
            seed=self.seed,
        )
        missing = int(np.isnan(values).all(axis=1).sum())
        return Score(name, interval.value, interval.low, interval.high, len(self.labels), missing)

    def out_of_fold(self, values: NDArray[np.float64], make_model: Callable[[], Any]) -> NDArray[np.float64]:
        """P(fake) of each video by a model that saw no video of its fold: (N,)."""
        p_fake = np.full(len(self.labels), np.nan)
        for test in self.test_parts:
            rest = np.setdiff1d(np.arange(len(self.labels)), test)
            model = make_model().fit(values[rest], self.labels[rest])
            p_fake[test] = model.predict_proba(values[test])[:, 1]
        return p_fake


def score_lines(scores: Sequence[Score]) -> list[str]:
    """A table, one line each."""
    width = max(len(score.name) for score in scores)
    lines = [f"{'':{width}}    AUC   95 % interval   without"]
    for score in scores:
        interval = "-" if score.low != score.low else f"{score.low:.3f} .. {score.high:.3f}"
        missing = str(score.num_missing) if score.num_missing else "-"
        lines.append(f"{score.name:{width}}  {score.auc:5.3f}  {interval:>14}  {missing:>8}")
    return lines


def write_finding(data: PreparedData, name: str, content: dict[str, Any]) -> str | None:
    """Writes a finding into the folder of the data; an earlier one of the same kind is replaced.

    Args:
        data: What it is about.
        name: File name, such as `audit.json`.
        content: JSON object; its `kind` tells the program's own files from others.
    Returns:
        The file, or None where the data lies on S3, which is only read.
    Raises:
        DataError: A file of that name is there that this did not write.
    """
    if data.remote:
        return None
    path = Path(data.path) / name
    if path.exists() and _read(path).get("kind") != content["kind"]:
        raise DataError(
            f"{path}: there is a file of that name that dfkit did not write; nothing was replaced",
            fix="move it elsewhere and run the command again",
        )
    header = {"schema_version": SCHEMA_VERSION, "created": catalog.now(), "videos_hash": videos_hash(data)}
    catalog.write_atomically(path, json.dumps({**header, **content}, indent=2, ensure_ascii=False) + "\n")
    return str(path)


def baseline_sentence(network_auc: float | None, baseline_auc: float) -> str:
    """How a network stands to its baseline, in words.

    Args:
        network_auc: By video; None or NaN where undefined.
        baseline_auc: Of `dfkit baseline`, on the same data.
    """
    if network_auc is None or not np.isfinite(network_auc):
        return f"baseline AUC {baseline_auc:.3f}; the network's has no value here, so neither is better"
    both = f"AUC {network_auc:.3f} against {baseline_auc:.3f} of hand-made features"
    return f"below its baseline: {both}" if network_auc < baseline_auc else f"not below its baseline: {both}"


def said_beside(data: PreparedData, network_auc: float | None) -> tuple[str, ...]:
    """What belongs beside a network's metrics on this data: its baseline, and what the audit warned of."""
    baseline, audited = read_finding(data, BASELINE_FILE), read_finding(data, AUDIT_FILE)
    auc_of_baseline = None if baseline is None else baseline.get("auc")
    compared = () if auc_of_baseline is None else (baseline_sentence(network_auc, float(auc_of_baseline)),)
    return (*compared, *(() if audited is None else map(str, audited.get("warnings", []))))


def read_finding(data: PreparedData, name: str) -> dict[str, Any] | None:
    """A finding about exactly these videos; None where there is none, or it was made before they changed."""
    if data.remote:
        return None
    content = _read(Path(data.path) / name)
    return content if content.get("videos_hash") == videos_hash(data) else None


def videos_hash(data: PreparedData) -> str:
    """SHA-256 over the videos' keys, which stand for content, labels and clip contract."""
    return sha256_json([row.key for row in data.videos])


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
