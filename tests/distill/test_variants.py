"""Students and baselines over seeds: their steps, the figures side by side, the best by validation kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dfkit.config import Config
from dfkit.distill.distill import distill_student
from dfkit.distill.variants import StudentSummary, best_run, summarize_runs, training_length
from dfkit.training.run_summary import RunSummary, read_run
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data


def summary_of(name: str, val: float | None, test: float | None) -> RunSummary:
    metrics: dict[str, Any] = {part: {"video": {"auc": auc}} for part, auc in (("val", val), ("test", test))}
    return RunSummary("student", "data", name, f"{name}/best.pth", 0, 1.0, metrics)


def test_best_seed_is_chosen_by_validation() -> None:
    runs = [summary_of("a", None, 1.0), summary_of("b", 0.6, 0.2), summary_of("c", 0.5, 0.9), summary_of("d", 0.6, 0.9)]
    assert best_run(runs).run_dir == "b"
    assert best_run(runs[:1]).run_dir == "a"


def test_equal_steps_are_said_only_where_they_are(tmp_path: Path) -> None:
    """The report said "at equal steps" of runs that `patience` had ended at different epochs."""
    (tmp_path / "best.pth").touch()

    def summary(*steps: int) -> StudentSummary:
        runs = {
            name: [replace(summary_of(str(tmp_path), 0.5, 0.5), epochs=taken // 10, steps=taken)]
            for name, taken in zip(("student", "scratch", "prune_only"), steps, strict=True)
        }
        return summarize_runs(tmp_path, runs, notes=())  # type: ignore[arg-type]

    assert any(line.startswith("at equal steps, ") for line in summary(40, 40, 40).summary())
    unequal = summary(40, 20, 40)
    said = "\n".join(unequal.summary())
    assert "\nat equal steps" not in said
    assert (
        "not at equal steps (distilled student 40 steps (4 epochs); same widths from scratch, by labels 20 steps "
        "(2 epochs); pruned only, by labels 40 steps (4 epochs))" in said
    )
    assert [(row["epochs"], row["steps"]) for row in unequal.to_json()["variants"]] == [
        ([4], [40]),
        ([2], [20]),
        ([4], [40]),
    ]
    assert "steps unknown" in training_length(summary(0, 0, 0).variants)


def test_seeds_and_baselines_stand_side_by_side(tmp_path: Path) -> None:
    data = make_synthetic_data(tmp_path / "x", num_videos=6, spec=SPEC)
    workspace = Workspace(tmp_path)
    teacher = train_teacher(data, workspace, tiny_config(epochs=1)).checkpoint
    content = tiny_config(epochs=1).model_dump(mode="json")
    content["distill"] |= {"seeds": 2, "baselines": True}
    config = Config.model_validate(content)
    student = distill_student(teacher, data, workspace, config, make_view=lambda *_: pytest.fail("one view"))
    folder = Path(student.run_dir)
    assert [row["name"] for row in student.variants] == ["student", "scratch", "prune_only"]
    for row in student.variants:
        runs = [read_run(Path(path)) for path in row["runs"]]
        assert len(runs) == 2
        assert row["test_auc"]["values"] == [run.metrics["test"]["video"]["auc"] for run in runs if run is not None]
        # Every run has one line per epoch. Two training videos, two clips, a batch of four: a step an epoch.
        lengths = [len((Path(p) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) for p in row["runs"]]
        assert lengths == row["epochs"] == row["steps"] == [1, 1]
    stored = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert stored["variants"] == json.loads(json.dumps(student.to_json()["variants"]))
    kept = [Path(path) / "best.pth" for path in student.variants[0]["runs"]]
    assert (folder / "best.pth").read_bytes() in [path.read_bytes() for path in kept]
    assert kept[0].read_bytes() != kept[1].read_bytes()
    lines = "\n".join(student.summary())
    assert "2 seeds" in lines and "±" in lines and "from scratch" in lines and "at equal steps, " in lines
    assert workspace.newest_run("student") == folder
