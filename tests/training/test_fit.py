"""Training on real prepared clips: resume is exact, splits hold, distillation lowers its own loss."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
import yaml

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config
from dfkit.data.prepare import prepare
from dfkit.data.protocols import protocol_of
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.distill.distill import distill_student
from dfkit.errors import CheckpointError, ConfigError
from dfkit.measures.decision import Calibration, Decision, OperatingPoint
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.fit import fit, refuse_other_config
from dfkit.training.loaders import make_loaders
from dfkit.training.scoring import ClipLogits, decide, split_facts, summarize
from dfkit.training.task import ClipNetwork, ClipTask
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.interrupt import last_line, signal_when

SPEC = ClipSpec(picture=PictureSpec(face_px=64, lip_px=48))
GRID = ("bbaf2n", "brbk7n", "lbax4n", "lbbc2a", "lrwp9a", "lwbsza")
SPLIT = {"refit": False, "val_share": 0.34, "test_share": 0.34}
WIDTHS = {"face_channels": (8, 8, 16), "lip_channels": (8, 8, 16), "gru_hidden": 16}
CUT = {"face_channels": (8, 8, 8), "lip_channels": (8, 8, 8), "gru_hidden": 8}
CONFIG = Config.model_validate(
    {
        "name": "tiny",
        "clip": SPEC.model_dump(),
        "split": SPLIT,
        "train": {
            "epochs": 2,
            "batch_size": 4,
            "widths": WIDTHS,
            "num_threads": 1,
            "face_trunk": "mmms_ba",
            "standardised_start": False,
            "clip_statistics": False,
            "modalities": ["audio", "face", "lip"],
            "augment": {},
        },
        "distill": {"epochs": 2, "batch_size": 4, "widths": CUT, "num_threads": 1, "alpha": 1.0},
    }
)


@pytest.fixture(scope="module")
def data_dir(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers in three groups, every second one called fake: labels to train on, not to learn from."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        f"{shared / 'clips' / f'lipnet-{name}.mpg'},{('real', 'fake')[n % 2]},group{n // 2}"
        for n, name in enumerate(GRID)
    ]
    labels = folder / "labels.csv"
    labels.write_text("path,label,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    prepare(labels, folder / "prepared", spec=SPEC, progress=False)
    return folder / "prepared"


class StopAfterFirst(lightning.Callback):
    """Ends a run after its first epoch, as a kill at that point would."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = True


def run(data_dir: Path, run_dir: Path, *, stop: bool = False, resume: bool = False) -> dict[str, torch.Tensor]:
    data = PreparedData(data_dir)
    torch.manual_seed(0)
    section = CONFIG.train
    spec = NetworkSpec(**{k: v for k, v in WIDTHS.items()})
    task = ClipTask(ClipNetwork(MMMSBA(spec), SPEC), config=section, class_weights=None)
    loaders = make_loaders(data, split_clips(data, CONFIG.split), section)
    run_dir.mkdir(exist_ok=True)
    hook = (lambda trainer: trainer.callbacks.append(StopAfterFirst())) if stop else None
    result = fit(
        task,
        loaders.train,
        loaders.val,
        kind="teacher",
        run_dir=run_dir,
        config=CONFIG,
        facts={},
        resume=resume,
        on_trainer=hook,
    )
    return load_checkpoint(result.last_path).network.state_dict()


def test_resumed_run_equals_an_unbroken_one(data_dir: Path, tmp_path: Path) -> None:
    unbroken = run(data_dir, tmp_path / "a")
    first = run(data_dir, tmp_path / "b", stop=True)
    resumed = run(data_dir, tmp_path / "b", resume=True)
    assert any(not torch.equal(first[name], value) for name, value in unbroken.items())
    for name, value in unbroken.items():
        assert torch.equal(resumed[name], value), name
    rows = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]


def test_resume_refuses_another_configuration(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json(), encoding="utf-8")
    refuse_other_config(tmp_path, CONFIG)
    other = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"epochs": 5})})
    with pytest.raises(ConfigError, match="different: train"):
        refuse_other_config(tmp_path, other)
    with pytest.raises(ConfigError, match="nothing to resume"):
        refuse_other_config(tmp_path / "gone", CONFIG)


def test_splits_keep_groups_whole(data_dir: Path) -> None:
    data = PreparedData(data_dir)
    indices = split_clips(data, CONFIG.split)
    groups = {name: {data.clips[i].group for i in places} for name, places in indices.items()}
    assert sorted(i for places in indices.values() for i in places) == list(range(len(data)))
    assert len(set.union(*groups.values())) == sum(len(g) for g in groups.values()) == 3
    facts = split_facts(data, indices)
    assert all(facts[name]["real"] == facts[name]["fake"] == 1 for name in ("train", "val", "test"))


