"""Students of teachers that never saw a family of fakes, judged on it: distilled, from scratch, only pruned, INT8.

    python -m tools.folds.left_out --data data/videos --config experiment.yaml --workspace trial

The configuration names `split.leave_out`. Its teachers are those of `dfkit train`, made where they are not there; every
fold's teacher is distilled with the configuration's `distill`, beside the same student from scratch and only pruned, at
equal steps, and exported. All are compared with the teacher, paired over the same resamples of groups. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from dfkit.config import Config
from dfkit.data.leave_out import LeaveOutFold, held_out_scores, leave_out_folds, left_out_families
from dfkit.data.storage import PreparedData
from dfkit.evaluation.scores_file import SCORES_FILE, read_scores
from dfkit.experiment import read_config
from dfkit.measures.bootstrap import Interval
from dfkit.measures.decision import judge
from dfkit.measures.left_out import HeldOutScore, compare_left_out, interval_facts, measure_left_out
from tools.folds.commands import dfkit, export_int8, fold_config

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


def measure_fold(config: Path, data: Path, workspace: Path, fold: int) -> dict[str, Answers]:
    """Distils and exports a fold's teacher; returns what all of them say of the fold's test videos."""
    own = fold_config(config, workspace, fold, baselines=True)
    common = ("--data", data, "--workspace", workspace, "--config", own)
    teacher = workspace / "runs" / read_config(config).name / f"fold_{fold}"
    student = workspace / "runs" / own.stem
    if not (student / "results.json").is_file():
        dfkit("distill", "--teacher", teacher / "best.pth", *common)
    bundle, report = workspace / "exports" / own.stem, workspace / "reports" / f"{own.stem}-int8"
    export_int8(student / "best.pth", bundle, *common)
    if not (report / SCORES_FILE).is_file():
        dfkit("evaluate", "--bundle", bundle, "--data", data, "--workspace", workspace, "--output", report)
    found = {TEACHER: answers_of_run(teacher), STUDENT: answers_of_run(student), INT8: answers_of_report(report)}
    return found | {
        name: answers_of_run(student / folder) for name, folder in BASELINES.items() if (student / folder).is_dir()
    }


def fold_scores(data: PreparedData, fold: LeaveOutFold, number: int, answers: Answers) -> list[HeldOutScore]:
    """A fold's answers to its test videos."""
    p_fake = {index: answers[row.path] for index, row in enumerate(data.videos) if row.path in answers}
    return held_out_scores(data, replace(fold, seen=()), number, p_fake)


def figure(interval: Interval) -> str:
    """An interval as text."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def main() -> None:
    """Measures every fold and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    options = parser.parse_args()
    experiment: Config = read_config(options.config)
    split = experiment.split
    if split.leave_out is None:
        raise SystemExit(f"{options.config}: split.leave_out is missing. Fix: name a family, such as method")
    if not (options.workspace / "runs" / experiment.name).is_dir():
        dfkit("train", "--data", options.data, "--workspace", options.workspace, "--config", options.config)
    data = PreparedData(options.data)
    folds = leave_out_folds(data, split.leave_out, val_share=split.val_share, seed=split.seed)
    families = left_out_families(folds)
    scores: dict[str, list[HeldOutScore]] = {}
    for number, fold in enumerate(folds, start=1):
        for name, answers in measure_fold(options.config, options.data, options.workspace, number).items():
            scores.setdefault(name, []).extend(fold_scores(data, fold, number, answers))
    figures = {}
    for name, found in scores.items():
        result = measure_left_out(found, families)
        less = compare_left_out(found, scores[TEACHER], families)
        print(f"{name}: mean {figure(result.mean)}, worst {figure(result.worst)} {result.worst_family}; ", end="")
        print(f"less the teacher {figure(less)}")
        figures[name] = {**result.to_json(), "less_teacher": interval_facts(less)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
