"""A run that was killed and resumed ends with the weights of one that was not, whatever it has to remember."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
import yaml

from dfkit.config import Config
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import CheckpointError, ConfigError, DivergedError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.fit import fit, refuse_other_config
from dfkit.training.loaders import make_loaders
from dfkit.training.task import ClipNetwork, ClipTask
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.interrupt import last_line, signal_when
from tests.training.tiny import EVERYTHING, SPEC, WIDTHS, tiny_config
from tools.speed.made_data import make_synthetic_data

TRAIN_SCRIPT = "import sys; sys.argv[0] = 'dfkit'; from dfkit.cli import main; main()"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=6, clips_per_video=2, spec=SPEC)


def dfkit(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAIN_SCRIPT, *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_config(path: Path, config: Config) -> None:
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())), encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_and_resumed_equals_unbroken(data_dir: Path, tmp_path: Path) -> None:
    config = tiny_config(teacher={"clip_statistics": True, "standardised_start": True}, **EVERYTHING)
    write_config(tmp_path / "tiny.yaml", config)
    process = dfkit("train", "--data", str(data_dir), "--config", "tiny.yaml", cwd=tmp_path)
    output = signal_when(process, signal.SIGKILL, lambda said: last_line(said).startswith("epoch 2/"))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, output
    (run_dir,) = (tmp_path / "runs").iterdir()
    left = torch.load(run_dir / "last.ckpt", weights_only=True)
    assert left["epoch"] < 3
    # Two epochs without the 5 nats that were asked for: the rate was halved, and that is known.
    assert left["lr_schedulers"][0]["lr_lambdas"][0]["reduced"] < 1
    assert left["callbacks"]["HardMining"]["hardness"] is not None

    resumed = train_teacher(data_dir, Workspace(tmp_path), config, resume=run_dir)
    unbroken = train_teacher(data_dir, Workspace(tmp_path), config)
    ours, theirs = (torch.load(Path(run.run_dir) / "last.pth", weights_only=True) for run in (resumed, unbroken))
    assert ours["facts"]["epoch"] == 3
    for name, value in theirs["model_state_dict"].items():
        assert torch.equal(ours["model_state_dict"][name], value), name
    assert resumed.best_epoch == unbroken.best_epoch
    assert resumed.metrics == unbroken.metrics


def test_a_run_that_patience_ended_trains_nothing_more(data_dir: Path, tmp_path: Path) -> None:
    """That it was over stood in no checkpoint: a run resumed after its last epoch trained one more."""
    # No epoch gains 100 nats: the second is the first without an improvement.
    config = tiny_config(epochs=5, patience=1, min_delta=100.0)
    ended = train_teacher(data_dir, Workspace(tmp_path), config)
    run_dir = Path(ended.run_dir)
    before = torch.load(run_dir / "last.pth", weights_only=True)
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8")
    assert len(lines.splitlines()) == 2 and (ended.epochs, before["facts"]["epoch"]) == (2, 1)
    # One training video, two clips, a batch of four: a step an epoch.
    assert ended.steps == 2
    resumed = train_teacher(data_dir, Workspace(tmp_path), config, resume=run_dir)
    assert (run_dir / "metrics.jsonl").read_text(encoding="utf-8") == lines
    after = torch.load(run_dir / "last.pth", weights_only=True)
    assert after["facts"] == before["facts"]
    assert all(
        torch.equal(value, after["model_state_dict"][name]) for name, value in before["model_state_dict"].items()
    )
    assert (resumed.epochs, resumed.steps, resumed.metrics) == (ended.epochs, ended.steps, ended.metrics)


def test_an_unbroken_run_depends_on_what_it_has_to_remember(data_dir: Path, tmp_path: Path) -> None:
    """Mining, augmentation, dropout of modalities and plateau each change the weights: none of them is idle above."""
    changes = {
        "none": {},
        "mining": {"sampling": {"type": "weighted", "hard_share": 0.0}},
        "augment": {"augment": {}},
        "modality_dropout": {"modality_dropout": 0.0},
        "schedule": {"schedule": {"type": "constant"}},
    }
    sums = {}
    for name, change in changes.items():
        config = tiny_config(**{**EVERYTHING, **change, "epochs": 3})
        summary = train_teacher(data_dir, Workspace(tmp_path), config)
        weights = torch.load(Path(summary.run_dir) / "last.pth", weights_only=True)["model_state_dict"]
        sums[name] = float(sum(value.double().abs().sum() for value in weights.values()))
    assert len(set(sums.values())) == len(changes), sums


def run_with(data_dir: Path, run_dir: Path, config: Config, hook: lightning.Callback | None = None) -> None:
    data = PreparedData(data_dir)
    section = config.train
    torch.manual_seed(0)
    task = ClipTask(ClipNetwork(MMMSBA(NetworkSpec(**WIDTHS)), SPEC), config=section, class_weights=None)
    loaders = make_loaders(data, split_clips(data, config.split), section)
    run_dir.mkdir(exist_ok=True)
    hooks = [] if hook is None else [hook]
    fit(
        task,
        loaders.train,
        loaders.val,
        kind="teacher",
        run_dir=run_dir,
        config=config,
        facts={},
        on_trainer=lambda trainer: trainer.callbacks.extend(hooks),
    )


class Break(lightning.Callback):
    """Puts a NaN into the head at a given moment."""

    def __init__(self, hook: str, epoch: int) -> None:
        self.hook, self.epoch = hook, epoch

    def _break(self, trainer: lightning.Trainer, module: ClipTask) -> None:
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                module.model.network.classifier[0].bias[0] = float("nan")

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: ClipTask) -> None:
        if self.hook == "train":
            self._break(trainer, pl_module)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: ClipTask) -> None:
        if self.hook == "validation":
            self._break(trainer, pl_module)


@pytest.mark.parametrize(
    ("hook", "message"),
    [("train", r"epoch 2, batch 1: the loss is nan \(clips "), ("validation", "epoch 2, validation: logits are not")],
)
def test_a_nan_ends_the_run_and_leaves_its_checkpoints(data_dir: Path, tmp_path: Path, hook: str, message: str) -> None:
    with pytest.raises(DivergedError, match=message) as caught:
        run_with(data_dir, tmp_path / "run", tiny_config(), Break(hook, 1))
    assert caught.value.exit_code == 2 and "Fix: " in str(caught.value)
    best = load_checkpoint(tmp_path / "run" / "best.pth")
    assert best.facts["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in best.network.state_dict().values())
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_resume_names_the_keys_that_differ(tmp_path: Path) -> None:
    config = tiny_config()
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    refuse_other_config(tmp_path, config)
    changes = {"loss": {"type": "focal"}, "optimizer": {"learning_rate": 1e-3}}
    with pytest.raises(ConfigError, match=r"different: .*train\.loss\.type, train\.optimizer\.learning_rate"):
        refuse_other_config(tmp_path, tiny_config(**changes))
    (tmp_path / "config.json").write_text('{"train": {"momentum": 0.9}}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"train\.momentum: unknown key"):
        refuse_other_config(tmp_path, config)


def test_a_damaged_state_is_refused(data_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    config = tiny_config()
    (run_dir / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    (run_dir / "last.ckpt").write_bytes(b"PK half a file")
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train_teacher(data_dir, Workspace(tmp_path), config, resume=run_dir)
