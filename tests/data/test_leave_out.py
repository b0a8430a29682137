"""Folds that leave out a family of fakes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from dfkit.data.catalog import VideoRow
from dfkit.data.fold_table import format_folds
from dfkit.data.label_words import family_of_method
from dfkit.data.leave_out import POOLED, LeaveOutFold, column_values, leave_out_folds
from dfkit.errors import DataError
from tests.data.makers import CatalogOnly, make_row


def folds_of(rows: list[VideoRow], by: str = "method", **options: Any) -> list[LeaveOutFold]:
    return leave_out_folds(CatalogOnly(rows), by, **options)  # type: ignore[arg-type]


def collection(*, reals: int = 12, families: dict[str, int], shared: int = 0) -> list[VideoRow]:
    """Real videos of a person each, and fakes of `families`; the first `shared` of each family of real persons."""
    rows = [make_row(i, 0, [f"r{i}"]) for i in range(reals)]
    for name, count in families.items():
        for number in range(count):
            group = f"r{number}" if number < shared else f"{name}{number // 2}"
            rows.append(make_row(len(rows), 1, [group], method=name))
    return rows


def random_rows(seed: int) -> list[VideoRow]:
    """A random data set: groups of several videos, some with both classes, families of any size."""
    rng = np.random.default_rng(seed)
    num_groups = int(rng.integers(30, 60))
    names = [f"g{n}" for n in range(int(rng.integers(3, 8)))]
    rows: list[VideoRow] = []
    for group in range(num_groups):
        kind = rng.integers(3)
        columns = {"source": f"site{group % 6}"}
        for _ in range(int(rng.integers(1, 4))):
            label = int(rng.integers(2)) if kind == 2 else int(kind)
            suffix = rng.choice(["", " (256 px)", " + face SR"])
            method = f"{rng.choice(names)}{suffix}" if label else None
            rows.append(make_row(len(rows), label, [f"p{group}"], method=method, columns=columns))
    return rows


@pytest.mark.parametrize("by", ["method", "group", "source"])
@pytest.mark.parametrize("seed", range(12))
def test_everything_is_tested_once_and_groups_stay_whole(by: str, seed: int) -> None:
    rows = random_rows(seed)
    data = CatalogOnly(rows)
    folds = leave_out_folds(data, by, seed=seed)  # type: ignore[arg-type]
    tested = Counter(i for fold in folds for i in fold.test)
    assert tested == dict.fromkeys(range(len(rows)), 1)
    for fold in folds:
        sides = [{data.groups[i] for i in part} for part in (fold.train, fold.val, (*fold.test, *fold.seen))]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
        in_parts = [*fold.train, *fold.val, *fold.test, *fold.seen, *fold.aside]
        assert sorted(in_parts) == list(range(len(rows)))
        for part in (fold.train, fold.val, fold.test):
            assert {rows[i].label for i in part} == {0, 1}
        assert {rows[i].label for i in fold.seen} <= ({0, 1} if by == "source" else {1})
        if by == "source":
            sites = {
                part: {(rows[i].columns or {})["source"] for i in members} for part, members in fold.parts().items()
            }
            assert sites["test"] == set(fold.members)
            assert not (sites["train"] | sites["val"] | sites["seen"]) & sites["test"]
        if by == "method":
            names = {
                part: {family_of_method(rows[i].method) for i in members if rows[i].label}  # type: ignore[arg-type]
                for part, members in fold.parts().items()
            }
            assert names["test"] <= set(fold.members)
            assert not (names["train"] | names["val"]) & set(fold.members)
            assert names["seen"] <= names["train"]


def test_a_method_is_named_by_its_generator() -> None:
    assert family_of_method("AniTalker + face SR") == "AniTalker"
    assert family_of_method("SadTalker (full-body still mode)") == "SadTalker"
    assert family_of_method(" Wav2Lip ") == "Wav2Lip"
    assert family_of_method("C++ (v2)") == "C++"


def test_small_families_are_left_out_together() -> None:
    folds = folds_of(collection(families={"a": 9, "b": 5, "c": 4, "d": 2}))
    assert [(fold.family, fold.members) for fold in folds] == [("a", ("a",)), ("b", ("b",)), (POOLED, ("c", "d"))]
    lines = format_folds(CatalogOnly(collection(families={"a": 9, "b": 5, "c": 4, "d": 2})), folds)  # type: ignore[arg-type]
    assert lines[-1] == "others is pooled of c, d"
    assert lines[2].split("|")[1].strip() == "4 + 9"


def test_seen_fakes_are_of_other_families_and_of_no_trained_group() -> None:
    rows = collection(families={"a": 12, "b": 12, "c": 12})
    for fold in folds_of(rows):
        seen = Counter(rows[i].method for i in fold.seen)
        # 15 % of 24 are less than the five that there are at least; two fakes are of one group.
        assert sum(seen.values()) == 6 and fold.family not in seen and len(seen) == 2


def test_a_held_out_groups_other_fakes_are_seen() -> None:
    """As in FaceForensics++: every person has a real video and a fake of each method."""
    rows = [
        make_row(4 * person + kind, int(kind > 0), [f"p{person}"], method=[None, "a", "b", "c"][kind])
        for person in range(20)
        for kind in range(4)
    ]
    folds = folds_of(rows)
    # Holding out all persons at once would leave nothing: half of them at a time.
    assert [(fold.family, fold.piece, fold.pieces) for fold in folds[:2]] == [("a", 1, 2), ("a", 2, 2)]
    assert folds[0].name == "a (1 of 2)"
    assert len(folds) == 6
    for fold in folds:
        persons = {i // 4 for i in fold.test}
        assert len(persons) == 10
        assert {rows[i].method for i in fold.seen} == {"b", "c", "a"} - {fold.family}
        # The left-out family's other fakes are in no part, although their persons are trained on.
        assert all(rows[i].method == fold.family or i // 4 in persons for i in fold.aside)


def test_a_group_of_two_families_is_held_out_in_both_folds() -> None:
    rows = collection(families={"a": 8, "b": 8})
    rows += [make_row(100, 1, ["both"], method="a"), make_row(101, 1, ["both"], method="b"), make_row(102, 0, ["both"])]
    position = {row.path: place for place, row in enumerate(rows)}
    a, b = folds_of(rows)
    fake_a, fake_b, real = (position[f"/videos/{n}.mp4"] for n in (100, 101, 102))
    assert fake_a in a.test and fake_b in a.seen and fake_b in b.test and fake_a in b.seen
    assert (real in a.test) != (real in b.test)


def test_what_is_held_out_beside_leaves_half_of_each_family_and_both_classes() -> None:
    rows = collection(families={"a": 9, "b": 5, "c": 5}, reals=9, shared=3)
    for fold in folds_of(rows):
        trained = Counter(rows[i].method for i in fold.train)
        assert trained[None] >= 2
        for name in {"a", "b", "c"} - {fold.family}:
            # Of fakes that were neither tested nor validated.
            free = sum(rows[i].method == name for i in (*fold.train, *fold.seen))
            own_group = sum(rows[i].method == name and rows[i].groups[0].startswith("r") for i in fold.seen)
            assert trained[name] >= (free - own_group) / 2


def test_reals_of_one_person_do_not_fill_a_fold() -> None:
    rows = collection(families={"a": 8, "b": 8}, reals=9)
    rows += [make_row(200 + n, 0, ["many"]) for n in range(9)]
    groups = [len({rows[i].groups for i in fold.test if rows[i].label == 0}) for fold in folds_of(rows)]
    # Nine videos of one person weigh as three persons: 1 + 3 groups against 6.
    assert sorted(groups) == [4, 6]


def test_same_seed_same_folds() -> None:
    rows = random_rows(3)
    assert folds_of(rows, seed=4) == folds_of(rows, seed=4)
    assert folds_of(rows, seed=4) != folds_of(rows, seed=5)


def test_a_column_leaves_out_its_real_videos_too() -> None:
    rows = []
    for value in ("ko", "en", "de"):
        for number in range(10):
            label = number % 2
            rows.append(make_row(len(rows), label, [f"{value}{number}"], columns={"language": value}))
    folds = folds_of(rows, "Language ")
    assert sorted(fold.family for fold in folds) == ["de", "en", "ko"]
    for fold in folds:
        in_test = {(rows[i].columns or {})["language"] for i in fold.test}
        trained = {(rows[i].columns or {})["language"] for i in (*fold.train, *fold.val)}
        assert in_test == {fold.family} and fold.family not in trained
        assert len(fold.test) == 10
        # Seen languages are judged by videos of both classes of their own.
        seen = Counter((rows[i].label, (rows[i].columns or {})["language"]) for i in fold.seen)
        assert {label for label, _ in seen} == {0, 1} and fold.family not in {value for _, value in seen}


def test_real_videos_of_a_value_without_fakes_are_tested_together_and_not_trained_on() -> None:
    rows = [make_row(i, 0, [f"s{i}"], columns={"source": f"site{i // 4}"}) for i in range(16)]
    rows += [make_row(50 + i, 1, [f"f{i}"], columns={"source": "ab"[i % 2]}) for i in range(12)]
    for fold in folds_of(rows, "source"):
        sites = {(rows[i].columns or {})["source"] for i in fold.test if rows[i].label == 0}
        trained = {(rows[i].columns or {})["source"] for i in (*fold.train, *fold.val)}
        assert len(sites) == 2 and not sites & trained


def test_what_cannot_be_folded_is_refused_with_counts() -> None:
    with pytest.raises(DataError, match=r"need two families of fakes.*there is a with 9"):
        folds_of(collection(families={"a": 9}))
    rows = [*collection(families={"a": 9, "b": 9}), make_row(99, 1, ["x"], method=None)]
    with pytest.raises(DataError, match=r"1 of 19 fake videos have no method, among them 99\.mp4"):
        folds_of(rows)
    with pytest.raises(DataError, match=r"a with 9, b with 9, c with 9.*the 2 real videos are of 2 groups"):
        folds_of(collection(families={"a": 9, "b": 9, "c": 9}, reals=2))
    with pytest.raises(DataError, match=r"without the method a \(9 fakes\).*3 real and 1 fake videos.*are left"):
        folds_of([*collection(families={"a": 9}, reals=6), make_row(99, 1, ["x"], method="b")])


def test_a_column_that_nobody_filled_in_is_refused() -> None:
    rows = [make_row(0, 0, columns={"colour": "red"}), make_row(1, 1)]
    assert column_values(rows, "Colour") == ["red", None]
    with pytest.raises(DataError, match="no prepared video has a column language; there are colour"):
        column_values(rows, "language")
    with pytest.raises(DataError, match="there are no further columns"):
        column_values([make_row(0, 0)], "language")
    with pytest.raises(DataError, match="1 of 1 fake videos have no colour"):
        folds_of(rows, "colour")
