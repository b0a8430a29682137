"""Runs that train twice: what the first chooses, what the last learns from, and who may be judged by what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfkit.config import Config
from dfkit.data.splits import joined_parts, split_clips
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import distill_student, prepare_distillation
from dfkit.errors import CheckpointError, ConfigError
from dfkit.evaluation.evaluate import evaluate
from dfkit.evaluation.scoring import EvaluationRequest
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import load_checkpoint
from dfkit.original.results import KFOLD_FILE
from dfkit.training import recorder
from dfkit.training.kfold import train_folds
from dfkit.training.refit import FIRST, MAX_VIDEOS, Stage, unseeing, wants_refit
from dfkit.training.run_summary import RunSummary, read_run
from dfkit.training.train import train_once, train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data

SPLIT = {"val_share": 0.25, "test_share": 0.25}


def configured(split: dict[str, Any] | None = None, **train: Any) -> Config:
    return tiny_config(split={**SPLIT, "refit": None, **(split or {})}, **train)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=12, spec=SPEC)


@pytest.fixture(scope="module")
def teacher(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    return train_teacher(data_dir, Workspace(tmp_path_factory.mktemp("teacher")), configured(modality_dropout=0.2))


def no_view(*_: Any) -> Path:
    raise AssertionError("one view")


def videos_of(facts: dict[str, Any], part: str) -> int:
    return int(facts["splits"][part]["videos"])


def test_the_last_learns_from_what_the_first_chose_by(data_dir: Path, teacher: RunSummary) -> None:
    run_dir = Path(teacher.run_dir)
    first, last = (load_checkpoint(folder / "best.pth") for folder in (run_dir / FIRST, run_dir))
    data = PreparedData(data_dir)
    indices = split_clips(data, configured().split)
    num_videos = {part: len({data.clips[i].video_index for i in clips}) for part, clips in indices.items()}
    assert {part: videos_of(first.facts, part) for part in num_videos} == num_videos
    assert videos_of(last.facts, "train") == num_videos["train"] + num_videos["val"]
    assert videos_of(last.facts, "val") == 0 and videos_of(last.facts, "test") == num_videos["test"]
    assert Decision.from_facts(last.facts) == Decision.from_facts(first.facts)
    assert Decision.muted_from_facts(last.facts) == Decision.muted_from_facts(first.facts) is not None
    assert (first.facts["split_config"]["refit"], last.facts["split_config"]["refit"]) == (False, True)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(first.network.state_dict().values(), last.network.state_dict().values(), strict=True)
    )
    chose = read_run(run_dir / FIRST)
    assert chose is not None and teacher.metrics["val"] == chose.metrics["val"] != teacher.metrics["test"]
    assert teacher.best_epoch == chose.best_epoch == 1 and teacher.epochs == 2
    assert read_run(run_dir) == teacher and "trained twice" in teacher.notes[-1]
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 and not any(name.startswith("val_") for line in lines for name in line)
    assert unseeing(first, data, indices) is first
    assert unseeing(last, data, indices).path == run_dir / FIRST / "best.pth"


def test_it_is_the_network_of_both_parts(data_dir: Path, teacher: RunSummary, tmp_path: Path) -> None:
    """The same as a plain run on labels that put the validation part into the training part."""
    data = PreparedData(data_dir)
    config = configured(modality_dropout=0.2)
    indices = joined_parts(split_clips(data, config.split))
    assert indices["val"] == [] and set(indices["train"]).isdisjoint(indices["test"])
    folder = tmp_path / "by hand"
    folder.mkdir()
    # With a validation part, which nothing is chosen by.
    plain = train_once(data, {**indices, "val": indices["test"]}, folder, config, stage=Stage(keeps_last=True))
    ours, theirs = (load_checkpoint(run.checkpoint).network.state_dict() for run in (teacher, plain))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_without_a_test_part_it_learns_from_everything(data_dir: Path, tmp_path: Path) -> None:
    """What ships may know all videos; the figure is the first network's on those that it had not seen."""
    config = configured({"test_share": 0.0}, epochs=1)
    workspace = Workspace(tmp_path)
    summary = train_teacher(data_dir, workspace, config)
    facts = load_checkpoint(summary.checkpoint).facts
    assert [videos_of(facts, part) for part in ("train", "val", "test")] == [12, 0, 0]
    assert summary.metrics["val"]["videos"] == 3 and summary.metrics["test"]["videos"] == 0
    student = distill_student(summary.checkpoint, data_dir, workspace, config, make_view=no_view)
    facts = load_checkpoint(Path(student.run_dir) / "best.pth").facts
    assert [videos_of(facts, part) for part in ("train", "val", "test")] == [12, 0, 0]


def test_patience_says_how_long(data_dir: Path, tmp_path: Path) -> None:
    config = configured(epochs=6, patience=1, min_delta=100.0)
    summary = train_teacher(data_dir, Workspace(tmp_path), config)
    first = read_run(Path(summary.run_dir) / FIRST)
    assert first is not None and first.epochs == 2
    assert summary.epochs == first.best_epoch + 1
    assert json.loads((Path(summary.run_dir) / "config.json").read_text(encoding="utf-8"))["train"]["epochs"] == 6


