"""Training for readers of the original: its checkpoints, its data, its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from dfkit.cli import app
from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config, TrainConfig
from dfkit.errors import CheckpointError
from dfkit.models import MMMSBA, NetworkSpec, load_teacher
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.original_checkpoints import file_prefix, reserve_checkpoint_folders
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row
from tests.original.test_configuration import changed

SPEC = ClipSpec(picture=PictureSpec(face_px=32, lip_px=32))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of six persons, with the split that their index would give."""
    parts = ("train", "train", "train", "train", "val", "test")
    rows = [make_row(i, i % 2, [f"p{i // 2}"], split=parts[i // 2]) for i in range(12)]
    return make_prepared(tmp_path_factory.mktemp("original") / "data", rows, spec=SPEC)


def config_with(**save: Any) -> Config:
    return Config.model_validate(
        {
            "clip": SPEC.model_dump(),
            "train": {
                "modalities": ["audio", "face", "lip"],
                "face_trunk": "mmms_ba",
                "clip_statistics": False,
                "epochs": 2,
                "widths": {"gru_hidden": 8},
                "num_threads": 1,
                "optimizer": {"type": "adam", "warmup_share": 0},
                "schedule": {"cosine_epochs": 4, "min_learning_rate": 1e-5},
                "save": {"format": "original", **save},
            },
        }
    )


def test_training_writes_what_the_original_reads(data_dir: Path, tmp_path: Path) -> None:
    theirs = {"model": {"gru": {"hidden_size": 8}}}
    config = config_with(dir=str(tmp_path / "models"), prefix="mine_", config=theirs)
    summary = train_teacher(data_dir, Workspace(tmp_path), config)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["mine_best.pth", "mine_last.pth"]
    last = torch.load(tmp_path / "models" / "mine_last.pth", weights_only=True)
    assert last["config"] == theirs and last["epoch"] == 1
    rows = [
        json.loads(line) for line in (Path(summary.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    best = torch.load(tmp_path / "models" / "mine_best.pth", weights_only=True)
    logged = next(row for row in rows if row["epoch"] == best["epoch"])
    for theirs_name, ours in (("acc", "accuracy"), ("loss", "loss"), ("precision", "precision"), ("f1", "f1")):
        assert best[f"best_val_{theirs_name}"] == pytest.approx(logged[f"val_{ours}"], abs=1e-7)
    own = load_checkpoint(summary.checkpoint)
    assert own.facts["epoch"] == best["epoch"]
    loaded = load_teacher(tmp_path / "models" / "mine_best.pth").state_dict()
    for name, value in own.network.state_dict().items():
        assert torch.equal(loaded[name], value), name
    # A reader goes on with it: Adam with one state per parameter, the cosine after two of four epochs.
    network = MMMSBA(NetworkSpec(gru_hidden=8))
    adam = torch.optim.Adam(network.parameters(), lr=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=4, eta_min=1e-5)
    adam.load_state_dict(last["optimizer_state_dict"])
    schedule.load_state_dict(last["scheduler_state_dict"])
    assert len(adam.state) == len(list(network.parameters())) == 44
    for parameter, state in adam.state.items():
        assert state["exp_avg"].shape == parameter.shape
    assert schedule.last_epoch == 2
    # Half of the way down: 1e-5 + (5e-4 - 1e-5) / 2.
    assert schedule.get_last_lr() == pytest.approx([2.55e-4])


def test_what_lies_there_is_kept(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    mine = tmp_path / "models" / "mmms-ba_balanced_best.pth"
    mine.write_text("mine")
    config = config_with(dir=str(tmp_path / "models"), last=False)
    train_teacher(data_dir, Workspace(tmp_path), config)
    assert mine.read_text() == "mine"
    assert [path.name for path in (tmp_path / "models-2").iterdir()] == ["mmms-ba_balanced_best.pth"]


def test_folds_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    section = config_with(dir=str(tmp_path / "models")).train
    run_dirs = [tmp_path / "runs" / f"fold_{number}" for number in (1, 2)]
    for run_dir in run_dirs:
        run_dir.mkdir(parents=True)
    reserve_checkpoint_folders(section, run_dirs, by_fold=True)
    folders = [json.loads((run_dir / "original.json").read_text(encoding="utf-8"))["folder"] for run_dir in run_dirs]
    assert folders == [str(tmp_path / "models" / f"fold_{number}") for number in (1, 2)]
    # Another run finds one fold's checkpoint there: all of its folds go elsewhere; the first run keeps its place.
    (tmp_path / "models" / "fold_2" / "mmms-ba_balanced_last.pth").touch()
    later = tmp_path / "later" / "fold_1"
    later.mkdir(parents=True)
    others = [tmp_path / "later" / f"fold_{number}" for number in (1, 2)]
    others[1].mkdir()
    reserve_checkpoint_folders(section, others, by_fold=True)
    assert json.loads((later / "original.json").read_text(encoding="utf-8"))["folder"] == str(
        tmp_path / "models-2" / "fold_1"
    )


def test_prefix_says_whether_classes_are_weighted() -> None:
    plain = TrainConfig.model_validate({"loss": {"class_weights": None}})
    assert (file_prefix(plain), file_prefix(TrainConfig())) == ("mmms-ba_", "mmms-ba_balanced_")


def test_a_network_without_room_there_is_refused_before_training(data_dir: Path, tmp_path: Path) -> None:
    config = config_with()
    narrow = config.train.model_copy(update={"modalities": ("audio", "face")})
    with pytest.raises(CheckpointError, match="modalities audio, face instead of"):
        train_teacher(data_dir, Workspace(tmp_path), config.model_copy(update={"train": narrow}))
    assert not list(tmp_path.iterdir())


def test_bare_kfold_on_the_command_line(tmp_path: Path) -> None:
    """Like the original's `--kfold`: five folds, which is too many for four persons."""
    rows = [make_row(i, i % 2, [f"p{i // 2}"]) for i in range(8)]
    data = make_prepared(tmp_path / "four", rows, spec=SPEC)
    for arguments in (["--kfold", "--workspace", str(tmp_path)], ["--workspace", str(tmp_path), "--kfold"]):
        result = CliRunner().invoke(app, ["train", "--data", str(data), *arguments])
        assert result.exit_code == 2
        assert "too few groups for 5 folds: 8 videos are in 4 group(s)" in result.stderr
    assert not (tmp_path / "runs").exists()


def write_yaml(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(changed(**values)), encoding="utf-8")
    return path


def test_lips_of_another_size_than_the_yaml_says(shared: Path, tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "theirs.yaml", dataset__root_dir=str(shared / "teacher" / "npz-sample"))
    result = CliRunner().invoke(app, ["train", "--config", str(config), "--workspace", str(tmp_path)])
    assert result.exit_code == 2
    assert "dataset.lip.size is 112, and the lip pictures of" in result.stderr
    assert "Fix: dataset: {lip: {size: [96, 96]}}" in result.stderr
    assert "training.optimizer.lr: -> train.optimizer.learning_rate = 0.0005" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_root_dir_is_named(tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "theirs.yaml", dataset__root_dir=str(tmp_path / "gone"))
    result = CliRunner().invoke(app, ["train", "--config", str(config), "--workspace", str(tmp_path)])
    assert result.exit_code == 2
    assert "dataset.root_dir" in result.stderr and "--data" in result.stderr
