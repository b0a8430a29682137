"""Students of teachers that never saw a family of fakes, judged on it: distilled, from scratch, only pruned, INT8.

    python -m tools.folds.left_out --data data/videos --config experiment.yaml --workspace trial --seeds 3 --jobs 2

The configuration names `split.leave_out`. Its teachers are those of `dfkit train`, made where they are not there; every
fold's teacher is distilled with the configuration's `distill`, beside the same student from scratch and only pruned, at
equal steps, and exported. All are compared with the teacher, paired over the same resamples of groups. Of several seeds
each is an experiment of its own, in teachers and students alike, on the same folds; what is finished is not made
again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfkit.config import Config
from dfkit.data.leave_out import LeaveOutFold, held_out_scores, leave_out_folds, left_out_families
from dfkit.data.storage import PreparedData
from dfkit.evaluation.scores_file import SCORES_FILE, read_scores
from dfkit.experiment import read_config
from dfkit.measures.bootstrap import Interval
from dfkit.measures.decision import judge
from dfkit.measures.left_out import HeldOutScore, LeftOutFamily, compare_left_out, interval_facts, measure_left_out
from dfkit.measures.spread import spread
from tools.folds.commands import dfkit, export_int8, fold_config, fold_name, seed_config

TEACHER, STUDENT, INT8 = "teacher", "student", "INT8 student"
BASELINES = {"from scratch": "baseline_scratch", "only pruned": "baseline_prune_only"}
Answers = dict[str, float]
"""p_fake by path of the video."""


def answers_of_run(folder: Path) -> Answers:
    """What the best epoch of a run says of its test videos."""
    content = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))
    return {row["video"]: row["p_fake"] for row in content["test"]}


def answers_of_report(folder: Path) -> Answers:
    """What a model said in an evaluation."""
    scores = read_scores(folder / SCORES_FILE)
    return {video.video: judge(video.clips.scores, scores.decision.decision).p_fake for video in scores.videos}


def train_teachers(config: Path, data: Path, workspace: Path, jobs: int) -> None:
    """Trains the teachers of all folds, or goes on with them.

    Args:
        config: Experiment of one seed.
        data: Prepared data.
        workspace: Gets the run.
        jobs: Folds at once.
    """
    run = workspace / "runs" / read_config(config).name
    if not (run / "kfold.json").is_file():
        begun = ("--resume", run) if run.is_dir() else ()
        common = ("--data", data, "--workspace", workspace, "--config", config)
        dfkit("train", *common, "--jobs", jobs, *begun)


def distil_fold(config: Path, data: Path, workspace: Path, fold: int) -> None:
    """Distils a fold's teacher, beside the students that it is compared with, unless that is done."""
    own = fold_config(config, workspace, fold, baselines=True)
    student = workspace / "runs" / own.stem
    if not (student / "results.json").is_file():
        teacher = workspace / "runs" / read_config(config).name / f"fold_{fold}" / "best.pth"
        begun = ("--resume", student) if student.is_dir() else ()
        common = ("--data", data, "--workspace", workspace, "--config", own)
        dfkit("distill", "--teacher", teacher, *common, *begun)


def judge_int8(config: Path, data: Path, workspace: Path, fold: int) -> None:
    """Exports a fold's student and lets the bundle answer the fold's test videos, unless that is done."""
    own = fold_config(config, workspace, fold, baselines=True)
    bundle, report = workspace / "exports" / own.stem, int8_report(workspace, own.stem)
    common = ("--data", data, "--workspace", workspace)
    export_int8(workspace / "runs" / own.stem / "best.pth", bundle, *common, "--config", own)
    if not (report / SCORES_FILE).is_file():
        dfkit("evaluate", "--bundle", bundle, *common, "--output", report)


def int8_report(workspace: Path, name: str) -> Path:
    """Where what the bundle of a fold's experiment says is kept."""
    return workspace / "reports" / f"{name}-int8"