def test_teacher_to_student(data_dir: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    teacher = train_teacher(data_dir, workspace, CONFIG)
    assert load_checkpoint(teacher.checkpoint).clip_spec == SPEC
    lines = [line for line in teacher.summary() if line.startswith("  protocol: ")]
    assert [text in line for line, text in zip(lines, ("val part", "test part"), strict=True)] == [True, True]
    student = distill_student(
        teacher.checkpoint, data_dir, workspace, CONFIG, make_view=lambda *_: pytest.fail("both see clip2s")
    )
    loaded = load_checkpoint(student.checkpoint)
    assert loaded.kind == "student" and loaded.network.spec.gru_hidden == 8
    for part in ("val", "test"):
        stated = {loaded.facts[of][part]["protocol"]["data_hash"] for of in ("metrics", "teacher_metrics")}
        assert stated == {videos_hash(PreparedData(data_dir))}
    assert loaded.facts["teacher_parameters"] > loaded.facts["parameters"]
    rows = [
        json.loads(line) for line in (Path(student.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    # alpha 1: the training loss is the divergence from the teacher alone.
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert workspace.newest_run("student") == Path(student.run_dir)
    assert student.metrics["test"]["videos"] == 2


def test_original_teacher_is_distilled_per_video(data_dir: Path, shared: Path, tmp_path: Path) -> None:
    from dfkit.pipeline import prepare_view

    config = CONFIG.model_copy(
        update={"distill": CONFIG.distill.model_copy(update={"epochs": 1, "widths": CONFIG.distill.widths})}
    )
    student = distill_student(
        shared / "teacher" / "fold4.pth", data_dir, Workspace(tmp_path), config, make_view=prepare_view
    )
    assert any("logits are distilled per video" in note for note in student.notes)
    with np.load(Path(student.run_dir) / "teacher_logits.npz") as stored:
        assert bool(stored["by_video"])
        assert len(set(stored["video_keys"].tolist())) == 6
        assert stored["clip_logits"].shape == (len(stored["video_keys"]), 2)
        # Six different videos: six different answers of the untrained teacher.
        assert len(np.unique(stored["clip_logits"][:, 1].round(7))) == 6


def test_few_validation_videos_fix_nothing(data_dir: Path) -> None:
    data = PreparedData(data_dir)
    decision = decide(data, ClipLogits(np.arange(4), np.zeros((4, 2), np.float32), np.zeros((4, 50, 2), np.float32)))
    assert decision.operating_point.threshold == 0.5
    assert "not fitted" in decision.operating_point.name
    assert decision.calibration.calibration_temperature == 1.0


def test_checkpoint_round_trip_is_exact(tmp_path: Path) -> None:
    network = MMMSBA(NetworkSpec(**CUT))
    save_checkpoint(tmp_path / "x.pth", network, SPEC, kind="student", facts={"epoch": 3})
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert (loaded.kind, loaded.clip_spec, loaded.facts) == ("student", SPEC, {"epoch": 3})
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_newer_checkpoints_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pth", MMMSBA(NetworkSpec(**CUT)), SPEC, kind="student", facts={})
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    torch.save({**content, "schema_version": 99}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="schema 99"):
        load_checkpoint(tmp_path / "x.pth")


TRAIN_SCRIPT = """
import resource, signal, sys
# A shell that starts tests in the background lets its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.argv[2] == "full":
    # A file-size limit fails writes as a full disk does; without the handler the signal would end the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv = ["dfkit", "train", "--data", sys.argv[1], "--config", "tiny.yaml"]
from dfkit.cli import main
main()
"""


def start_training(data_dir: Path, folder: Path, *, epochs: int, how: str) -> subprocess.Popen[str]:
    section = CONFIG.train.model_copy(update={"epochs": epochs})
    config = CONFIG.model_copy(update={"train": section})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(json.loads(config.model_dump_json())), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN_SCRIPT, str(data_dir), how],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_whole_files_that_resume(data_dir: Path, tmp_path: Path) -> None:
    process = start_training(data_dir, tmp_path, epochs=500, how="plain")
    output = signal_when(process, signal.SIGINT, lambda said: last_line(said).startswith("epoch 2/"))
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, output + rest
    assert "interrupted" in rest and "Traceback" not in rest
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert not list(run_dir.glob(".*partial"))
    load_checkpoint(run_dir / "best.pth")
    assert torch.load(run_dir / "last.ckpt", weights_only=True)["epoch"] >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX resource limits")
def test_full_disk_is_said_and_leaves_no_half_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    process = start_training(data_dir, tmp_path, epochs=1, how="full")
    _, output = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "no space left" in output and "Traceback" not in output
    assert not list((tmp_path / "runs").rglob("*.pth*"))


def test_metrics_are_taken_where_the_decision_is(data_dir: Path) -> None:
    """A threshold chosen on calibrated p_fake: margin 1 is 0.73 plain and 0.62 at temperature 2."""
    data = PreparedData(data_dir)
    logits = ClipLogits(
        np.arange(len(data)), np.tile([[0.0, 1.0]], (len(data), 1)).astype(np.float32), np.zeros((len(data), 50, 2))
    )
    point = OperatingPoint(threshold=0.7, review_low=0.7, review_high=0.7, name="by hand")
    plain = summarize(data, logits, Decision(operating_point=point), part="val")
    assert (
        plain["protocol"]["text"]
        == protocol_of(data, range(len(data.videos)), part="val", aggregation="mean of all clips").text
    )
    calibrated = summarize(data, logits, Decision(Calibration(calibration_temperature=2.0), point))
    # Half of the videos are fake: calling all fake is right for those, calling all real for the others.
    assert plain["video"]["f1"] == pytest.approx(2 / 3)
    assert calibrated["video"]["f1"] == 0.0
