"""Joins the folds of a run that left families out: every held-out score, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkit.audit.left_out import TITLES, left_out_command, read_left_out_scores
from dfkit.config import SplitConfig
from dfkit.data.label_table import column_name
from dfkit.data.leave_out import folds_hash, held_out_scores, leave_out_folds, left_out_families
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import DataError
from dfkit.measures.bootstrap import REPEATS
from dfkit.measures.left_out import HeldOutScore, LeftOutFamily, LeftOutResult, measure_left_out
from dfkit.measures.protocol import Protocol, protocol_line
from dfkit.report.left_out import left_out_lines
from dfkit.training.video_scores import SCORES_FILE
from dfkit.workspace import LEAVE_OUT_RUN, stored_path

LEFT_OUT_FILE = "left_out.json"
CONFIG_FILE = "config.json"
SCHEMA_VERSION = 1
NETWORK = "network"


@dataclass(frozen=True)
class LeftOutRun:
    """Scores of all folds of a run, joined."""

    run_dir: str
    data_dir: str
    """As the run stores it, see `dfkit.workspace.find_stored`."""
    by: str
    """What was left out."""
    families: tuple[LeftOutFamily, ...]
    scores: tuple[HeldOutScore, ...]
    folds_hash: str
    videos_hash: str
    beside: dict[str, LeftOutResult]
    """File facts and baselines under the same folds, as far as they were measured."""
    missing: tuple[str, ...]
    """Commands that measure the others."""
    result: LeftOutResult
    protocol: Protocol | None = None
    """Of the network's figures; None in runs of an older dfkit."""

    @property
    def results(self) -> dict[str, LeftOutResult]:
        """The network's figures and those beside it, by name."""
        return {NETWORK: self.result, **self.beside}

    def summary(self) -> list[str]:
        """The table as lines of text."""
        return [
            protocol_line(self.protocol),
            *left_out_lines(self.results),
            *(f"not measured yet under these folds: {name}" for name in self.missing),
        ]

    def to_json(self) -> dict[str, Any]:
        """Content of `left_out.json`, from which the folds are joined again without training."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": LEAVE_OUT_RUN,
            "by": self.by,
            "data": self.data_dir,
            "folds_hash": self.folds_hash,
            "videos_hash": self.videos_hash,
            "families": [{"name": f.name, "members": list(f.members), "folds": list(f.folds)} for f in self.families],
            "protocol": None if self.protocol is None else self.protocol.to_json(),
            "result": self.result.to_json(),
            "videos": [score.to_json() for score in self.scores],
        }


def join_left_out(
    data: PreparedData,
    split: SplitConfig,
    by: str,
    folders: Sequence[Path],
    *,
    protocol: Protocol,
    repeats: int = REPEATS,
) -> LeftOutRun:
    """Joins finished folds.

    Args:
        data: What they were trained on.
        split: How they were cut.
        by: What was left out.
        folders: Of the folds, in their order, each with its `scores.json`.
        protocol: Of the networks' figures.
        repeats: Resamples of the intervals.
    """
    folds = leave_out_folds(data, by, val_share=split.val_share, seed=split.seed)
    index_of = {row.path: index for index, row in enumerate(data.videos)}
    scores: list[HeldOutScore] = []
    for number, (fold, folder) in enumerate(zip(folds, folders, strict=True), start=1):
        content = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))
        p_fake = {index_of[row["video"]]: row["p_fake"] for part in ("test", "seen") for row in content[part]}
        scores += held_out_scores(data, fold, number, p_fake)
    run_dir = folders[0].parent
    families = tuple(left_out_families(folds))
    hash_of_folds = folds_hash(data, folds)
    beside, missing = figures_beside(data, run_dir, by, families, hash_of_folds, seed=split.seed, repeats=repeats)
    return LeftOutRun(
        run_dir=str(run_dir),
        data_dir=stored_path(data.path, run_dir),
        by=column_name(by),
        families=families,
        scores=tuple(scores),
        folds_hash=hash_of_folds,
        videos_hash=videos_hash(data),
        beside=beside,
        missing=missing,
        result=measure_left_out(scores, families, repeats=repeats, seed=split.seed),
        protocol=protocol,
    )


def figures_beside(
    data: PreparedData,
    run_dir: Path,
    by: str,
    families: Sequence[LeftOutFamily],
    hash_of_folds: str,
    *,
    seed: int = 0,
    repeats: int = REPEATS,
) -> tuple[dict[str, LeftOutResult], tuple[str, ...]]:
    """What file facts and baselines reach under the same folds, and the commands that measure what is lacking.

    Args:
        data: Prepared data, which holds their files.
        run_dir: Folder of the run.
        by: What was left out.
        families: Of the folds.
        hash_of_folds: From `folds_hash`.
        seed: Of the intervals.
        repeats: Resamples of the intervals.
    """
    beside, missing = {}, []
    for kind, title in TITLES.items():
        scores = read_left_out_scores(data, kind, by, hash_of_folds)
        if scores:
            beside[title] = measure_left_out(scores, families, repeats=repeats, seed=seed)
        else:
            missing.append(f"{title}: {left_out_command(data, kind, str(run_dir / CONFIG_FILE))}")
    return beside, tuple(missing)


def read_left_out(run_dir: Path, data: PreparedData, *, repeats: int = REPEATS) -> LeftOutRun:
    """The joined folds of a finished run.

    Args:
        run_dir: Folder of the run, with `left_out.json`.
        data: What it was trained on, for what was measured beside it.
        repeats: Resamples of the intervals.
    Raises:
        DataError: The folder holds no such run, it is unfinished, or the data are others by now.
    """
    content = read_left_out_json(run_dir)
    families = tuple(LeftOutFamily(f["name"], tuple(f["members"]), tuple(f["folds"])) for f in content["families"])
    scores = tuple(HeldOutScore.from_json(row) for row in content["videos"])
    if content["videos_hash"] != videos_hash(data):
        raise DataError(
            f"{run_dir}: was trained on other videos than {data.path} holds now",
            fix="give the data it was trained on with --data, or train again",
        )
    beside, missing = figures_beside(data, run_dir, content["by"], families, content["folds_hash"], repeats=repeats)
    return LeftOutRun(
        run_dir=str(run_dir),
        data_dir=content["data"],
        by=content["by"],
        families=families,
        scores=scores,
        folds_hash=content["folds_hash"],
        videos_hash=content["videos_hash"],
        beside=beside,
        missing=missing,
        result=measure_left_out(scores, families, repeats=repeats),
        protocol=Protocol.from_json(content.get("protocol")),
    )


def read_left_out_json(run_dir: Path) -> Mapping[str, Any]:
    """Content of a run's `left_out.json`.

    Raises:
        DataError: It is not there, or not what `dfkit train --leave-out` writes.
    """
    path = run_dir / LEFT_OUT_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != LEAVE_OUT_RUN or content["schema_version"] > SCHEMA_VERSION:
            raise ValueError(f"kind {content['kind']}, schema version {content['schema_version']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not the joined folds of a run that leaves families out ({error})",
            fix=f"dfkit train --leave-out method, or finish the run: dfkit train --resume {run_dir}",
        ) from error
    return content
