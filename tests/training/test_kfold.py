"""Nested k-fold on small prepared clips: the same folds one after another, in processes, and on Ray."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config
from dfkit.config.flags import TrainFlags
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training import kfold
from dfkit.training.kfold import FoldJob, fold_configs, train_fold, train_folds
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row

ROOT = Path(__file__).parents[2]
SPEC = ClipSpec(picture=PictureSpec(face_px=32, lip_px=32))
WIDTHS = {"face_channels": (8, 8, 8), "lip_channels": (8, 8, 8), "gru_hidden": 8}
CONFIG = Config.model_validate(
    {
        "name": "tiny",
        "clip": SPEC.model_dump(),
        "split": {"folds": 2, "val_share": 0.25, "refit": False},
        "train": {
            "epochs": 1,
            "batch_size": 4,
            "widths": WIDTHS,
            "num_threads": 1,
        },
    }
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos of four persons, each person real and fake."""
    rows = [make_row(i, i % 2, [f"p{i // 2}"]) for i in range(8)]
    return make_prepared(tmp_path_factory.mktemp("kfold") / "data", rows, spec=SPEC)


def weights(run_dir: str) -> dict[str, torch.Tensor]:
    return {
        f"{fold}.{name}": value
        for fold in (1, 2)
        for name, value in load_checkpoint(Path(run_dir) / f"fold_{fold}" / "best.pth").network.state_dict().items()
    }


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> kfold.KfoldSummary:
    """Both folds, one after the other, in this process."""
    return train_folds(data_dir, Workspace(tmp_path_factory.mktemp("workspace")), CONFIG)


def test_every_video_is_tested_once_by_a_model_that_never_saw_its_group(
    data_dir: Path, trained: kfold.KfoldSummary
) -> None:
    groups = {group for fold in PreparedData(data_dir).clips for group in [fold.group]}
    tested = []
    for number in (1, 2):
        folder = Path(trained.run_dir) / f"fold_{number}"
        facts = load_checkpoint(folder / "best.pth").facts["splits"]
        parts = [set(facts[name]["groups"]) for name in ("train", "val", "test")]
        assert set.union(*parts) == groups and sum(map(len, parts)) == len(groups)
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        assert {row["group"] for row in scores["test"]} == parts[2]
        tested += [row["video"] for row in scores["test"]]
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["split"]["fold"] == number
        for split in ("val", "test"):
            content = json.loads((folder / f"{split}_results.json").read_text(encoding="utf-8"))
            assert content["probabilities"] == [row["p_fake"] for row in scores[split]]
    assert sorted(tested) == sorted(f"/videos/{i}.mp4" for i in range(8))


