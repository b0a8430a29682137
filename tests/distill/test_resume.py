"""A distillation that was killed and resumed ends as one that was not; only the same request goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dfkit import pipeline
from dfkit.config import Config
from dfkit.config.flags import DistillFlags
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import distill_student
from dfkit.distill.request import make_request, read_request, refuse_other_request, write_request
from dfkit.distill.search.run import unfinished_or_new_run_dir
from dfkit.errors import CheckpointError, ConfigError, DataError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.checkpoints import save_checkpoint
from dfkit.workspace import Workspace
from tests.interrupt import last_line, signal_when
from tests.training.tiny import SPEC, WIDTHS, tiny_config
from tools.speed.made_data import make_synthetic_data

DISTILL_SCRIPT = "import sys; sys.argv[0] = 'dfkit'; from dfkit.cli import main; main()"
KEPT = ("", "baseline_scratch", "baseline_prune_only")


def save_teacher(path: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_checkpoint(path, MMMSBA(NetworkSpec(**WIDTHS)), SPEC, kind="teacher", facts={})
    return path


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=6, clips_per_video=2, spec=SPEC)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pth")


def with_baselines(**shared: object) -> Config:
    content = tiny_config(**shared).model_dump(mode="json")
    content["distill"]["baselines"] = True
    return Config.model_validate(content)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_and_resumed_equals_unbroken(data_dir: Path, teacher: Path, tmp_path: Path) -> None:
    """`distill` knew no --resume: what a killed one had trained was lost."""
    config = with_baselines(epochs=3, batch_size=2, modality_dropout=0.3)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(json.loads(config.model_dump_json())), encoding="utf-8")
    command = ["distill", "--teacher", str(teacher), "--data", str(data_dir), "--config", "tiny.yaml"]
    process = subprocess.Popen(
        [sys.executable, "-c", DISTILL_SCRIPT, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    # The student is finished, and the first baseline in the middle of its epochs.
    said = signal_when(
        process,
        signal.SIGKILL,
        lambda told: told.count("epoch 1/") == 2 and last_line(told).startswith("epoch 1/"),
    )
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    run_dir = tmp_path / "runs" / "tiny"
    assert not json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["finished"]
    student = (run_dir / "best.pth").stat().st_mtime_ns
    assert torch.load(run_dir / "baseline_scratch" / "last.ckpt", weights_only=True)["epoch"] < 2

    workspace = Workspace(tmp_path)
    # Teacher, data and configuration are those of the run.
    resumed = pipeline.distill(workspace, resume=run_dir)
    assert (run_dir / "best.pth").stat().st_mtime_ns == student, "a finished student was trained again"
    assert workspace.newest_run("student") == run_dir
    unbroken = distill_student(
        teacher, data_dir, Workspace(tmp_path / "other"), config, make_view=lambda *_: pytest.fail("one view")
    )
    other_dir = Path(unbroken.run_dir)
    for name in KEPT:
        ours, theirs = (torch.load(run / name / "last.pth", weights_only=True) for run in (run_dir, other_dir))
        assert ours["facts"]["epoch"] == theirs["facts"]["epoch"] == 2
        for weight, value in theirs["model_state_dict"].items():
            assert torch.equal(ours["model_state_dict"][weight], value), (name, weight)
    assert resumed.to_json()["metrics"] == unbroken.metrics
    aucs = [[row["test_auc"] for row in summary.to_json()["variants"]] for summary in (resumed, unbroken)]
    assert aucs[0] == aucs[1]


def test_another_request_does_not_go_on(data_dir: Path, teacher: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "tiny"
    run_dir.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"nothing to resume: no request\.json"):
        pipeline.distill(Workspace(tmp_path), resume=run_dir)
    data = PreparedData(data_dir)
    write_request(run_dir, make_request(teacher, data, tiny_config()))
    with pytest.raises(ConfigError, match=r"another configuration; different: distill\.seeds, flags"):
        pipeline.distill(Workspace(tmp_path), resume=run_dir, flags=DistillFlags(seeds=2))
    other = save_teacher(tmp_path / "other.pth", seed=1)
    with pytest.raises(ConfigError, match=r"with the teacher .*teacher\.pth, and .*other\.pth is another file"):
        pipeline.distill(Workspace(tmp_path), resume=run_dir, teacher_path=other)
    more = make_synthetic_data(tmp_path / "more", num_videos=8, spec=SPEC)
    with pytest.raises(DataError, match=r"was started on .*, and .*more holds other videos"):
        pipeline.distill(Workspace(tmp_path), resume=run_dir, data_dir=more)
    with pytest.raises(ConfigError, match=r"was started with --weights \(none\) of the teacher\n  Fix: resume without"):
        pipeline.distill(Workspace(tmp_path), resume=run_dir, weights="ema")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        pipeline.distill(Workspace(tmp_path), resume=run_dir, teacher_path=tmp_path / "gone.pth")
    # The same teacher under another name is the same.
    moved = tmp_path / "moved.pth"
    moved.write_bytes(teacher.read_bytes())
    refuse_other_request(run_dir, make_request(moved, data, tiny_config()))
    assert read_request(run_dir)["teacher"] == str(teacher)


def test_a_request_of_another_version_does_not_stop_a_new_search(data_dir: Path, teacher: Path, tmp_path: Path) -> None:
    workspace, wanted = Workspace(tmp_path), make_request(teacher, PreparedData(data_dir), tiny_config())
    first = unfinished_or_new_run_dir(workspace, tiny_config(), wanted)
    assert unfinished_or_new_run_dir(workspace, tiny_config(), wanted) == first
    write_request(first, {**wanted, "config": {"gone": 1}})
    assert unfinished_or_new_run_dir(workspace, tiny_config(), wanted) != first


def test_a_request_of_an_older_version_goes_on(data_dir: Path, teacher: Path, tmp_path: Path) -> None:
    """A key that came since was "another configuration", and the advice was to resume with the run's own."""
    wanted = make_request(teacher, PreparedData(data_dir), tiny_config())
    older = json.loads(json.dumps(wanted))
    del older["config"]["distill"]["quantization_aware_epochs"], older["weights"]
    write_request(tmp_path, older)
    refuse_other_request(tmp_path, wanted)
    assert read_request(tmp_path)["config"] == wanted["config"]
    older["config"]["distill"]["gone"] = 1
    write_request(tmp_path, older)
    with pytest.raises(ConfigError, match=r"request\.json: its configuration is none of this version(.|\n)*gone"):
        read_request(tmp_path)
