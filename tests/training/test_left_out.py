"""Training over folds that leave a family of fakes out: the run machinery of plain folds, and the joined scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit.config.flags import TrainFlags
from dfkit.data.leave_out import leave_out_folds
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training import kfold
from dfkit.training.kfold import FoldJob, train_fold, train_folds
from dfkit.training.left_out import LEFT_OUT_FILE, read_left_out
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row
from tests.training.test_kfold import CONFIG, SPEC

LEAVE_OUT = CONFIG.model_copy(
    update={"split": CONFIG.split.model_copy(update={"folds": None, "leave_out": "method", "val_share": 0.2})}
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight real persons, and six fakes each of two generators, of persons of their own."""
    rows = [make_row(i, 0, [f"r{i}"], method=None) for i in range(8)]
    rows += [make_row(8 + i, 1, [f"f{i}"], method=["a (small)", "b + SR"][i % 2]) for i in range(12)]
    return make_prepared(tmp_path_factory.mktemp("left_out") / "data", rows, spec=SPEC)


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> kfold.KfoldSummary:
    return train_folds(data_dir, Workspace(tmp_path_factory.mktemp("workspace")), LEAVE_OUT)


def test_each_fold_is_tested_on_a_family_it_never_saw(data_dir: Path, trained: kfold.KfoldSummary) -> None:
    data = PreparedData(data_dir)
    folds = leave_out_folds(data, val_share=0.2)
    assert [fold.family for fold in folds] == ["a", "b"]
    path_of = [row.path for row in data.videos]
    for number, fold in enumerate(folds, start=1):
        folder = Path(trained.run_dir) / f"fold_{number}"
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        for part in ("val", "test", "seen"):
            assert sorted(row["video"] for row in scores[part]) == sorted(path_of[i] for i in getattr(fold, part))
        assert scores["seen"]
        facts = load_checkpoint(folder / "best.pth").facts["splits"]
        assert set(facts) == {"train", "val", "test", "seen", "aside"}
        held = {*facts["test"]["groups"], *facts["seen"]["groups"]}
        assert not held & {*facts["train"]["groups"], *facts["val"]["groups"]}
        # The original's result files are of parts with both classes.
        assert not (folder / "seen_results.json").exists() and (folder / "test_results.json").is_file()


def test_seen_stands_beside_unseen(data_dir: Path, trained: kfold.KfoldSummary) -> None:
    text = "\n".join(trained.summary())
    assert "folds by method, left out, seed 0; data " in text and "folds by group" not in text
    assert "network, unseen" in text and "network, seen" in text
    assert "not measured yet under these folds: file facts: dfkit audit" in text
    content = json.loads((Path(trained.run_dir) / "kfold.json").read_text(encoding="utf-8"))
    assert {"mean", "worst", "seen", "gap"} <= set(content["left_out"])
    run = read_left_out(Path(trained.run_dir), PreparedData(data_dir))
    assert trained.left_out is not None and run.result.to_json() == trained.left_out.result.to_json()
    assert json.loads((Path(trained.run_dir) / "run.json").read_text(encoding="utf-8"))["kind"] == "leave-out"


def test_a_run_goes_on_with_its_unfinished_folds(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, run_dir = Workspace(tmp_path), tmp_path / "runs" / "tiny"
    with pytest.MonkeyPatch.context() as patch:

        def stopped(job: FoldJob) -> int:
            if job.fold == 2:
                raise KeyboardInterrupt
            return train_fold(job)

        patch.setattr(kfold, "train_fold", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_folds(data_dir, workspace, LEAVE_OUT)
    # What each fold tests and trains on, and what is in no part of it, is said before the first is trained.
    assert "in no part" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"dfkit train --resume"):
        read_left_out(run_dir, PreparedData(data_dir))
    before = (run_dir / "fold_1" / "best.pth").read_bytes()
    summary = train_folds(data_dir, workspace, LEAVE_OUT, resume=run_dir)
    assert (run_dir / "fold_1" / "best.pth").read_bytes() == before
    assert len(summary.folds) == 2 and (run_dir / LEFT_OUT_FILE).is_file()


def test_one_fold_has_to_be_named_where_one_split_is_needed(data_dir: Path) -> None:
    data = PreparedData(data_dir)
    with pytest.raises(ConfigError, match="which makes 2 folds of these data, and one split is needed here"):
        split_clips(data, LEAVE_OUT.split)
    with pytest.raises(ConfigError, match="there is no fold 3"):
        split_clips(data, LEAVE_OUT.split.model_copy(update={"fold": 3}))
    with pytest.raises(ConfigError, match="take one kind of folds"):
        TrainFlags(kfold=2).apply_to(LEAVE_OUT)


def test_other_data_is_refused(trained: kfold.KfoldSummary, tmp_path: Path) -> None:
    other = make_prepared(tmp_path / "other", [make_row(n, n % 2, [f"g{n}"]) for n in range(2)], spec=SPEC)
    with pytest.raises(DataError, match="was trained on other videos than"):
        read_left_out(Path(trained.run_dir), PreparedData(other))