def test_figures_over_folds(trained: kfold.KfoldSummary) -> None:
    folder = Path(trained.run_dir)
    rows = [
        row
        for number in (1, 2)
        for row in json.loads((folder / f"fold_{number}" / "scores.json").read_text(encoding="utf-8"))["test"]
    ]
    assert trained.pooled["auc"] == pytest.approx(
        roc_auc_score([row["label"] for row in rows], [row["p_fake"] for row in rows])
    )
    assert (trained.pooled["videos"], trained.pooled["groups"]) == (8, 4)
    protocol = trained.pooled["protocol"]["text"]
    assert "8 videos in 4 groups; 2 folds by group, seed 0; data " in protocol and protocol in trained.summary()
    aucs = [
        roc_auc_score([row["label"] for row in part], [row["p_fake"] for row in part]) for part in (rows[:4], rows[4:])
    ]
    assert trained.test["auc"]["mean"] == pytest.approx(np.mean(aucs))
    assert trained.test["auc"]["std"] == pytest.approx(np.std(aucs, ddof=1))
    original = json.loads((folder / "kfold_results.json").read_text(encoding="utf-8"))
    assert list(original) == ["n_folds", "fold_results", "average_metrics"]
    assert [row["fold"] for row in original["fold_results"]] == [1, 2]
    logged = json.loads((folder / "fold_2" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert original["fold_results"][1]["best_val_acc"] == logged["val_accuracy"]
    assert original["fold_results"][1]["best_epoch"] == 0
    summary = json.loads((folder / "kfold.json").read_text(encoding="utf-8"))
    assert summary["ddof"] == 1 and summary["test"] == trained.test
    assert any("mean ± standard deviation over folds (ddof 1)" in line for line in trained.summary())
    # A score on the generators that were trained on never stands without the way to the others.
    assert any("dfkit train --leave-out method measures unseen ones" in line for line in trained.summary())
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (run["kind"], run["finished"]) == ("kfold", True)


def test_folds_in_processes_are_the_same(data_dir: Path, trained: kfold.KfoldSummary, tmp_path: Path) -> None:
    apart = train_folds(data_dir, Workspace(tmp_path), CONFIG, num_processes=2)
    expected = weights(trained.run_dir)
    for name, value in weights(apart.run_dir).items():
        assert torch.equal(value, expected[name]), name
    assert apart.test == trained.test and apart.pooled == trained.pooled


@pytest.mark.long
def test_folds_on_ray_are_the_same(cluster: None, data_dir: Path, trained: kfold.KfoldSummary, tmp_path: Path) -> None:
    apart = train_folds(data_dir, Workspace(tmp_path), CONFIG, executor="ray", num_processes=2)
    expected = weights(trained.run_dir)
    for name, value in weights(apart.run_dir).items():
        assert torch.equal(value, expected[name]), name


def test_a_run_goes_on_with_its_unfinished_folds(data_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "tiny"
    workspace = Workspace(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        calls: list[int] = []

        def stopped(job: FoldJob) -> int:
            calls.append(job.fold)
            if job.fold == 2:
                raise KeyboardInterrupt
            return train_fold(job)

        patch.setattr(kfold, "train_fold", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_folds(data_dir, workspace, CONFIG)
    before = (run_dir / "fold_1" / "best.pth").read_bytes()
    other = TrainFlags(workers=1).apply_to(CONFIG)
    with pytest.raises(ConfigError, match=r"different: flags, train\.num_workers"):
        train_folds(data_dir, workspace, other, resume=run_dir)
    summary = train_folds(data_dir, workspace, CONFIG, resume=run_dir)
    assert calls == [1, 2]
    assert (run_dir / "fold_1" / "best.pth").read_bytes() == before
    assert len(summary.folds) == 2 and (run_dir / "kfold.json").is_file()


def test_other_data_is_refused_on_resume(trained: kfold.KfoldSummary, tmp_path: Path) -> None:
    rows = [make_row(i, i % 2, [f"q{i // 2}"]) for i in range(8)]
    other = make_prepared(tmp_path / "other", rows, spec=SPEC)
    with pytest.raises(DataError, match="was started on other data"):
        train_folds(other, Workspace(tmp_path), CONFIG, resume=trained.run_dir)
    with pytest.raises(ConfigError, match="not a k-fold run"):
        train_folds(other, Workspace(tmp_path), CONFIG, resume=tmp_path)


def end_process(job: FoldJob) -> int:
    """As a fold that the system kills; runs in a worker process."""
    os._exit(1)


def test_a_killed_process_is_said_with_the_way_to_go_on(tmp_path: Path) -> None:
    jobs = [FoldJob("data", str(tmp_path / "run" / "fold_1"), fold_configs(CONFIG)[0].model_dump_json())]
    with pytest.raises(DataError, match="unfinished are 1") as caught:
        list(kfold._run_processes(jobs, 1, end_process))
    assert f"dfkit train --resume {tmp_path / 'run'}" in str(caught.value)


def test_no_fold_changes_another(data_dir: Path) -> None:
    """The original's folds shared one configuration through a shallow copy."""
    config = CONFIG.model_copy(
        update={
            "train": CONFIG.train.model_copy(
                update={"save": CONFIG.train.save.model_copy(update={"config": {"a": {}}})}
            )
        }
    )
    first, second = fold_configs(config)
    assert (first.split.fold, second.split.fold) == (1, 2)
    assert first.train.save.config is not None and second.train.save.config is not None
    first.train.save.config["a"]["changed"] = True
    assert second.train.save.config == {"a": {}} == config.train.save.config
    data = PreparedData(data_dir)
    assert split_clips(data, first.split)["test"] != split_clips(data, second.split)["test"]
    with pytest.raises(ConfigError, match=r"split\.folds is 2, and one split is needed"):
        split_clips(data, CONFIG.split)


def test_nothing_is_made_where_folds_are_impossible(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few groups for 5 folds"):
        train_folds(data_dir, Workspace(tmp_path), TrainFlags(kfold=5).apply_to(CONFIG))
    assert not list(tmp_path.iterdir())
