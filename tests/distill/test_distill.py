"""Distillation with weighted draws and augmentation: the teacher still answers every clip, once, as it is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.clip import UNIFORM50, ClipSpec
from dfkit.data.datasets import ClipDataset
from dfkit.data.storage import PreparedData
from dfkit.data.views import open_view
from dfkit.distill import distill
from dfkit.distill.teacher_logits import teacher_clip_logits
from dfkit.errors import ConfigError, DataError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.objective import TeacherLogits
from dfkit.training.task import ClipNetwork
from dfkit.workspace import TEACHER_LOGITS_FILE, Workspace, find_stored
from tests.training.tiny import SPEC, WIDTHS, tiny_config
from tools.speed.made_data import make_synthetic_data


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=6, spec=SPEC)


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.manual_seed(0)
    save_checkpoint(path, MMMSBA(NetworkSpec(**WIDTHS)), SPEC, kind="teacher", facts={})
    return path


def test_gradients_are_taken_once_for_student_and_baselines(
    data_dir: Path, teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = distill.minibatch_gradients
    monkeypatch.setattr(distill, "minibatch_gradients", lambda *a, **k: calls.append(k["device"]) or real(*a, **k))
    config = tiny_config(epochs=1, sampling={"type": "weighted", "hard_share": 0.5}, augment={"noise": {"prob": 1.0}})
    section = config.distill.model_copy(update={"importance": "taylor", "baselines": True})
    config = config.model_copy(update={"distill": section})
    student = distill.distill_student(
        teacher_path, data_dir, Workspace(tmp_path), config, make_view=lambda *_: pytest.fail("both see clip2s")
    )
    assert calls == [torch.device("cpu")]
    assert not any("modality_dropout" in note for note in student.notes)
    run_dir = Path(student.run_dir)
    # Distillation did not change what "only pruned" starts from, nor the other way round.
    weights = [
        load_checkpoint(run_dir / name / "best.pth").network.state_dict()
        for name in (".", "baseline_prune_only", "baseline_scratch")
    ]
    assert not torch.equal(weights[0]["classifier.0.weight"], weights[1]["classifier.0.weight"])


def test_what_the_teacher_says_of_clips_without_sound_is_said(data_dir: Path, teacher_path: Path) -> None:
    """Its answer to a clip whose sound was taken from the student is that to the whole clip: nothing said so."""
    setup = distill.prepare_distillation(
        teacher_path, data_dir, tiny_config(modality_dropout=0.3), make_view=lambda *_: pytest.fail("both see clip2s")
    )
    assert any(
        note == "modality_dropout 0.3: the teacher's answer to a clip that lost a modality is that to the whole clip"
        for note in setup.notes
    )


def test_the_teacher_answers_every_clip_as_it_is_stored(data_dir: Path, teacher_path: Path) -> None:
    data = PreparedData(data_dir)
    config = tiny_config(sampling={"type": "weighted"}, augment={"noise": {"prob": 1.0}}).distill
    teacher = load_checkpoint(teacher_path)
    answers = teacher_clip_logits(teacher, data, {"train": [3, 0], "val": [1], "test": [5, 2]}, config)
    model = ClipNetwork(teacher.network, SPEC)
    for clip in (0, 1, 2, 3, 5):
        sample = {name: value[None] for name, value in ClipDataset(data)[clip].items()}
        with torch.no_grad():
            expected = model(sample).clip_logits[0]
        # Batches of another size add up in another order.
        torch.testing.assert_close(answers.clip_logits[clip], expected, atol=1e-5, rtol=0)
    assert answers.frame_logits is not None and not answers.by_video
    assert answers.clip_logits[4].tolist() == [0.0, 0.0]


SMALLER = SPEC.resized(32, 16)


def test_a_student_of_another_size_sees_the_same_clips(data_dir: Path, teacher_path: Path, tmp_path: Path) -> None:
    asked: list[ClipSpec] = []

    def make_view(data: PreparedData, spec: ClipSpec) -> Path:
        assert data.path == str(data_dir)
        asked.append(spec)
        return make_synthetic_data(tmp_path / "view", num_videos=6, spec=spec)

    section = {"face_px": 32, "lip_px": 16, "stem": "patch4", "importance": "taylor"}
    plain = tiny_config(epochs=1)
    config = plain.model_copy(update={"distill": plain.distill.model_copy(update=section)})
    student = distill.distill_student(teacher_path, data_dir, Workspace(tmp_path), config, make_view=make_view)
    assert asked == [SMALLER]
    kept = load_checkpoint(student.checkpoint)
    assert kept.clip_spec == SMALLER and kept.network.spec.stem == "patch4"
    assert Path(find_stored(kept.facts["data"], kept.path)) == tmp_path / "view"
    assert any("the student 32 and 16 px of the same clips" in note for note in student.notes)
    # The teacher answers its own clips, and prunes by them.
    no_view = lambda *_: pytest.fail("both see clip2s")  # noqa: E731
    own = distill.prepare_distillation(teacher_path, data_dir, plain, make_view=no_view)
    with np.load(Path(student.run_dir) / TEACHER_LOGITS_FILE) as stored:
        np.testing.assert_array_equal(stored["clip_logits"], own.teacher_logits.clip_logits.numpy())
    assert distill.resized_setup(own, SPEC, no_view) is own


def test_data_of_the_students_size_gives_the_teacher_a_view(teacher_path: Path, tmp_path: Path) -> None:
    data_dir = make_synthetic_data(tmp_path / "small", num_videos=6, spec=SMALLER)
    plain = tiny_config(epochs=1)
    config = plain.model_copy(update={"clip": SMALLER})
    setup = distill.prepare_distillation(
        teacher_path,
        data_dir,
        config,
        make_view=lambda _, spec: make_synthetic_data(tmp_path / "large", num_videos=6, spec=spec),
    )
    assert setup.data.spec == SMALLER and PreparedData(tmp_path / "large").spec == SPEC
    assert any("the teacher sees faces of" in note for note in setup.notes)


def test_a_view_has_to_hold_the_same_clips(data_dir: Path, tmp_path: Path) -> None:
    data = PreparedData(data_dir)
    other = make_synthetic_data(tmp_path / "other", num_videos=4, spec=SMALLER)
    with pytest.raises(DataError, match="holds other clips than"):
        open_view(data, SMALLER, lambda *_: other)
    data.info = replace(data.info, spec=UNIFORM50)
    with pytest.raises(ConfigError, match="uniform50 has faces of 224 px"):
        open_view(data, UNIFORM50.model_copy(update={"picture": SMALLER.picture}), lambda *_: other)


def test_answers_per_video_follow_the_videos_of_a_view(data_dir: Path, tmp_path: Path) -> None:
    data = PreparedData(data_dir)
    view = PreparedData(make_synthetic_data(tmp_path / "view", num_videos=6, spec=SMALLER))
    view.videos = view.videos[1:]  # one gave no clip
    by_video = TeacherLogits(torch.arange(12.0).reshape(6, 2), None, by_video=True)
    rows = distill.logits_for_view(by_video, data, view).clip_logits
    assert torch.equal(rows, torch.arange(2.0, 12.0).reshape(5, 2))
