"""Nested k-fold: each fold is a training run of its own, in this process, in several, or on a Ray cluster.

Every video is in the test part of one fold. That part is touched once, after stopping, calibration and threshold
were fixed on the fold's validation part. A fold that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dfkit.audit.findings import findings_notes
from dfkit.config import Config, SplitConfig, upgrade
from dfkit.console import note
from dfkit.data.fold_table import format_folds
from dfkit.data.label_table import column_name
from dfkit.data.leave_out import LeaveOutPlan, leave_out_folds
from dfkit.data.protocols import folds_part, left_out_part, protocol_of
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError
from dfkit.files import write_atomically
from dfkit.measures import metrics as measures
from dfkit.measures.bootstrap import group_bootstrap
from dfkit.measures.finite import finite_or_none
from dfkit.measures.protocol import Protocol, stated_protocol
from dfkit.measures.spread import spread
from dfkit.original.results import KFOLD_FILE, write_kfold_results
from dfkit.processes import RAY_RETRIES, WorkerDiedError, map_processes, map_ray
from dfkit.training.fit import different_keys, refuse_other_config
from dfkit.training.left_out import LEFT_OUT_FILE, LeftOutRun, join_left_out
from dfkit.training.original_checkpoints import LOGGED_NAMES, reserve_checkpoint_folders
from dfkit.training.recorder import METRICS_FILE, RESUME_FILE
from dfkit.training.refit import choosing_folder
from dfkit.training.run_summary import format_metric
from dfkit.training.scoring import split_facts
from dfkit.training.train import refuse_unsaveable, require_clip_spec, set_threads, train_on_split
from dfkit.training.video_scores import SCORES_FILE
from dfkit.workspace import LEAVE_OUT_RUN, Workspace, stored_path

Executor = Literal["local", "ray"]
CONFIG_FILE, PLAN_FILE, RESULT_FILE, SUMMARY_FILE = "config.json", "folds.json", "results.json", "kfold.json"
SAME_GENERATORS = "the folds share their generators: dfkit train --leave-out method measures unseen ones"
MEASURES = ("auc", "balanced_accuracy", "accuracy", "mcc", "f1", "eer", "tpr_at_1_fpr", "tpr_at_5_fpr", "ece")


@dataclass(frozen=True)
class FoldJob:
    """One fold, in a form that can be sent to another process."""

    data_dir: str
    run_dir: str
    config_json: str
    """The experiment with `split.fold` set: a copy of its own, so no fold can change another's."""
    num_threads: int | None = None
    """CPU threads for torch in place of the configuration's."""

    @property
    def fold(self) -> int:
        """Number of the fold, from 1 on."""
        return int(Config.from_json_text(self.config_json).split.fold or 0)


