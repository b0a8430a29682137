"""Videos without labels in training: a teacher labels those that it is sure of, and is trained anew with them.

Round 0 is a teacher of the labelled videos alone. In each round after it the newest teacher answers all unlabelled
videos by the rule of `dfkit.measures.decision`; those whose calibrated probability reaches the confidence get that
label, as many of each class as of the rarer one, and a new teacher starts from its first weights. Labels are chosen
anew in each round, so that an early mistake can be taken back. The last round's teacher is the run's. Its control is
trained on the same videos with their labels shuffled: what that gains as well is not due to the labels.

Source: Lee 2013, Pseudo-Label; in rounds with the surest first: Xie et al. 2020, arXiv:1911.04252, section 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dfkit.config import Config, UnlabelledConfig
from dfkit.console import note
from dfkit.data.joined import JoinedData
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import DataError
from dfkit.files import copy_file, read_json_object, write_atomically
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.recorder import RESUME_FILE
from dfkit.training.refit import choosing_folder
from dfkit.training.run_summary import BEST_FILE, RESULTS_FILE, RunSummary, format_metric, read_run, video_auc
from dfkit.training.scoring import split_facts
from dfkit.training.seen_groups import START
from dfkit.training.unlabelled import (
    Answered,
    Unlabelled,
    answer_videos,
    choose_labels,
    count_right,
    open_unlabelled,
    shuffled,
)
from dfkit.workspace import stored_path

PLAN_FILE, CONFIG_FILE = "pseudo_labels.json", "config.json"
SCHEMA_VERSION = 1


class TrainRound(Protocol):
    """Trains one teacher, as `dfkit.training.train.train_once` does."""

    def __call__(
        self,
        data: PreparedData,
        indices: dict[str, list[int]],
        run_dir: Path,
        config: Config,
        *,
        resume: bool = False,
        judged: PreparedData | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> RunSummary: ...


def first_folder(run_dir: Path) -> Path:
    """Where a run began to train: the folder of its round 0, that of its first of two trainings, or its own."""
    folder = round_folder(run_dir, 0)
    return folder if folder.is_dir() else choosing_folder(run_dir)


def round_folder(run_dir: Path, number: int) -> Path:
    """Folder of a round's teacher."""
    return run_dir / f"round_{number}"


@dataclass(frozen=True)
class Plan:
    """`pseudo_labels.json`: which videos a run has labelled so far, so that it goes on with the same."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def open(cls, run_dir: Path, data: PreparedData, unlabelled: Unlabelled) -> Plan:
        """That of a run, or a new one.

        Raises:
            DataError: The run was started with other videos than these.
        """
        path = run_dir / PLAN_FILE
        hashes = {"data": videos_hash(data), "unlabelled": [videos_hash(source) for source in unlabelled.sources]}
        found = read_json_object(path)
        if found is not None and found.get("videos_hashes") != hashes:
            raise DataError(
                f"{run_dir}: was started with other labelled or unlabelled videos than there are now",
                fix="resume with the data it was started with, or start a new run",
            )
        named = [stored_path(source.path, run_dir) for source in unlabelled.sources]
        head = {"schema_version": SCHEMA_VERSION, "unlabelled": named, "videos_hashes": hashes, "rounds": {}}
        return cls(path, found or head)

    def labels(self, number: int) -> dict[str, int] | None:
        """Labels of a round by SHA-256; None where they were not chosen yet."""
        stored = self.content["rounds"].get(str(number))
        return None if stored is None else {row["sha256"]: row["label"] for row in stored["videos"]}

    def facts(self, number: int) -> dict[str, Any]:
        """Counts of a round."""
        return {name: value for name, value in self.content["rounds"][str(number)].items() if name != "videos"}

    def store(
        self, number: int, labels: Mapping[str, int], facts: Mapping[str, Any], answers: Sequence[Answered]
    ) -> None:
        """Keeps a round's labels and counts."""
        videos = [
            {"sha256": each.sha256, "label": labels[each.sha256], "p_fake": round(each.p_fake, 6)}
            for each in answers
            if each.sha256 in labels
        ]
        self.content["rounds"][str(number)] = {**facts, "videos": videos}
        write_atomically(self.path, json.dumps(self.content, indent=1))


