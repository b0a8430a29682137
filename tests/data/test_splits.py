"""Grouped splits and the check for leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dfkit.data.catalog import ClipRow, VideoRow
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
        check_leaks(split, rows)
    assert "group a stands in train: 0.mp4; val: 1.mp4" in str(caught.value)
    assert "group b stands in test: 3.mp4; train: 2.mp4" in str(caught.value)
    check_leaks(Split((0, 1), (2, 3), (), groups_known=True, seed=0), rows)


def test_videos_without_clips_are_in_no_part() -> None:
    rows = [*persons(5), make_row(99, 0, ["p00"], clips=(), status="no_face")]
    split = make_split(CatalogOnly(rows))  # type: ignore[arg-type]
    assert 20 not in {i for part in split.parts().values() for i in part}


def test_every_video_is_tested_in_one_fold_and_stopped_on_others() -> None:
    rows = persons(20)
    folds = make_folds(CatalogOnly(rows), folds=5)  # type: ignore[arg-type]
    assert len(folds) == 5
    assert sorted(i for fold in folds for i in fold.test) == list(range(80))
    for fold in folds:
        names = [groups_of(rows, part) for part in fold.parts().values()]
        assert sum(map(len, names)) == len(set.union(*names)) == 20
        assert len(names[1]) in (2, 3, 4)  # 15 % of 20 persons
        assert {rows[i].label for i in fold.val} == {rows[i].label for i in fold.test} == {0, 1}


def test_too_many_folds() -> None:
    with pytest.raises(DataError, match="too few groups for 5 folds"):
        make_folds(CatalogOnly(persons(4)), folds=5)  # type: ignore[arg-type]


def test_fold_without_a_class_is_refused_by_its_number() -> None:
    # Two fake videos cannot be in three test parts.
    rows = [make_row(i, int(i < 2), [f"p{i}"]) for i in range(12)]
    with pytest.raises(DataError, match=r"fold \d of 3: the test part has no fake video"):
        make_folds(CatalogOnly(rows), folds=3)  # type: ignore[arg-type]


def timed(durations_s: Sequence[float]) -> list[VideoRow]:
    return [make_row(i, i % 2, [f"p{i}"], facts={"duration_s": value}) for i, value in enumerate(durations_s)]


def test_parts_are_alike_in_duration_when_asked() -> None:
    # Eight long videos among 32 (both classes): every one of four test parts of eight gets its share of two.
    rows = timed([60.0 if i < 8 else 10.0 + i / 100 for i in range(32)])
    folds = make_folds(CatalogOnly(rows), folds=4, duration_bins=4)  # type: ignore[arg-type]
    assert [sum(i < 8 for i in fold.test) for fold in folds] == [2, 2, 2, 2]
    plain = [make_folds(CatalogOnly(rows), folds=4, seed=seed) for seed in range(5)]  # type: ignore[arg-type]
    assert any(sum(i < 8 for i in fold.test) != 2 for folds in plain for fold in folds)


def test_unknown_duration_is_named() -> None:
    rows = [*timed([10.0] * 12), make_row(99, 0, ["x"], facts=None, clips=(ClipRow(0, 0.0, 0.0, 50, 0),))]
    with pytest.raises(DataError, match=r"duration of 1 videos is not known, among them 99\.mp4"):
        make_split(CatalogOnly(rows), duration_bins=2)  # type: ignore[arg-type]


def test_two_groups_go_without_a_test_part_only_when_asked() -> None:
    data = CatalogOnly(persons(2, reals=1, fakes=1))
    with pytest.raises(DataError, match="too few groups for a val part") as caught:
        make_split(data)  # type: ignore[arg-type]
    assert "test_share: 0" in str(caught.value)
    split = make_split(data, test_share=0)  # type: ignore[arg-type]
    assert (len(split.train), len(split.val), len(split.test)) == (2, 2, 0)


def test_index_with_a_file_in_two_parts_is_refused_until_told_otherwise() -> None:
    doubled = {"origin": {"splits": "val and test"}}
    rows = [make_row(i, i % 2, [f"p{i // 2}"], **({"split": "train"} if i < 6 else doubled)) for i in range(8)]
    with pytest.raises(DataError, match=r"/videos/6\.mp4 stands in val and test") as caught:
        make_split(CatalogOnly(rows))  # type: ignore[arg-type]
    assert "use_given: false" in str(caught.value)
    assert make_split(CatalogOnly(rows), use_given=False).test  # type: ignore[arg-type]
