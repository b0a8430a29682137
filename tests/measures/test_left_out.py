"""Joining the folds of a run that left families out, on numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from dfkit.measures.left_out import HeldOutScore, LeftOutFamily, compare_left_out, measure_left_out
from dfkit.report.left_out import left_out_head, left_out_lines, left_out_rows

A, B, POOL = LeftOutFamily("a", ("a",), (1,)), LeftOutFamily("b", ("b",), (2,)), LeftOutFamily("c", ("c", "d"), (3, 4))


def scores(
    fold: int, part: Literal["test", "seen"], label: int, values: list[float], prefix: str
) -> list[HeldOutScore]:
    return [HeldOutScore(f"{prefix}{n}", label, f"{prefix}{n}", fold, part, p) for n, p in enumerate(values)]


def joined() -> list[HeldOutScore]:
    return [
        *scores(1, "test", 0, [0.1, 0.3], "r"),
        *scores(1, "test", 1, [0.2, 0.4, 0.5, 0.6, 0.3], "a"),
        *scores(1, "seen", 1, [0.9, 0.8], "b"),
        # Another model, of another scale: its scores are compared with each other alone.
        *scores(2, "test", 0, [0.91, 0.93], "s"),
        *scores(2, "test", 1, [0.92, 0.92, 0.95, 0.94, 0.90], "b"),
        *scores(2, "seen", 1, [0.99, 0.92], "a"),
    ]


def test_fakes_are_compared_with_the_reals_of_their_fold() -> None:
    found = measure_left_out(joined(), [A, B], repeats=200)
    first, second = found.families
    # a: 0.2 is above 0.1 alone, 0.3 above 0.1 and level with 0.3, the others above both: 1 + 1.5 + 6 of 10 pairs.
    assert first.unseen.value == pytest.approx(0.85)
    # b: 0.90 above none, two of 0.92 above 0.91 each, 0.94 and 0.95 above both: 6 of 10.
    assert second.unseen.value == pytest.approx(0.6)
    assert (first.seen.value, second.seen.value) == (1.0, pytest.approx(0.75))
    assert found.mean.value == pytest.approx(0.725)
    assert (found.worst.value, found.worst_family) == (pytest.approx(0.6), "b")
    assert found.seen.value == pytest.approx(0.875)
    assert found.gap.value == pytest.approx(-0.15)
    assert found.mean.low <= 0.725 <= found.mean.high
    assert (first.num_fakes, first.num_reals, first.num_seen) == (5, 2, 2)


def test_two_models_are_compared_on_the_same_resamples() -> None:
    rows = joined()
    same = compare_left_out(rows, list(reversed(rows)), [A, B], repeats=200)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    # Reals far below everything: both families are told apart.
    better = [row if row.label else replace(row, p_fake=0.0) for row in rows]
    less = compare_left_out(better, rows, [A, B], repeats=200)
    assert less.value == pytest.approx(1 - 0.725)
    assert 0 <= less.low <= less.value <= less.high
    with pytest.raises(ValueError, match="same videos"):
        compare_left_out(rows[1:], rows, [A, B])


def test_a_family_in_pieces_counts_its_pairs_within_each() -> None:
    rows = [
        *scores(3, "test", 0, [0.5], "r"),
        *scores(3, "test", 1, [0.6, 0.7, 0.4], "c"),
        *scores(4, "test", 0, [0.1, 0.2], "s"),
        *scores(4, "test", 1, [0.15, 0.05], "d"),
    ]
    found = measure_left_out(rows, [POOL], repeats=50)
    # 2 of 3 pairs in the first piece, 1 of 4 in the second.
    assert found.families[0].unseen.value == pytest.approx(3 / 7)
    assert np.isnan(found.families[0].seen.value) and np.isnan(found.seen.value)


def test_seen_fakes_with_real_videos_of_their_own_stand_against_these() -> None:
    rows = [
        *scores(1, "test", 0, [0.5, 0.6], "r"),
        *scores(1, "test", 1, [0.7, 0.4], "a"),
        *scores(1, "seen", 0, [0.1, 0.2], "s"),
        *scores(1, "seen", 1, [0.3, 0.15], "b"),
    ]
    found = measure_left_out(rows, [A], repeats=50)
    assert (found.families[0].unseen.value, found.families[0].seen.value) == (0.5, 0.75)
    assert found.seen_reals and found.families[0].num_seen == 2


def test_small_families_stand_in_the_table_and_not_in_the_mean() -> None:
    rows = [*joined(), *scores(3, "test", 0, [0.9], "t"), *scores(3, "test", 1, [0.1], "c")]
    found = measure_left_out(rows, [A, B, POOL], repeats=50)
    assert found.families[2].unseen.value == 0 and found.mean.value == pytest.approx(0.725)
    assert found.families[2].unseen.reason == "fakes of 1 group(s) and reals of 1 group(s)"
    assert "not in mean and worst, with fewer than 5 fakes: c" in found.notes


def test_families_of_two_groups_have_an_interval_in_every_resample() -> None:
    """Drawn from all groups alike, one resample in seven would hold none of the family."""
    rows = [
        HeldOutScore(str(n), label, f"{label}{n % groups}", 1, "test", 0.1 * n)
        for label, groups, count in ((0, 6, 6), (1, 2, 6))
        for n in range(count)
    ]
    rows += scores(2, "test", 0, [0.1] * 20, "x") + scores(2, "test", 1, [0.2] * 20, "y")
    found = measure_left_out(rows, [A, B], repeats=300)
    assert found.families[0].unseen.reason is None
    assert found.families[0].unseen.low < found.families[0].unseen.high


def test_groups_of_both_classes_leave_no_resample_without_real_videos() -> None:
    """All real videos of the fold are of persons with fakes, too: drawn among all these they would often be missing."""
    rows = [HeldOutScore(str(n), 1, f"p{n}", 1, "test", 0.2 * n) for n in range(5)]
    rows += [HeldOutScore(f"r{n}", 0, f"p{n}", 1, "test", 0.3 + 0.2 * n) for n in range(2)]
    found = measure_left_out(rows, [A], repeats=200)
    assert found.mean.reason is None and found.mean.low < found.mean.high


def test_one_group_alone_has_no_interval_and_is_said() -> None:
    rows = [HeldOutScore(str(n), label, f"{label}", 1, "test", 0.1 * n) for label in (0, 1) for n in range(5)]
    found = measure_left_out(rows, [A], repeats=50)
    assert found.families[0].unseen.reason == "fakes of 1 group(s) and reals of 1 group(s)"
    assert any("too narrow: a stands on one group" in note for note in found.notes)


def test_the_table_has_seen_beside_unseen_and_what_else_was_scored() -> None:
    network = measure_left_out(joined(), [A, B], repeats=50)
    rows = left_out_rows({"network": network, "file facts": network})
    assert left_out_head({"network": network, "file facts": network})[3:] == [
        "network, unseen",
        "network, seen",
        "file facts, unseen",
        "file facts, seen",
    ]
    assert [row[0] for row in rows] == ["a", "b", "mean of 2", "worst", "unseen - seen"]
    assert rows[1][1:3] == ["5 (5)", "2 (2)"] and rows[1][3].startswith("0.60 [") and rows[1][4].startswith("0.75")
    assert rows[3][4] == "b"
    lines = left_out_lines({"network": network, "facts": network})
    assert "network, unseen" in lines[0] and "network, seen" in lines[0] and "facts, unseen / seen" in lines[0]
    assert "0.60 / 0.75" in lines[3]
