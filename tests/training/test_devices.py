"""Two processes on the CPU train as one does on batches of twice the size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dfkit.errors import ConfigError
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data

# As a library: a script that calls one function. Spawned processes import it anew, hence the last line's guard.
SCRIPT = """
import json, sys
from pathlib import Path
from dfkit.config import Config
from dfkit.training.train import train_teacher
from dfkit.errors import DfkitError
from dfkit.workspace import Workspace

if __name__ == "__main__":
    config = Config.model_validate_json(Path(sys.argv[2]).read_text())
    try:
        print(json.dumps(train_teacher(sys.argv[1], Workspace(sys.argv[3]), config).to_json()))
    except DfkitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""
# Without dropout and class weights the mean of two halves' gradients is the whole's.
PLAIN = {"dropout": 0.0, "loss": {"class_weights": None}, "split": {"val_share": 0.25, "test_share": 0.25}}


def run_script(folder: Path, data_dir: Path, **train: object) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    (folder / "config.json").write_text(tiny_config(**train).model_dump_json(), encoding="utf-8")
    command = [sys.executable, "train.py", str(data_dir), "config.json", "work"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=8, clips_per_video=1, spec=SPEC)


def test_two_processes_equal_one_with_twice_the_batch(data_dir: Path, tmp_path: Path) -> None:
    done = run_script(tmp_path, data_dir, **PLAIN, batch_size=2, devices=2)
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout.splitlines()[-1])
    one = train_teacher(data_dir, Workspace(tmp_path / "one"), tiny_config(**PLAIN, batch_size=4))
    # One folder, one line an epoch: the first process alone writes.
    (run_dir,) = (tmp_path / "work" / "runs").iterdir()
    assert done.stderr.count("epoch 1/2") == 1
    rows = [
        [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in (run_dir, one.run_dir)
    ]
    assert [row["epoch"] for row in rows[0]] == [row["epoch"] for row in rows[1]] == [0, 1]
    for ours, theirs in zip(*rows, strict=True):
        for name in ("train_loss", "val_loss", "val_auc", "val_balanced_accuracy"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5), name
    weights = [
        torch.load(Path(folder) / "last.pth", weights_only=True)["model_state_dict"]
        for folder in (run_dir, one.run_dir)
    ]
    for name, value in weights[0].items():
        # float32 sums in another order, through two steps of Adam.
        torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=0)
    assert two["best_epoch"] == one.best_epoch
    assert two["metrics"]["test"]["videos"] == one.metrics["test"]["videos"]


def test_an_error_in_a_process_is_said_as_any_other(data_dir: Path, tmp_path: Path) -> None:
    broken = {"optimizer": {"learning_rate": 1e30, "warmup_share": 0.0}, "sampling": {"hard_share": 0.3}}
    done = run_script(tmp_path, data_dir, **{**PLAIN, **broken}, batch_size=1, devices=2)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch 1, " in done.stderr and "Fix: lower optimizer.learning_rate" in done.stderr


def test_more_gpus_than_there_are_is_refused(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    config = tiny_config(**PLAIN, accelerator="auto", devices=4)
    with pytest.raises(ConfigError, match="devices is 4, and this machine has 1 GPU"):
        train_teacher(data_dir, Workspace(tmp_path), config)