@pytest.mark.parametrize("cut", ["first", "last"])
def test_what_was_cut_off_goes_on(
    data_dir: Path, tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch, teacher: RunSummary
) -> None:
    config = configured(modality_dropout=0.2)
    real, written = recorder.RunRecorder.write_epoch, list[str]()

    def write(self: Any, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        written.append(self.run_dir.name)
        if len(written) == (2 if cut == "first" else 4):
            raise KeyboardInterrupt

    workspace = Workspace(tmp_path)
    monkeypatch.setattr(recorder.RunRecorder, "write_epoch", write)
    with pytest.raises(KeyboardInterrupt):
        train_teacher(data_dir, workspace, config)
    monkeypatch.setattr(recorder.RunRecorder, "write_epoch", real)
    run_dir = next(path for path in workspace.runs.iterdir() if path.is_dir())
    summary = train_teacher(data_dir, workspace, config, resume=run_dir)
    ours, whole = (load_checkpoint(run.checkpoint).network.state_dict() for run in (summary, teacher))
    assert all(torch.equal(value, whole[name]) for name, value in ours.items())


def test_students_train_twice_from_the_network_that_had_not_seen_it(
    data_dir: Path, teacher: RunSummary, tmp_path: Path
) -> None:
    config = configured(epochs=1)
    setup = prepare_distillation(teacher.checkpoint, data_dir, config, make_view=no_view)
    assert setup.first is not None and setup.first.teacher.path == Path(teacher.run_dir) / FIRST / "best.pth"
    assert setup.indices["val"] == [] and setup.first.indices["val"]
    workspace = Workspace(tmp_path)
    content = config.model_dump(mode="json")
    content["distill"] |= {"baselines": True, "feature_weight": 0.5}
    student = distill_student(
        teacher.checkpoint, data_dir, workspace, Config.model_validate(content), make_view=no_view
    )
    run_dir = Path(student.run_dir)
    for folder in (run_dir, run_dir / "baseline_scratch", run_dir / "baseline_prune_only"):
        first, last = (load_checkpoint(each / "best.pth").facts for each in (folder / FIRST, folder))
        assert videos_of(last, "train") == videos_of(first, "train") + videos_of(first, "val")
        assert Decision.from_facts(last) == Decision.from_facts(first)
    assert not list(run_dir.rglob("*.f16"))
    once = config.model_copy(update={"split": config.split.model_copy(update={"refit": False})})
    plain = prepare_distillation(teacher.checkpoint, data_dir, once, make_view=no_view)
    assert plain.first is None and plain.teacher.path == setup.first.teacher.path and plain.indices["val"]


def test_of_several_teachers_none_has_seen_it(data_dir: Path, teacher: RunSummary) -> None:
    content = configured(epochs=1).model_dump(mode="json")
    content["distill"]["further_teachers"] = [teacher.checkpoint]
    setup = prepare_distillation(teacher.checkpoint, data_dir, Config.model_validate(content), make_view=no_view)
    assert setup.first is not None
    for each, folder in ((setup, ""), (setup.first, f"/{FIRST}")):
        assert all(f"{teacher.run_dir}{folder}/best.pth" in voter for voter in each.soft_labels.voters)


def test_a_first_network_that_is_gone_is_named(data_dir: Path, teacher: RunSummary, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "tiny" / "best.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(teacher.checkpoint).read_bytes())
    data = PreparedData(data_dir)
    indices = split_clips(data, configured().split)
    with pytest.raises(CheckpointError, match="the network that had not seen it") as caught:
        unseeing(load_checkpoint(path), data, indices)
    unseen = {**indices, "val": [], "test": []}
    assert unseeing(load_checkpoint(path), data, unseen).path == path
    assert "split.refit false" in str(caught.value)


def test_it_is_not_judged_by_what_it_learnt_from(data_dir: Path, teacher: RunSummary, tmp_path: Path) -> None:
    request = EvaluationRequest(data_dir, (Path(teacher.checkpoint),))
    report = evaluate(request, reports=tmp_path, make_view=no_view)
    assert not [line for line in report.warnings if "judged groups" in line]
    facts = load_checkpoint(teacher.checkpoint).facts
    assert report.decision == Decision.from_facts(facts) and report.fitted.points == ()


def test_folds_train_twice(data_dir: Path, tmp_path: Path) -> None:
    summary = train_folds(data_dir, Workspace(tmp_path), configured({"folds": 2}, epochs=1))
    assert [fold["metrics"]["test"]["videos"] for fold in summary.folds] == [6, 6]
    rows = json.loads((Path(summary.run_dir) / KFOLD_FILE).read_text(encoding="utf-8"))
    assert np.isfinite([row["best_val_loss"] for row in rows["fold_results"]]).all()


def test_who_trains_twice(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PreparedData(data_dir)

    def asked(split: dict[str, Any] | None = None, **train: Any) -> bool:
        config = configured(split, **train)
        return wants_refit(config, config.train, data, split_clips(data, config.split))

    assert asked() and not asked({"refit": False})
    plateau = {"type": "plateau"}
    assert not asked(schedule=plateau) and asked({"test_share": 0.0})
    with pytest.raises(ConfigError, match="plateau watches the validation part"):
        asked({"refit": True}, schedule=plateau)
    for teacher, reason in (
        ({"save": {"format": "original"}}, "validation metrics"),
        ({"unlabelled": {"folders": ["x"]}}, "pseudo-labels"),
    ):
        assert not asked(teacher=teacher)
        with pytest.raises(ConfigError, match=reason):
            asked({"refit": True}, teacher=teacher)
    monkeypatch.setattr("dfkit.training.refit.MAX_VIDEOS", 1)
    assert MAX_VIDEOS > 1 and not asked() and asked({"refit": True})
