"""Finding the newest of each kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dfkit.errors import DataError
from dfkit.workspace import Workspace, find_stored, stored_path


def put(folder: Path, name: str, **content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_newest_by_the_time_written_inside(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    new = put(space.data / "b", "data.json", created="2026-03-01T00:00:00+00:00", finished=True)
    old = put(space.data / "c", "data.json", created="2026-01-01T00:00:00+00:00", finished=True)
    put(space.data / "a", "data.json", created="2026-09-01T00:00:00+00:00", finished=False)
    (space.data / "noise").mkdir()
    (space.data / "broken").mkdir()
    (space.data / "broken" / "data.json").write_text("{")
    os.utime(old / "data.json", (2e9, 2e9))  # a copy made later
    assert space.newest_data() == new


def test_views_are_never_the_newest_data(tmp_path: Path) -> None:
    """A view, made after its data, was taken for the newest data."""
    space = Workspace(tmp_path)
    data = put(space.data / "videos", "data.json", created="2026-01-01T10:00:00+00:00", finished=True, source="a")
    later = {"created": "2026-01-01T10:05:00+00:00", "finished": True}
    put(space.data / "videos-clip2s", "data.json", **later, view_of="videos")
    put(space.data / "videos-uniform50", "data.json", **later, source="17 files")  # before views were marked
    assert space.newest_data() == data
    # What only looks like one: prepared on purpose, and without data beside it.
    own = put(space.data / "videos-uniform50", "data.json", **later, source="/videos")
    assert space.newest_data() == own
    put(own, "data.json", **later, source="17 files", view_of=None)
    assert space.newest_data() == own
    put(own, "data.json", **later, source="17 files")
    (data / "data.json").unlink()
    assert space.newest_data() == own


@pytest.mark.parametrize("source", [{}, {"source": None}, {"source": ["a"]}], ids=["none", "null", "list"])
def test_data_that_do_not_say_what_they_were_made_from_are_no_view(tmp_path: Path, source: dict[str, object]) -> None:
    """Without a source they counted as a view; a source that is no text ended every command in a traceback."""
    space = Workspace(tmp_path)
    put(space.data / "videos", "data.json", created="2026-01-01T10:00:00+00:00", finished=True)
    later = {"created": "2026-01-01T10:05:00+00:00", "finished": True}
    own = put(space.data / "videos-uniform50", "data.json", **later, **source)
    assert space.newest_data() == own


def test_stored_paths_are_relative_to_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were relative to the folder that happened to be the current one."""
    space = Workspace(tmp_path / "space")
    run = space.new_run_dir("x", "teacher")
    data, other = put(space.data / "d", "data.json"), put(tmp_path / "other", "data.json")
    assert stored_path(data, run / "fold_1") == "data/d"
    assert stored_path(other, run) == other.as_posix()
    monkeypatch.chdir(tmp_path)
    assert stored_path("space/data/d", Path("space/runs/x")) == "data/d"
    assert stored_path("other", "space/runs/x") == other.as_posix()
    assert stored_path("s3://bucket/d", run) == "s3://bucket/d"
    assert stored_path("space/data/d", "elsewhere/best.pth") == data.as_posix()
    for stored, expected in (
        ("data/d", data),
        (other.as_posix(), other),
        ("space/data/d", "space/data/d"),  # as it was stored before
        ("gone", space.root / "gone"),
        ("s3://bucket/d", "s3://bucket/d"),
    ):
        assert find_stored(stored, run / "best.pth") == str(expected)
    assert find_stored("data/d", tmp_path / "best.pth") == "data/d", "in no workspace: relative to the current folder"


def test_runs_by_kind(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    teacher = space.new_run_dir("first", "teacher")
    student = space.new_run_dir("first", "student")
    assert (teacher.name, student.name) == ("first", "first-2")
    with pytest.raises(DataError, match=r"no teacher run in runs/\n  Fix: dfkit train"):
        space.newest_run("teacher")
    space.finish_run(teacher, auc=0.9)
    assert space.newest_run("teacher") == teacher
    assert json.loads((teacher / "run.json").read_text())["auc"] == 0.9
    with pytest.raises(DataError, match="Fix: dfkit distill"):
        space.newest_run("student")


def test_run_names_become_file_names(tmp_path: Path) -> None:
    assert Workspace(tmp_path).new_run_dir("../a b/ü:*", "teacher").name == "a-b-ü"
    assert Workspace(tmp_path).new_run_dir("..", "teacher").name == "teacher"


@pytest.mark.parametrize(
    ("method", "command"),
    [("newest_data", "dfkit prepare"), ("newest_export", "dfkit export")],
)
def test_nothing_there_names_the_command(tmp_path: Path, method: str, command: str) -> None:
    with pytest.raises(DataError, match=f"Fix: {command}"):
        getattr(Workspace(tmp_path), method)()


def test_newest_export(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    put(space.exports / "old", "manifest.json", created="2026-01-01T00:00:00+00:00")
    new = put(space.exports / "new", "manifest.json", created="2026-02-01T00:00:00+00:00")
    assert space.newest_export() == new
