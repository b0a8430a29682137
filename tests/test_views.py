"""Views: the videos of prepared data under the preset of a teacher, made beside the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.clip import UNIFORM50
from dfkit.data.storage import PreparedData
from dfkit.distill import distill as distill_module
from dfkit.synthetic.heads import make_heads
from dfkit.workspace import DATA_FILE, Workspace


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_heads(tmp_path_factory.mktemp("heads"), num_speakers=1, seconds=2.4, seed=3)[0].parent


def test_a_second_distillation_takes_the_data_again_and_not_their_view(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view that the first run left was the newest data: the second trained a uniform50 student on it."""
    workspace = Workspace(tmp_path)
    pipeline.prepare([heads], workspace, out_dir=workspace.data / "heads")
    taken = []

    def distill(teacher: Path, data_dir: Path, *_: object, **__: object) -> None:
        taken.append(data_dir)
        pipeline.prepare_view(PreparedData(data_dir), UNIFORM50)

    monkeypatch.setattr(distill_module, "distill_student", distill)
    for _ in range(2):
        pipeline.distill(workspace, teacher_path=tmp_path / "fold4.pth")
    assert taken == [workspace.data / "heads"] * 2
    view = workspace.data / "heads-uniform50"
    assert json.loads((view / DATA_FILE).read_text())["view_of"] == "heads"
    pipeline.distill(workspace, teacher_path=tmp_path / "fold4.pth", data_dir=view)
    assert taken[-1] == view, "named, it is data like any other"


def test_a_view_that_is_prepared_on_purpose_becomes_data_of_its_own(heads: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    pipeline.prepare([heads], workspace, out_dir=workspace.data / "heads")
    view = pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50)
    assert workspace.newest_data() == workspace.data / "heads"
    # Its clips are kept; what changes is what it counts as.
    assert pipeline.prepare([heads], workspace, preset="uniform50", out_dir=view).num_prepared == 0
    content = json.loads((view / DATA_FILE).read_text())
    assert content["view_of"] is None
    pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50)
    assert json.loads((view / DATA_FILE).read_text()) == content, "a teacher that uses it does not take it away"
