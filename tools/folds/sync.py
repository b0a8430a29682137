"""Sound against the face with people left out: teacher, student and exported INT8 student of every fold, pooled.

    python -m tools.folds.sync --data data/videos --config configs/sync.yaml --workspace trial

The configuration's `split.folds` says how many. Folds that were trained under the workspace's `runs/<name>` are taken
as they are. Beside the models stands the baseline `sync` of `dfkit baseline`: the regression of lips on phonemes.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dfkit.evaluation.sync import SyncRow, sync_report
from dfkit.experiment import read_config
from tools.folds.commands import dfkit, export_int8, fold_config


def judge(name: str, *model: object, data: Path, workspace: Path) -> list[SyncRow]:
    """A model's answers, kept in the workspace."""
    folder = workspace / "reports" / name
    if not (folder / "report.json").is_file():
        dfkit("evaluate", "--sync", *model, "--data", data, "--workspace", workspace, "--output", folder)
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [SyncRow(**row) for row in content["rows"]]


def measure_fold(config: Path, data: Path, workspace: Path, fold: int) -> dict[str, list[SyncRow]]:
    """Distils and exports a fold's teacher and judges all three."""
    run = read_config(config).name
    own = fold_config(config, workspace, fold)
    common = ("--data", data, "--workspace", workspace, "--config", own)
    teacher = workspace / "runs" / run / f"fold_{fold}" / "best.pth"
    student = workspace / "runs" / own.stem
    if not (student / "results.json").is_file():
        dfkit("distill", "--teacher", teacher, *common)
    bundle = workspace / "exports" / own.stem
    export_int8(student / "best.pth", bundle, *common)
    models = {
        "teacher": ("--checkpoint", teacher),
        "student": ("--checkpoint", student / "best.pth"),
        "INT8 student": ("--bundle", bundle),
    }
    return {
        kind: judge(f"{own.stem}-{kind.replace(' ', '-')}", *model, data=data, workspace=workspace)
        for kind, model in models.items()
    }


def main() -> None:
    """Measures every fold and prints the pooled figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="*", help="some of them")
    options = parser.parse_args()
    experiment = read_config(options.config)
    if not (options.workspace / "runs" / experiment.name).is_dir():
        dfkit("train", "--data", options.data, "--workspace", options.workspace, "--config", options.config)
    pooled: dict[str, list[SyncRow]] = {}
    for fold in options.folds or range(1, (experiment.split.folds or 0) + 1):
        for kind, rows in measure_fold(options.config, options.data, options.workspace, fold).items():
            # Each fold has models of its own.
            pooled.setdefault(kind, []).extend(SyncRow(**{**vars(row), "model": fold}) for row in rows)
    figures = {}
    for kind, rows in pooled.items():
        report = sync_report(rows, [kind], str(options.data))
        print("\n".join(report.summary()))
        figures[kind] = report.to_json()["scores"]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
