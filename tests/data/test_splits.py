"""Grouped splits and the check for leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dfkit.data.catalog import VideoRow
from dfkit.data.splits import Split, check_leaks, make_folds, make_split
from dfkit.errors import DataError
from tests.data.makers import CatalogOnly, make_row


def persons(count: int, *, reals: int = 2, fakes: int = 2) -> list[VideoRow]:
    rows: list[VideoRow] = []
    for person in range(count):
        for label in [0] * reals + [1] * fakes:
            rows.append(make_row(len(rows), label, [f"p{person:02d}"]))
    return rows


def groups_of(rows: Sequence[VideoRow], indices: Sequence[int]) -> set[str]:
    return {group for i in indices for group in rows[i].groups}


def test_groups_stay_whole_and_shares_are_near() -> None:
    rows = persons(40)
    split = make_split(CatalogOnly(rows), seed=3)  # type: ignore[arg-type]
    parts = split.parts()
    assert sorted(i for part in parts.values() for i in part) == list(range(160))
    names = {name: groups_of(rows, part) for name, part in parts.items()}
    assert not names["train"] & names["val"] and not names["train"] & names["test"]
    assert not names["val"] & names["test"]
    # 40 persons: a part may be off by a person or two.
    assert len(parts["test"]) / 160 == pytest.approx(0.15, abs=0.05)
    assert len(parts["val"]) / 160 == pytest.approx(0.15, abs=0.05)


def test_same_seed_same_split() -> None:
    data = CatalogOnly(persons(12))
    assert make_split(data, seed=1) == make_split(data, seed=1)  # type: ignore[arg-type]
    assert make_split(data, seed=1) != make_split(data, seed=2)  # type: ignore[arg-type]


def test_four_cells_give_two_one_one() -> None:
    rows = persons(4)
    for seed in range(10):
        split = make_split(CatalogOnly(rows), seed=seed)  # type: ignore[arg-type]
        sizes = [len(groups_of(rows, part)) for part in split.parts().values()]
        assert sizes == [2, 1, 1]


def test_a_chain_of_persons_is_one_group() -> None:
    rows = [make_row(i, i % 2, [f"p{i}", f"p{i + 1}"]) for i in range(8)]
    with pytest.raises(DataError, match=r"8 videos are in 1 group\(s\), the largest \(p0\) holds 8"):
        make_split(CatalogOnly(rows))  # type: ignore[arg-type]


def test_equal_content_is_one_group_even_when_groups_are_unknown() -> None:
    rows = persons(6)
    twins = [make_row(50, 0, ["x"], sha256="c" * 64), make_row(51, 0, ["y"], sha256="c" * 64)]
    data = CatalogOnly([*rows, *twins], groups_known=False)
    split = make_split(data)  # type: ignore[arg-type]
    assert len({name for name, part in split.parts().items() if {24, 25} & set(part)}) == 1


def test_given_split_is_taken_over_and_val_cut_from_train() -> None:
    rows = [make_row(i, i % 2, [f"p{i // 2}"], split="test" if i >= 12 else "train") for i in range(16)]
    split = make_split(CatalogOnly(rows))  # type: ignore[arg-type]
    assert split.test == (12, 13, 14, 15)
    assert split.val
    assert sorted([*split.train, *split.val]) == list(range(12))


def test_given_split_that_leaks_is_refused() -> None:
    parts = ["train", "train", "val", "val", "test", "test"]
    rows = [make_row(i, i % 2, [f"p{i % 2}"], split=part) for i, part in enumerate(parts)]
    with pytest.raises(DataError, match=r"group p0 stands in test: 4\.mp4; train: 0\.mp4; val: 2\.mp4"):
        make_split(CatalogOnly(rows))  # type: ignore[arg-type]


def test_given_split_may_be_passed_over() -> None:
    rows = [make_row(i, i % 2, [f"p{i // 4}"], split=["train", "test"][i % 2]) for i in range(40)]
    split = make_split(CatalogOnly(rows), use_given=False)  # type: ignore[arg-type]
    assert len(split.train) > len(split.test)


def test_split_for_some_files_only_is_refused() -> None:
    rows = [make_row(i, i % 2, [f"p{i}"], split="train" if i else None) for i in range(6)]
    with pytest.raises(DataError, match=r"1 of 6 videos have no split, among them 0\.mp4"):
        make_split(CatalogOnly(rows))  # type: ignore[arg-type]


def test_part_without_a_class_is_refused() -> None:
    rows = [make_row(i, int(i < 2), [f"p{i}"]) for i in range(10)]
    with pytest.raises(DataError, match="no val part can hold both classes: there are"):
        make_split(CatalogOnly(rows))  # type: ignore[arg-type]


def test_leak_check_finds_a_person_and_a_copied_file() -> None:
    rows = [
        make_row(0, 0, ["a"]),
        make_row(1, 1, ["a"]),
        make_row(2, 0, ["b"], sha256="f" * 64),
        make_row(3, 0, ["c"], sha256="f" * 64),
    ]
    split = Split(train=(0, 2), val=(1,), test=(3,), groups_known=True, seed=0)
    with pytest.raises(DataError) as caught:
        check_leaks(split, rows, groups_known=True)
    assert "group a stands in train: 0.mp4; val: 1.mp4" in str(caught.value)
    assert "group b stands in test: 3.mp4; train: 2.mp4" in str(caught.value)
    check_leaks(Split((0, 1), (2, 3), (), groups_known=True, seed=0), rows, groups_known=True)


def test_videos_without_clips_are_in_no_part() -> None:
    rows = [*persons(5), make_row(99, 0, ["p00"], clips=(), status="no_face")]
    split = make_split(CatalogOnly(rows))  # type: ignore[arg-type]
    assert 20 not in {i for part in split.parts().values() for i in part}


def test_folds_share_the_test_part_and_cover_the_rest_once() -> None:
    rows = persons(20)
    folds = make_folds(CatalogOnly(rows), folds=5)  # type: ignore[arg-type]
    assert len(folds) == 5
    assert len({fold.test for fold in folds}) == 1
    validated = sorted(i for fold in folds for i in fold.val)
    assert validated == sorted(set(range(80)) - set(folds[0].test))


def test_too_many_folds() -> None:
    with pytest.raises(DataError, match="too few groups for 5 folds"):
        make_folds(CatalogOnly(persons(4)), folds=5)  # type: ignore[arg-type]
