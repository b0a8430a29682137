"""A workspace that is moved keeps its data, its runs and their guards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.export.export import open_student
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.run_summary import read_run
from dfkit.training.seen_groups import refuse_seen_groups
from dfkit.training.train import train_teacher
from dfkit.workspace import Workspace
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC, tiny_config


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a run in a workspace that was moved since."""
    folder = tmp_path_factory.mktemp("places")
    rows = [make_row(n, n % 2, [f"g{n // 2}"], split=("train", "val", "test")[n // 2 % 3]) for n in range(12)]
    data_dir = make_prepared(folder / "here" / "data" / "x", rows, spec=SPEC)
    train_teacher(data_dir, Workspace(folder / "here"), tiny_config(split={}, epochs=1))
    (folder / "here").rename(folder / "there")
    return folder / "there" / "runs" / "tiny" / "best.pth"


def test_data_are_named_relative_to_the_workspace(moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint named them relative to whatever folder had been the current one."""
    monkeypatch.chdir(tmp_path)
    checkpoint, data = open_student(moved, None)
    assert checkpoint.facts["data"] == "data/x"
    assert Path(data.path) == moved.parents[2] / "data" / "x"
    # A folder of that name where one happens to be is not meant.
    make_prepared(tmp_path / "data" / "x", [make_row(0, 0, ["other"])], spec=SPEC)
    assert Path(open_student(moved, None)[1].path) == Path(data.path)


def test_what_is_gone_is_named(moved: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.pth"
    alone.write_bytes(moved.read_bytes())
    with pytest.raises(DataError, match=r"data/x: the data that .* was trained on are not there\n  Fix: name them"):
        open_student(alone, None)


def test_the_guard_against_seen_groups_holds_in_a_moved_workspace(moved: Path) -> None:
    """Its data have another path now than where the teacher was trained."""
    data = PreparedData(moved.parents[2] / "data" / "x")
    trained = [key.index for key in data.clips if key.split == "train"]
    facts = load_checkpoint(moved).facts
    with pytest.raises(DataError, match="the teacher has seen what its student is to be judged by"):
        refuse_seen_groups(facts, data, {"train": [], "val": [], "test": trained})


def test_a_finished_run_is_read_where_it_is_now(moved: Path) -> None:
    run = read_run(moved.parent)
    assert run is not None
    assert (run.run_dir, run.checkpoint) == (str(moved.parent), str(moved))
    assert json.loads((moved.parent / "run.json").read_text())["checkpoint"] == "best.pth"
