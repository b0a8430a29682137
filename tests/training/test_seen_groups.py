"""A student is not judged by videos or persons that its teacher has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dfkit.data.groups import content_id
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.training.scoring import split_facts
from dfkit.training.seen_groups import refuse_seen_groups
from tests.data.makers import make_prepared, make_row

# Videos 0 and 1 are of person p0, 2 and 3 of p1, 4 and 5 of p2; one clip each, odd ones are fakes.
PARTS = {"train": [0, 1], "val": [2, 3], "test": [4, 5]}


def prepared(folder: Path, groups: Sequence[Sequence[str]], numbers: Sequence[int] = range(6)) -> PreparedData:
    rows = [make_row(n, n % 2, own) for n, own in zip(numbers, groups, strict=True)]
    return PreparedData(make_prepared(folder, rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared(tmp_path_factory.mktemp("known") / "x", [[f"p{n // 2}"] for n in range(6)])


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The same files, their persons unknown."""
    return prepared(tmp_path_factory.mktemp("unknown") / "x", [[] for _ in range(6)])


def older(**groups: list[str]) -> dict[str, Any]:
    """Facts of a checkpoint that names groups alone."""
    return {
        "data": "some other folder",
        "groups_known": True,
        "splits": {part: {"groups": names} for part, names in groups.items()},
        "split_config": {"folds": 3, "fold": 2, "seed": 0},
    }


def facts_of(data: PreparedData, **parts: list[int]) -> dict[str, Any]:
    """Facts of a checkpoint that was trained on the data today."""
    splits = split_facts(data, {"train": [], "val": [], "test": [], **parts})
    return {"data": data.path, "groups_known": data.groups_known, "splits": splits, "split_config": {"seed": 0}}


def test_persons_are_found_wherever_the_teachers_data_lay(data: PreparedData) -> None:
    """Groups were compared only where both data sets lay in the same folder: another preparation passed unseen."""
    with pytest.raises(DataError, match="trained on 1 groups of the val part, among them p1") as caught:
        refuse_seen_groups(older(train=["p0", "p1"]), data, PARTS)
    assert "split: {folds: 3, fold: 2, seed: 0}" in str(caught.value)
    (note,) = refuse_seen_groups(older(train=["p0", "p9"]), data, PARTS)
    assert "only groups were compared" in note


def test_what_tuned_the_teacher_does_not_test_the_student(data: PreparedData) -> None:
    """Only the teacher's training part was looked at: its validation part could be the student's test part."""
    with pytest.raises(DataError, match="tuned on 1 groups of the test part, among them p2"):
        refuse_seen_groups(older(train=["p0"], val=["p2"]), data, PARTS)
    # One split for both: they are tuned on the same persons, and tested on others.
    assert refuse_seen_groups(facts_of(data, **PARTS), data, PARTS) == ()


def test_a_person_is_found_behind_a_joined_group(data: PreparedData, tmp_path: Path) -> None:
    """A group that joins two persons carries the name of one: the other was not found in data of hers alone."""
    joined = prepared(tmp_path / "x", [["alice", "p2"], ["alice"]], numbers=(20, 21))
    facts = facts_of(joined, train=[0, 1])
    assert facts["splits"]["train"]["groups"] == ["alice"]
    assert facts["splits"]["train"]["group_ids"] == ["alice", "p2"]
    with pytest.raises(DataError, match="trained on 1 groups of the test part, among them p2"):
        refuse_seen_groups(facts, data, PARTS)


def test_the_same_files_are_found_whatever_their_groups_are_called(data: PreparedData, anonymous: PreparedData) -> None:
    """Videos were not compared at all."""
    assert len(facts_of(data, train=[4])["splits"]["train"]["file_hashes"]) == 1
    for theirs, ours in ((data, anonymous), (anonymous, data), (anonymous, anonymous)):
        with pytest.raises(
            DataError, match=r"trained on 1 videos of the test part or their sources, among them /videos/4\.mp4"
        ):
            refuse_seen_groups(facts_of(theirs, train=[4]), ours, PARTS)
        (note,) = refuse_seen_groups(facts_of(theirs, train=[0]), ours, PARTS)
        assert "may have seen the persons" in note


@pytest.mark.parametrize("known", [True, False])
def test_a_forgery_is_found_by_what_it_was_made_of(
    anonymous: PreparedData, tmp_path: Path, *, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content ids of forged files were compared with 64 digits on one side and 16, or none, on the other."""
    monkeypatch.setattr(PreparedData, "groups_known", property(lambda data: known and data is not anonymous))
    sources = [content_id(row.sha256) for row in anonymous.videos]
    # Of each source a forgery in another cell: 30 and 40 of source 0, and so on.
    first, second = (
        prepared(tmp_path / cell, [[f"{cell}-{n}", sources[n]] for n in range(6)], numbers=range(start, start + 6))
        for cell, start in (("a", 30), ("b", 40))
    )
    for theirs, ours in ((first, anonymous), (anonymous, first), (first, second)):
        with pytest.raises(DataError, match="trained on 1 videos of the test part or their sources, among them"):
            refuse_seen_groups(facts_of(theirs, train=[4]), ours, PARTS)
        refuse_seen_groups(facts_of(theirs, **PARTS), ours, PARTS)


def test_persons_are_found_although_a_video_has_none(data: PreparedData, tmp_path: Path) -> None:
    """One blank cell in the teacher's labels, and only the names of its groups were stored."""
    blank = prepared(tmp_path / "x", [["alice", "p2"], []], numbers=(20, 21))
    assert not blank.groups_known
    with pytest.raises(DataError, match="trained on 1 groups of the test part, among them p2"):
        refuse_seen_groups(facts_of(blank, train=[0]), data, PARTS)
    with pytest.raises(DataError, match="trained on 1 groups of the test part, among them p2"):
        refuse_seen_groups(facts_of(data, train=[4]), blank, {"train": [], "val": [1], "test": [0]})


def test_what_cannot_be_told_is_said(data: PreparedData, anonymous: PreparedData) -> None:
    """An original checkpoint, and groups on one side alone, were passed over in silence."""
    (note,) = refuse_seen_groups({"epoch": 7}, data, PARTS)
    assert "does not say what it was trained on" in note
    (note,) = refuse_seen_groups(older(train=["p2"]), anonymous, PARTS)
    assert "neither the teacher's videos nor common groups are known" in note
    # Of an older checkpoint without known groups the groups' names are the files.
    names = facts_of(anonymous, train=[4])["splits"]["train"]["groups"]
    with pytest.raises(DataError, match="trained on 1 videos of the test part"):
        refuse_seen_groups({**older(train=names), "groups_known": False}, data, PARTS)