def read_answers(config: Path, workspace: Path, fold: int) -> dict[str, Answers]:
    """What all models of a fold that are there say of its test videos."""
    own = fold_name(config, fold)
    student = workspace / "runs" / own
    runs = {TEACHER: workspace / "runs" / read_config(config).name / f"fold_{fold}", STUDENT: student}
    runs |= {name: student / folder for name, folder in BASELINES.items() if (student / folder).is_dir()}
    found = {name: answers_of_run(folder) for name, folder in runs.items()}
    report = int8_report(workspace, own)
    return found | ({INT8: answers_of_report(report)} if report.is_dir() else {})


def fold_scores(data: PreparedData, fold: LeaveOutFold, number: int, answers: Answers) -> list[HeldOutScore]:
    """A fold's answers to its test videos."""
    p_fake = {index: answers[row.path] for index, row in enumerate(data.videos) if row.path in answers}
    return held_out_scores(data, replace(fold, seen=()), number, p_fake)


def seed_figures(
    seed: int, scores: dict[str, list[HeldOutScore]], families: Sequence[LeftOutFamily]
) -> dict[str, dict[str, Any]]:
    """Prints and returns the figures of each model of one seed."""
    figures = {}
    for name, found in scores.items():
        result = measure_left_out(found, families)
        less = compare_left_out(found, scores[TEACHER], families)
        print(f"seed {seed}, {name}: mean {figure(result.mean)}, worst {figure(result.worst)} ", end="")
        print(f"{result.worst_family}; less the teacher {figure(less)}")
        figures[name] = {**result.to_json(), "less_teacher": interval_facts(less)}
    return figures


def figure(interval: Interval) -> str:
    """An interval as text."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def main() -> None:
    """Makes what is not there yet, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1, help="from the configuration's own on")
    parser.add_argument("--jobs", type=int, default=1, help="commands at once, each on one thread")
    parser.add_argument("--no-int8", action="store_true", help="export nothing: where the converter is not installed")
    options = parser.parse_args()
    data, workspace, jobs = options.data, options.workspace, options.jobs
    experiment: Config = read_config(options.config)
    split = experiment.split
    if split.leave_out is None:
        raise SystemExit(f"{options.config}: split.leave_out is missing. Fix: name a family, such as method")
    prepared = PreparedData(data)
    folds = leave_out_folds(prepared, split.leave_out, val_share=split.val_share, seed=split.seed)
    numbers = range(1, len(folds) + 1)
    seeds = range(experiment.train.seed, experiment.train.seed + options.seeds)
    configs = [seed_config(options.config, workspace, seed) for seed in seeds]
    with ThreadPoolExecutor(jobs) as pool:
        at_once = max(1, jobs // len(configs))
        list(pool.map(lambda config: train_teachers(config, data, workspace, at_once), configs))
        list(pool.map(lambda each: distil_fold(each[0], data, workspace, each[1]), each_fold(configs, numbers)))
        if not options.no_int8:
            list(pool.map(lambda each: judge_int8(each[0], data, workspace, each[1]), each_fold(configs, numbers)))
    families = left_out_families(folds)
    figures = {}
    for seed, config in zip(seeds, configs, strict=True):
        scores: dict[str, list[HeldOutScore]] = {}
        for number, fold in zip(numbers, folds, strict=True):
            for name, answers in read_answers(config, workspace, number).items():
                scores.setdefault(name, []).extend(fold_scores(prepared, fold, number, answers))
        figures[seed] = seed_figures(seed, scores, families)
    if len(figures) > 1:
        for name in figures[seeds[0]]:
            means, worst = ([each[name][key]["value"] for each in figures.values()] for key in ("mean", "worst"))
            print(f"{name}: mean {spread(means).text()} over seeds, worst family of any {min(worst):.2f}")
    print(json.dumps(figures))


def each_fold(configs: Sequence[Path], numbers: Sequence[int]) -> list[tuple[Path, int]]:
    """Every fold of every seed; all folds of the first seed come first."""
    return [(config, number) for config in configs for number in numbers]


if __name__ == "__main__":
    main()