@dataclass(frozen=True)
class Rounds:
    """What all rounds of a run share."""

    data: PreparedData
    indices: dict[str, list[int]]
    run_dir: Path
    config: Config
    unlabelled: Unlabelled
    train_round: TrainRound

    @property
    def section(self) -> UnlabelledConfig:
        """Of the configuration."""
        return self.config.train.unlabelled

    def train(
        self, folder: Path, labels: Mapping[str, int], *, earlier: Mapping[str, int], facts: Mapping[str, Any]
    ) -> RunSummary:
        """Trains a teacher with pseudo-labelled videos in a folder; one that is finished there is read.

        Args:
            folder: Of its run; made where it is not there.
            labels: By SHA-256; may be empty.
            earlier: Labels by which the teachers before it were trained, through whose answers it knows them.
            facts: Stored in its checkpoints.
        """
        if (run := read_run(folder)) is not None:
            note(f"{folder.name}: finished before")
            return run
        folder.mkdir(exist_ok=True)
        data, indices = self.data, self.indices
        if labels:
            data = JoinedData(self.data, self.unlabelled.added(labels))
            indices = {**indices, "train": [*indices["train"], *data.added_clips]}
        note(f"{folder.name}: training on {len(indices['train'])} clips")
        resume = (folder / RESUME_FILE).is_file()
        facts = {"pseudo_labels": dict(facts), "splits": self._seen_before(earlier)}
        return self.train_round(data, indices, folder, self.config, resume=resume, judged=self.data, facts=facts)

    def _seen_before(self, labels: Mapping[str, int]) -> dict[str, Any]:
        if not labels:
            return {}
        before = JoinedData(self.data, self.unlabelled.added(labels))
        return split_facts(before, {START: before.added_clips})

    def next_labels(self, plan: Plan, number: int, teacher: RunSummary) -> dict[str, int]:
        """The labels of a round: those it was begun with, else what the newest teacher is sure of."""
        if (stored := plan.labels(number)) is not None:
            return stored
        answers = answer_videos(teacher.checkpoint, self.unlabelled, self.config.train)
        labels, sure = choose_labels(answers, self.section.confidence)
        calibration = (Decision.from_facts(load_checkpoint(teacher.checkpoint).facts) or Decision()).calibration
        facts = {
            "round": number,
            "answered": len(answers),
            "sure": sure,
            "taken": len(labels),
            **count_right(labels, self.unlabelled),
            "calibration": calibration.fitted_on,
        }
        plan.store(number, labels, facts, answers)
        return labels


def train_in_rounds(
    data: PreparedData, indices: dict[str, list[int]], run_dir: Path, config: Config, *, train_round: TrainRound
) -> RunSummary:
    """Trains a teacher with unlabelled videos; what is finished in the folder is kept, what was cut off goes on.

    Args:
        data: Labelled.
        indices: Clip indices of its parts.
        run_dir: Existing folder; gets `round_0` and so on, `control`, `pseudo_labels.json`, and the files of the last
            round's teacher.
        config: The experiment, with `train.unlabelled`.
        train_round: Trains one teacher.
    Returns:
        The last round's teacher, with counts and metrics of all rounds in `pseudo_labels`.
    Raises:
        ConfigError: The unlabelled videos were prepared under another clip contract.
        DataError: They hold persons or videos of a judged part, nothing new, or others than the run was started with.
    """
    unlabelled = open_unlabelled(config.train.unlabelled.folders, data, indices)
    plan = Plan.open(run_dir, data, unlabelled)
    write_atomically(run_dir / CONFIG_FILE, config.to_json_text(indent=2))
    rounds = Rounds(data, indices, run_dir, config, unlabelled, train_round)
    run = rounds.train(round_folder(run_dir, 0), {}, earlier={}, facts={"round": 0})
    rows = [{"round": 0, **_aucs(run)}]
    labels: dict[str, int] = {}
    seen: dict[str, int] = {}
    seconds = run.seconds
    for number in range(1, config.train.unlabelled.rounds + 1):
        chosen = rounds.next_labels(plan, number, run)
        facts = plan.facts(number)
        note(_count_line(facts, config.train.unlabelled.confidence))
        if not chosen:
            rows.append(facts)
            break
        labels = chosen
        run = rounds.train(round_folder(run_dir, number), labels, earlier=seen, facts=facts)
        seen, seconds = {**seen, **labels}, seconds + run.seconds
        rows.append({**facts, **_aucs(run)})
    control = _control(rounds, labels, seen) if config.train.unlabelled.control and labels else None
    return _finish(rounds, run, rows, control, seconds)


