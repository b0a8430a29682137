"""Views: the videos of prepared data under the preset of a teacher, made beside the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dfkit import pipeline
from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.data.storage import PreparedData
from dfkit.data.views import open_view
from dfkit.distill import distill as distill_module
from dfkit.media.faces import FaceModels
from dfkit.media.stream import read_clips
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
    pipeline.prepare([heads], workspace, unlabelled=True, out_dir=workspace.data / "heads")
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
    pipeline.prepare([heads], workspace, unlabelled=True, out_dir=workspace.data / "heads")
    view = pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50)
    assert workspace.newest_data() == workspace.data / "heads"
    # Its clips are kept; what changes is what it counts as.
    assert pipeline.prepare([heads], workspace, unlabelled=True, preset="uniform50", out_dir=view).num_prepared == 0
    content = json.loads((view / DATA_FILE).read_text())
    assert content["view_of"] is None
    pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50)
    assert json.loads((view / DATA_FILE).read_text()) == content, "a teacher that uses it does not take it away"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_own_data_with_the_name_of_a_view_is_never_written_over(heads: Path, tmp_path: Path) -> None:
    """A distillation put its view in the place of other videos that were prepared under that name."""
    workspace = Workspace(tmp_path)
    pipeline.prepare([heads], workspace, unlabelled=True, out_dir=workspace.data / "heads")
    others = make_heads(tmp_path / "others", num_speakers=1, seconds=2.4, seed=4)[0].parent
    own, named_view = workspace.data / "heads-uniform50", workspace.data / "heads-uniform50-view"
    for folder in (own, named_view):
        pipeline.prepare([others], workspace, unlabelled=True, preset="uniform50", out_dir=folder)
    before = contents(own), contents(named_view)
    for _ in range(2):
        view = pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50)
        assert view == workspace.data / "heads-uniform50-view-2"
    assert (contents(own), contents(named_view)) == before
    assert PreparedData(view).info.view_of == "heads"
    assert workspace.newest_data() == named_view


def test_own_data_of_the_same_videos_serves_as_it_is(heads: Path, tmp_path: Path) -> None:
    """One file that could not be read was enough to make a view of a user's own data."""
    workspace, videos = Workspace(tmp_path), tmp_path / "videos"
    shutil.copytree(heads, videos)
    (videos / "broken.mp4").write_bytes(b"no video")
    for preset in ("clip2s", "uniform50"):
        pipeline.prepare([videos], workspace, unlabelled=True, preset=preset)
    own = workspace.data / "videos-uniform50"
    before = contents(own)
    assert pipeline.prepare_view(PreparedData(workspace.data / "videos"), UNIFORM50) == own
    assert contents(own) == before
    # Unfinished, it cannot serve, and is somebody's all the same.
    info = json.loads((own / DATA_FILE).read_text())
    (own / DATA_FILE).write_text(json.dumps({**info, "finished": False}))
    before = contents(own)
    view = pipeline.prepare_view(PreparedData(workspace.data / "videos"), UNIFORM50)
    assert view.name == "videos-uniform50-view" and contents(own) == before


def test_a_view_from_before_views_were_marked_is_still_one(heads: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    pipeline.prepare([heads], workspace, unlabelled=True, out_dir=workspace.data / "heads")
    view = pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50)
    info = json.loads((view / DATA_FILE).read_text())
    del info["view_of"]
    (view / DATA_FILE).write_text(json.dumps(info))
    assert pipeline.prepare_view(PreparedData(workspace.data / "heads"), UNIFORM50) == view


def test_a_view_of_another_size_holds_the_same_clips_cut_from_the_video(heads: Path, tmp_path: Path) -> None:
    """What a smaller student learns from is what it will be served: not its teacher's pictures made smaller."""
    workspace = Workspace(tmp_path)
    pipeline.prepare([heads], workspace, unlabelled=True, out_dir=workspace.data / "heads")
    data = PreparedData(workspace.data / "heads")
    spec = CLIP2S.resized(80)
    assert (spec.picture.face_px, spec.picture.lip_px) == (80, 32)
    view = open_view(data, spec, pipeline.prepare_view)
    assert view.path == str(workspace.data / "heads-80px") and view.info.view_of == "heads"
    assert workspace.newest_data() == workspace.data / "heads"
    served = next(iter(read_clips(data.videos[0].path, spec, models=FaceModels(variant=data.info.face_models))))
    stored = view[0]
    np.testing.assert_array_equal(stored.landmarks, data[0].landmarks)
    # JPEG lies between.
    assert np.abs(stored.face.astype(int) - served.face).mean() < 2
    odd = pipeline.prepare_view(data, CLIP2S.resized(80, 64))
    assert odd == workspace.data / "heads-80px-lips-64px"
