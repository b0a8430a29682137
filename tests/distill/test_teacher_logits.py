"""A teacher that sees the videos in a view of its own: its answers reach the right video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.clip import PRESETS, ClipSpec
from dfkit.data.datasets import ClipDataset
from dfkit.data.storage import PreparedData
from dfkit.distill.distill import prepare_distillation
from dfkit.distill.teacher_logits import teacher_metrics, teacher_video_logits
from dfkit.errors import ConfigError, DataError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import Checkpoint
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.objective import TeacherLogits
from dfkit.training.task import ClipNetwork
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC, WIDTHS, tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Four videos, two clips each; odd ones are fakes."""
    rows = [make_row(n, n % 2, [f"g{n}"]) for n in range(4)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", rows, clips=2, spec=SPEC))


@pytest.fixture(scope="module")
def teacher() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(MMMSBA(NetworkSpec(**WIDTHS)).eval(), SPEC, "teacher", Path("teacher.pth"))


def test_answers_follow_the_file_not_the_place_in_the_view(
    data: PreparedData, teacher: Checkpoint, tmp_path: Path
) -> None:
    # The view holds the same files (SHA-256) under other keys and in another order, and one more.
    order = (2, 4, 0, 3, 1)
    files = [make_row(n, n % 2, [f"g{n}"]) for n in order]
    rows = [replace(row, key=f"{place:064x}") for place, row in enumerate(files)]
    view = PreparedData(make_prepared(tmp_path / "view", rows, spec=SPEC))
    answers = teacher_video_logits(teacher, data, view, CPU)
    assert answers.by_video and answers.frame_logits is None
    margins = clip_margins(teacher, view)
    for video in range(4):
        assert answers.clip_logits[video].tolist() == pytest.approx([0.0, margins[order.index(video)]], abs=1e-6)
    assert len(np.unique(answers.clip_logits[:, 1])) == 4, "videos that cannot be told apart prove nothing"


def clip_margins(teacher: Checkpoint, view: PreparedData) -> list[float]:
    """The teacher's margin on each clip of a view, one at a time."""
    model = ClipNetwork(teacher.network, view.spec).eval()
    margins = []
    for clip in range(len(view)):
        sample = {name: value[None] for name, value in ClipDataset(view)[clip].items()}
        with torch.no_grad():
            real, fake = model(sample).clip_logits[0].tolist()
        margins.append(fake - real)
    return margins


def test_a_videos_answer_is_that_of_all_its_clips(data: PreparedData, teacher: Checkpoint, tmp_path: Path) -> None:
    """A video's answer was that of its last clip: each overwrote the one before."""
    rows = [make_row(n, n % 2, [f"g{n}"]) for n in range(4)]
    view = PreparedData(make_prepared(tmp_path / "view", rows, clips=3, spec=SPEC))
    # The third clip of each video shows a second face.
    view.clips = [replace(clip, track_id=int(clip.clip_index == 2)) for clip in view.clips]
    answers = teacher_video_logits(teacher, data, view, CPU)
    margins = clip_margins(teacher, view)
    for video in range(4):
        first, second, other = margins[3 * video : 3 * video + 3]
        expected = max((first + second) / 2, other)
        # float32 sums of batches against single clips.
        assert answers.clip_logits[video].tolist() == pytest.approx([0.0, expected], abs=1e-5)


def test_the_teachers_own_contract_is_prepared(data: PreparedData, teacher: Checkpoint, tmp_path: Path) -> None:
    """The default of the teacher's preset was prepared, whatever contract the teacher was trained under."""
    asked: list[ClipSpec] = []
    rows = [make_row(n, n % 2, [f"g{n // 2}"]) for n in range(6)]
    other = SPEC.model_copy(update={"hop_s": 0.5})

    def make_view(_: PreparedData, spec: ClipSpec) -> Path:
        asked.append(spec)
        return make_prepared(tmp_path / "view", rows, spec=other)

    torch.manual_seed(0)
    path = tmp_path / "teacher.pth"
    save_checkpoint(path, MMMSBA(NetworkSpec(**WIDTHS)), SPEC, kind="teacher", facts={})
    assert PRESETS["clip2s"] != SPEC
    # The student's data is of another preset; its view comes out under yet another contract.
    student = make_prepared(
        tmp_path / "data",
        rows,
        spec=SPEC.model_copy(update={"preset": "uniform50"}),
    )
    config = tiny_config()
    config = config.model_copy(update={"clip": PreparedData(student).spec})
    with pytest.raises(ConfigError, match=r"another clip contract.*\n?.*hop_s"):
        prepare_distillation(path, student, config, make_view=make_view)
    assert asked == [SPEC]


def test_a_video_that_the_view_lacks_is_named(data: PreparedData, teacher: Checkpoint, tmp_path: Path) -> None:
    view = PreparedData(make_prepared(tmp_path / "view", [make_row(n, n % 2) for n in (0, 1, 3)], spec=SPEC))
    with pytest.raises(DataError, match=r"lacks 1 of the videos, the first is /videos/2\.mp4") as caught:
        teacher_video_logits(teacher, data, view, CPU)
    assert "--preset clip2s" in str(caught.value)


def test_metrics_of_the_teachers_own_answers(data: PreparedData) -> None:
    # Fakes are videos 1 and 3. By video: 1 above all reals, 3 below both: two of four pairs are in order.
    logits = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 1.0], [0.0, -1.0]])
    parts = {"train": [], "val": [0, 1, 2, 3, 4, 5, 6, 7], "test": []}
    by_video = teacher_metrics(data, TeacherLogits(logits, None, by_video=True), parts)
    assert by_video["val"]["video"]["auc"] == by_video["val"]["clip"]["auc"] == 0.5
    assert by_video["test"] == {"clips": 0, "videos": 0}
    # By clip, the same rows: clips 0 and 1 are of real video 0, clips 2 and 3 of fake video 1.
    by_clip = teacher_metrics(data, TeacherLogits(logits, None, by_video=False), {"val": [0, 1, 2, 3], "test": [1, 2]})
    # Real 0 and 2, fake 1 and -1: only 1 > 0 of four pairs.
    assert by_clip["val"]["clip"]["auc"] == 0.25
    assert by_clip["test"]["clip"]["auc"] == 0.0