@dataclass(frozen=True)
class KfoldSummary:
    """Metrics of a finished k-fold run: by fold, over folds, and pooled."""

    data_dir: str
    run_dir: str
    folds: tuple[dict[str, Any], ...]
    """`RunSummary.to_json()` of each fold, by number."""
    test: dict[str, dict[str, float | None]]
    """Per metric of the test parts, by video: `mean` and `std` over folds, the sample's (ddof 1)."""
    pooled: dict[str, Any]
    """AUC of all test predictions together, each by the one model that had not seen the video, with its interval."""
    notes: tuple[str, ...] = ()
    """The baseline's comparison and the audit's warnings."""
    left_out: LeftOutRun | None = None
    """Of folds that leave families out: what the models are worth on these, beside those that they saw."""

    def summary(self) -> list[str]:
        """The summary as lines of text."""
        lines = [f"{len(self.folds)} folds on {self.data_dir} -> {self.run_dir}"]
        for number, fold in enumerate(self.folds, start=1):
            video = fold["metrics"]["test"]["video"]
            lines.append(
                f"fold {number}: test video AUC {format_metric(video['auc'])}, balanced accuracy "
                f"{format_metric(video['balanced_accuracy'])} ({fold['metrics']['test']['videos']} videos, "
                f"{fold['metrics']['test']['groups']} groups), best epoch {fold['best_epoch'] + 1}"
            )
        if self.left_out is not None:
            return [*lines, *self.left_out.summary(), f"dfkit evaluate --run {self.run_dir} writes the page"]
        means = ", ".join(
            f"{name.replace('_', ' ')} {format_metric(value['mean'])} ± {format_metric(value['std'])}"
            for name, value in self.test.items()
        )
        lines.append(f"test, mean ± standard deviation over folds (ddof 1): {means}")
        lines += [f"pooled over folds: {self.pooled['text']}", stated_protocol(self.pooled)]
        lines.append(SAME_GENERATORS)
        warnings = [fold["metrics"]["test"].get("warning") for fold in self.folds]
        return [*lines, *sorted({text for text in warnings if text}), *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Content of `kfold.json`."""
        left_out = None if self.left_out is None else self.left_out.result.to_json()
        return {**vars(self), "folds": list(self.folds), "notes": list(self.notes), "ddof": 1, "left_out": left_out}


def train_folds(
    data_dir: str | Path,
    workspace: Workspace,
    config: Config,
    *,
    executor: Executor = "local",
    num_processes: int = 1,
    resume: str | Path | None = None,
) -> KfoldSummary:
    """Trains `split.folds` teachers, each tested on the videos that the others trained on.

    Args:
        data_dir: Prepared data with labels of both classes.
        workspace: Gets `runs/<name>/fold_1/` and so on, `kfold.json`, and `kfold_results.json` in the original's
            shape.
        config: The experiment; `split.folds` says how many.
        executor: `local`, or `ray` for the cluster that `RAY_ADDRESS` names, or one started here.
        num_processes: Folds at once; above 1 (and on Ray) each runs on one CPU thread in a process of its own.
        resume: Run folder to go on with: finished folds are kept.
    Raises:
        DataError: The data cannot be split so, or is not the data that the run was started on.
        ConfigError: No number of folds, or another configuration than the run was started with.
    """
    data = PreparedData(data_dir)
    require_clip_spec(data.spec, config.clip, str(data_dir))
    configs = fold_configs(config, data)
    # All folds are cut before the first is trained: one that lacks a class is refused now, not after hours.
    refuse_unsaveable(config.train, data.spec)
    plan = _plan(data, configs)
    if config.split.leave_out is not None:
        folds = leave_out_folds(data, config.split.leave_out, val_share=config.split.val_share, seed=config.split.seed)
        for line in format_folds(data, folds):
            note(line)
    if resume is None:
        run_dir = workspace.new_run_dir(config.name, "kfold" if config.split.leave_out is None else LEAVE_OUT_RUN)
        write_atomically(run_dir / CONFIG_FILE, config.to_json_text(indent=2))
        stored = {**plan, "data": stored_path(data.path, run_dir)}
        write_atomically(run_dir / PLAN_FILE, json.dumps(stored, indent=2))
    else:
        run_dir = Path(resume)
        _refuse_other_run(run_dir, config, plan)
    in_own_process = executor == "ray" or num_processes > 1
    jobs = []
    folders = [run_dir / f"fold_{number}" for number in range(1, len(configs) + 1)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    reserve_checkpoint_folders(config.train, folders, by_fold=True)
    for number, (fold_config, folder) in enumerate(zip(configs, folders, strict=True), start=1):
        if (folder / RESULT_FILE).is_file():
            note(f"fold {number} of {len(configs)}: finished before")
            continue
        jobs.append(
            FoldJob(str(data_dir), str(folder), fold_config.to_json_text(), num_threads=1 if in_own_process else None)
        )
    for number in run_jobs(jobs, executor=executor, num_processes=num_processes):
        note(f"fold {number} of {len(configs)}: finished")
    summary = summarize_folds(run_dir, str(data.path), len(configs), config.split)
    workspace.finish_run(run_dir, folds=len(configs), results=SUMMARY_FILE)
    return summary


def fold_configs(config: Config, data: PreparedData | None = None) -> list[Config]:
    """One deep copy of the experiment per fold, with its number.

    Args:
        config: The experiment.
        data: What is folded; only where `split.leave_out` is set, whose number of folds depends on it.
    Raises:
        ConfigError: Neither `split.folds` nor `split.leave_out` is set.
        DataError: The data cannot be folded so.
    """
    split = config.split
    count = split.folds
    if split.leave_out is not None:
        assert data is not None, "families are counted in the data"
        count = LeaveOutPlan(data, split.leave_out, val_share=split.val_share, seed=split.seed).num_folds
    if count is None:
        raise ConfigError("split.folds is not set", fix="dfkit train --kfold 5, or --leave-out method")
    content = config.model_dump(mode="json")
    configs = []
    for number in range(1, count + 1):
        content["split"]["fold"] = number
        configs.append(Config.model_validate(content).model_copy(deep=True))
    return configs


def _plan(data: PreparedData, configs: Sequence[Config]) -> dict[str, Any]:
    folds = [split_facts(data, split_clips(data, config.split)) for config in configs]
    return {"data": data.path, "folds": folds}


def _refuse_other_run(run_dir: Path, config: Config, plan: dict[str, Any]) -> None:
    try:
        before, _ = upgrade(json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8")))
        folds = json.loads((run_dir / PLAN_FILE).read_text(encoding="utf-8"))["folds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{run_dir}: not a k-fold run ({error})", fix="start a new one: dfkit train --kfold 5"
        ) from error
    changed = different_keys(before, config.model_dump(mode="json"))
    if changed:
        raise ConfigError(
            f"{run_dir}: was started with another configuration; different: {', '.join(changed)}",
            fix=f"resume with --config {run_dir / CONFIG_FILE}, or start a new run",
        )
    if not _same_folds(folds, json.loads(json.dumps(plan["folds"]))):
        raise DataError(
            f"{run_dir}: was started on other data than {plan['data']}: the folds come out differently",
            fix="give the data it was started on with --data, or start a new run",
        )


def _same_folds(before: Any, now: list[dict[str, Any]]) -> bool:
    """Whether folds are as they were planned; facts that an older dfkit did not store are not compared."""
    if not isinstance(before, list) or len(before) != len(now):
        return False
    pairs = zip(before, now, strict=True)
    return all(
        old.keys() == new.keys() and all(facts.items() <= new[part].items() for part, facts in old.items())
        for old, new in pairs
    )


def run_jobs(jobs: Sequence[FoldJob], *, executor: Executor, num_processes: int) -> Iterator[int]:
    """Numbers of the folds as they get finished."""
    if executor == "ray":
        yield from _run_on_ray(jobs, num_processes)
    elif num_processes > 1:
        yield from _run_processes(jobs, num_processes)
    else:
        for job in jobs:
            yield train_fold(job)


def train_fold(job: FoldJob) -> int:
    """Trains one fold into its folder, from its last whole epoch on; a pure function of the job.

    Returns:
        The fold's number.
    """
    config = Config.from_json_text(job.config_json)
    threads_before = torch.get_num_threads()
    set_threads(job.num_threads or config.train.num_threads)
    data = PreparedData(job.data_dir)
    folder = Path(job.run_dir)
    resume = (folder / RESUME_FILE).is_file()
    if resume:
        refuse_other_config(folder, config)
    try:
        train_on_split(data, split_clips(data, config.split), folder, config, resume=resume)
    finally:
        torch.set_num_threads(threads_before)
    return job.fold


def _run_processes(
    jobs: Sequence[FoldJob], num_processes: int, function: Callable[[FoldJob], int] = train_fold
) -> Iterator[int]:
    try:
        # After Ctrl-C or an error nobody waits for the other folds; their finished epochs are on disk.
        for _, number in map_processes(function, jobs, num_processes):
            yield number
    except WorkerDiedError as error:
        unfinished = ", ".join(str(job.fold) for job in jobs if not (Path(job.run_dir) / RESULT_FILE).is_file())
        raise DataError(
            f"the process of a fold was ended from outside (killed for its memory?); unfinished are {unfinished}",
            fix=f"dfkit train --resume {Path(jobs[0].run_dir).parent}, with fewer --jobs",
        ) from error


def _run_on_ray(jobs: Sequence[FoldJob], num_processes: int) -> Iterator[int]:
    def refuse(job: FoldJob) -> int:
        raise DataError(
            f"fold {job.fold}: its worker was ended {RAY_RETRIES + 1} times; finished epochs are kept",
            fix=f"dfkit train --resume {Path(job.run_dir).parent} --executor ray",
        )

    # A fold whose worker was killed goes on elsewhere from its last whole epoch.
    absolute = [_absolute(job) for job in jobs]
    for _, number in map_ray(train_fold, absolute, num_processes, on_worker_death=refuse):
        yield number


def _absolute(job: FoldJob) -> FoldJob:
    data_dir = job.data_dir if "://" in job.data_dir else str(Path(job.data_dir).resolve())
    return FoldJob(data_dir, str(Path(job.run_dir).resolve()), job.config_json, job.num_threads)


def summarize_folds(run_dir: Path, data_dir: str, count: int, split: SplitConfig | None = None) -> KfoldSummary:
    """Summarizes finished folds; writes `kfold.json` and `kfold_results.json`, and `left_out.json` of folds that leave
    families out.

    Args:
        run_dir: Folder of the k-fold run.
        data_dir: Prepared data.
        count: Number of folds.
        split: How they were cut; plain folds where left out.
    """
    folders = [run_dir / f"fold_{number}" for number in range(1, count + 1)]
    folds = tuple(json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")) for folder in folders)
    tests = [fold["metrics"]["test"]["video"] for fold in folds]
    pooled, data = pool_folds(folders), PreparedData(data_dir)
    protocol = folds_protocol(data, run_dir, folds, split)
    pooled["protocol"] = protocol.to_json()
    left_out = None
    if split is not None and split.leave_out is not None:
        left_out = join_left_out(data, split, split.leave_out, folders, protocol=protocol)
        write_atomically(run_dir / LEFT_OUT_FILE, json.dumps(left_out.to_json(), indent=2, allow_nan=False))
    summary = KfoldSummary(
        data_dir=data_dir,
        run_dir=str(run_dir),
        folds=folds,
        test={name: spread([test[name] for test in tests]).to_json() for name in MEASURES},
        pooled=pooled,
        notes=()
        if left_out is not None
        else findings_notes(data, pooled["auc"], sorted({clip.video_index for clip in data.clips})),
        left_out=left_out,
    )
    write_kfold_results(
        run_dir / KFOLD_FILE,
        [original_fold(number, folder) for number, folder in enumerate(folders, start=1)],
    )
    write_atomically(run_dir / SUMMARY_FILE, json.dumps(summary.to_json(), indent=2, allow_nan=False))
    return summary


def folds_protocol(
    data: PreparedData, run_dir: Path, folds: Sequence[dict[str, Any]], split: SplitConfig | None
) -> Protocol:
    """The protocol of test figures over folds: every video, by the model of the fold that left it out."""
    config, _ = upgrade(json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8")))
    part = folds_part(len(folds), config["split"]["seed"])
    if split is not None and split.leave_out is not None:
        part = left_out_part(len(folds), column_name(split.leave_out), split.seed)
    rules = {fold["metrics"]["test"].get("protocol", {}).get("aggregation") for fold in folds} - {None}
    return protocol_of(
        data,
        {clip.video_index for clip in data.clips},
        part=part,
        aggregation=" or ".join(sorted(rules)) or "aggregation not stated",
    )


def pool_folds(folders: Sequence[Path]) -> dict[str, Any]:
    """AUC over the test predictions of all folds, with a 95 % interval over groups.

    Models of different folds share one ranking here: the figure is lower than their mean where their scales differ.
    """
    rows: list[dict[str, Any]] = []
    for folder in folders:
        rows += json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))["test"]
    labels = np.array([row["label"] for row in rows])
    p_fake = np.array([row["p_fake"] for row in rows])
    interval = group_bootstrap(
        [row["group"] for row in rows], lambda places: measures.auc(labels[places], p_fake[places])
    )
    if math.isfinite(interval.low):
        interval_text = f"95 % interval {interval.low:.3f} to {interval.high:.3f}"
    else:
        interval_text = f"no interval: {interval.reason}"
    counts = f"{len(rows)} videos, {interval.num_groups} groups"
    return {
        "auc": finite_or_none(interval.value),
        "low": finite_or_none(interval.low),
        "high": finite_or_none(interval.high),
        "level": interval.level,
        "videos": len(rows),
        "groups": interval.num_groups,
        "repeats": interval.repeats,
        "text": f"test video AUC {format_metric(interval.value)} ({interval_text}; {counts})",
    }


def original_fold(number: int, folder: Path) -> dict[str, Any]:
    """A fold's row of the original's `kfold_results.json`, from the metrics that its best epoch logged.

    Args:
        number: Of the fold, from 1 on.
        folder: Of the fold's run.
    """
    folder = choosing_folder(folder)
    best = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))["best_epoch"]
    lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    # An epoch that was begun before a kill and done again after it stands there twice: the later one counts.
    row_of_epoch = {row["epoch"]: row for row in map(json.loads, lines)}
    row = row_of_epoch[best]
    values = {f"best_val_{name}": finite_or_none(row.get(logged)) for name, logged in LOGGED_NAMES.items()}
    return {"fold": number, **values, "best_epoch": best}
