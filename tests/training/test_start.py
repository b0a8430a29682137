"""Training that begins with weights: a face trunk that comes with them, or another run's network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dfkit.config import TrainConfig
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import distill_student
from dfkit.errors import CheckpointError, ConfigError, DataError
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.efficientnet_lite import FaceTexture, load_lite0_blocks, packaged_weights
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.kept_features import KeptFeatures
from dfkit.training.scoring import split_facts
from dfkit.training.train import first_network, train_teacher
from dfkit.workspace import Workspace
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data

TRUNK = "visual_feature_extractor.trunk."
LITE0 = {"face_trunk": "efficientnet_lite0", "face_blocks": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("data")
    return PreparedData(make_synthetic_data(folder / "x", num_videos=12, clips_per_video=1, spec=SPEC))


def started(path: str | Path) -> TrainConfig:
    return tiny_config(teacher={"start": str(path)}).train


def trunk_of(path: str | Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(path).network.state_dict()
    return {name.removeprefix(TRUNK): value for name, value in state.items() if name.startswith(TRUNK)}


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_trunk_starts_from_its_weights_and_is_trained_as_configured(
    data: PreparedData, tmp_path: Path, rate: float
) -> None:
    config = tiny_config(teacher=LITE0, epochs=1, trunk_rate=rate)
    run = train_teacher(data.path, Workspace(tmp_path), config)
    published = load_lite0_blocks(packaged_weights(), 1).state_dict()
    trained = trunk_of(run.checkpoint)
    assert published.keys() == trained.keys()
    changed = [name for name, value in published.items() if not torch.equal(value, trained[name])]
    assert bool(changed) is (rate > 0)
    assert not [name for name in changed if "running" in name or "num_batches" in name]

    def no_view(*_: object) -> Path:
        raise AssertionError("teacher and student see the same clips")

    student = distill_student(run.checkpoint, data.path, Workspace(tmp_path), config, make_view=no_view)
    kept = trunk_of(student.checkpoint)
    moved = {name for name, value in kept.items() if not torch.equal(value, trained[name])}
    assert bool(moved) is (rate > 0)
    assert not [name for name in moved if "running" in name or "num_batches" in name]


def starting_point(path: Path, data: PreparedData, part: str, clips: list[int]) -> Path:
    """A checkpoint that was trained on some clips of the data."""
    network, _ = first_network(tiny_config().train, data, {"train": [], "val": [], "test": []})
    splits = split_facts(data, {"train": [], "val": [], "test": [], part: clips})
    facts = {"splits": splits, "groups_known": data.groups_known}
    save_checkpoint(path, network, data.spec, kind="teacher", facts=facts)
    return path


def test_training_goes_on_from_a_checkpoint_and_remembers_whom_it_saw(data: PreparedData, tmp_path: Path) -> None:
    parts = split_clips(data, tiny_config().split)
    start = starting_point(tmp_path / "start.pth", data, "train", parts["train"][:1])
    section = tiny_config(teacher={"start": str(start), "attention": "none"}).train
    network, facts = first_network(section, data, parts)
    saved = load_checkpoint(start).network
    assert network.spec == saved.spec
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in network.state_dict().items())
    assert facts["splits"]["start"]["clips"] == 1

    run = train_teacher(data.path, Workspace(tmp_path), tiny_config(teacher={"start": str(start)}, epochs=1))
    splits = load_checkpoint(run.checkpoint).facts["splits"]
    assert list(splits) == ["start", "start_val", "train", "val", "test"]
    again, facts = first_network(started(run.checkpoint), data, parts)
    assert facts["splits"]["start"]["clips"] == 1 + len(parts["train"])
    assert facts["splits"]["start_val"]["clips"] == len(parts["val"])
    assert not torch.equal(again.state_dict()["classifier.0.weight"], network.state_dict()["classifier.0.weight"])


@pytest.mark.parametrize(
    ("part", "held_out", "did"), [("train", "val", "trained"), ("train", "test", "trained"), ("val", "test", "tuned")]
)
def test_nobody_is_judged_who_was_seen_before(
    data: PreparedData, tmp_path: Path, part: str, held_out: str, did: str
) -> None:
    parts = split_clips(data, tiny_config().split)
    start = starting_point(tmp_path / "start.pth", data, part, parts[held_out][:1])
    with pytest.raises(DataError, match=f"{did} on 1 groups of the {held_out} part"):
        first_network(started(start), data, parts)
    # A step further on it is still known.
    start = starting_point(tmp_path / "first.pth", data, part, parts["train"][:1])
    _, facts = first_network(started(start), data, parts)
    network = load_checkpoint(start).network
    save_checkpoint(tmp_path / "second.pth", network, data.spec, kind="teacher", facts=facts)
    swapped = {"train": parts["test"], "val": parts["val"], "test": parts["train"]}
    with pytest.raises(DataError, match=f"started from a network that was {did} on 1 groups of the test part"):
        first_network(started(tmp_path / "second.pth"), data, swapped)


def test_a_start_has_to_take_the_same_clips(data: PreparedData, tmp_path: Path) -> None:
    network, _ = first_network(tiny_config().train, data, {"train": [], "val": [], "test": []})
    save_checkpoint(tmp_path / "other.pth", network, SPEC.resized(64, None), kind="teacher", facts={})
    with pytest.raises(ConfigError, match="another clip contract"):
        first_network(started(tmp_path / "other.pth"), data, split_clips(data, tiny_config().split))
    with pytest.raises(CheckpointError, match="no such"):
        first_network(started("nowhere.pth"), data, split_clips(data, tiny_config().split))


def test_a_student_from_scratch_begins_as_a_teacher_does(data: PreparedData, tmp_path: Path) -> None:
    """With the weights that its trunk came with, which nobody learns there, and ramps of its own clips."""
    workspace = Workspace(tmp_path)
    config = tiny_config(teacher={**LITE0, "clip_statistics": True, "standardised_start": True}, epochs=1)
    teacher = train_teacher(data.path, workspace, config)
    section = config.distill.model_copy(update={"baselines": True})

    def no_view(*_: object) -> Path:
        raise AssertionError("teacher and student see the same clips")

    student = distill_student(
        teacher.checkpoint, data.path, workspace, config.model_copy(update={"distill": section}), make_view=no_view
    )
    scratch = Path(student.run_dir) / "baseline_scratch" / "best.pth"
    for name, value in load_lite0_blocks(packaged_weights(), 1).state_dict().items():
        assert torch.equal(trunk_of(scratch)[name], value)
    edges = [
        load_checkpoint(path).network.state_dict()["statistics.face.edges"] for path in (teacher.checkpoint, scratch)
    ]
    torch.testing.assert_close(*edges)


def test_a_frozen_trunk_sees_each_clip_once(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = FaceTexture.forward

    def counted(self: FaceTexture, pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        return forward(self, pictures)

    monkeypatch.setattr(FaceTexture, "forward", counted)
    parts = split_clips(data, tiny_config().split)
    losses = {}
    cases: list[tuple[str, dict[str, Any], int, int]] = [
        ("kept", {}, 1, 1),
        ("changed", {"augment": {"noise": {"prob": 1.0}}}, 3, 1),
        ("with gradients", {}, 3, 3),
    ]
    for case, keys, train_passes, val_passes in cases:
        if case == "with gradients":
            monkeypatch.setattr(KeptFeatures, "for_run", lambda *_: None)
        run = train_teacher(data.path, Workspace(tmp_path), tiny_config(teacher=LITE0, epochs=3, **keys))
        lines = (Path(run.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses[case] = [json.loads(line)["train_loss"] for line in lines]
        counts, seen = sum(seen) // SPEC.num_frames, []
        scored = len(parts["val"]) + len(parts["test"])
        assert counts == train_passes * len(parts["train"]) + val_passes * len(parts["val"]) + scored
    assert losses["kept"] == pytest.approx(losses["with gradients"], rel=1e-5)
    assert losses["changed"] != pytest.approx(losses["kept"], rel=1e-4)