def _control(rounds: Rounds, labels: Mapping[str, int], seen: Mapping[str, int]) -> dict[str, Any]:
    dealt = shuffled(labels, rounds.config.train.seed)
    facts = {"control": True, "taken": len(dealt), **count_right(dealt, rounds.unlabelled)}
    return {**facts, **_aucs(rounds.train(rounds.run_dir / "control", dealt, earlier=seen, facts=facts))}


def _finish(
    rounds: Rounds, run: RunSummary, rows: list[dict[str, Any]], control: dict[str, Any] | None, seconds: float
) -> RunSummary:
    """Copies the last teacher's files into the folder of the run, and writes its summary there."""
    for path in sorted(Path(run.run_dir).iterdir()):
        if path.is_file() and path.name != RESUME_FILE:
            copy_file(path, rounds.run_dir / path.name)
    unlabelled = rounds.unlabelled
    facts = {
        "unlabelled": [source.path for source in unlabelled.sources],
        "videos": unlabelled.num_videos,
        "known_already": unlabelled.num_known,
        "confidence": rounds.section.confidence,
        "rounds": rows,
        "control": control,
    }
    lines = _lines(facts)
    if not (unlabelled.groups_known and rounds.data.groups_known):
        lines.append("groups unknown: persons of the validation and test part may be among the unlabelled videos")
    summary = replace(
        run,
        run_dir=str(rounds.run_dir),
        checkpoint=str(rounds.run_dir / BEST_FILE),
        seconds=seconds,
        notes=(*run.notes, *lines),
        pseudo_labels=facts,
    )
    write_atomically(rounds.run_dir / RESULTS_FILE, json.dumps(summary.to_json(), indent=2))
    return summary


def _aucs(run: RunSummary) -> dict[str, float | None]:
    return {f"{part}_auc": video_auc(run, part) for part in ("val", "test")}


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """Counts and metrics of all rounds, one line each."""
    lines = [f"pseudo-labels: {facts['videos']} unlabelled videos, {facts['known_already']} more are labelled already"]
    for row in facts["rounds"]:
        if row["round"] == 0:
            lines.append(f"labelled videos alone: {_auc_text(row)}")
            continue
        line = _count_line(row, facts["confidence"])
        lines.append(f"{line}; {_auc_text(row)}" if "val_auc" in row else f"{line}; the teacher before it is kept")
    if (control := facts["control"]) is not None:
        lines.append(
            f"control, the same {control['taken']} under shuffled labels{_right(control)}: {_auc_text(control)}"
        )
    return lines


def _count_line(row: Mapping[str, Any], confidence: float) -> str:
    sure = " and ".join(f"{count} {name}" for name, count in row["sure"].items())
    calibrated = f" ({row['calibration']})" if row["calibration"].startswith("not fitted") else ""
    counts = f"of {row['answered']} videos {sure} reach {confidence:g}{calibrated}, {row['taken']} taken"
    return f"round {row['round']}: {counts}{_right(row)}"


def _right(row: Mapping[str, Any]) -> str:
    return f", {row['right']} of the {row['known']} whose label is known are right" if row["known"] else ""


def _auc_text(row: Mapping[str, Any]) -> str:
    return f"video AUC validation {format_metric(row['val_auc'])}, test {format_metric(row['test_auc'])}"
