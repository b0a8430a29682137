from __future__ import annotations

from collections import Counter

import pytest

from dfkit.config.forge import DEFAULT_METHODS, DONOR_METHODS, METHODS, ForgeConfig
from dfkit.errors import DfkitError
from dfkit.forge.plan import make_cells, make_plan

GROUPS = [f"person-{i // 2}" for i in range(16)]


def test_cells_divide_groups_before_anything_is_made() -> None:
    cells = make_cells(GROUPS, groups_per_cell=2, seed=0)
    assert set(cells) == set(GROUPS)
    assert sorted(Counter(cells.values()).values()) == [2, 2, 2, 2]
    assert make_cells(GROUPS[::-1], groups_per_cell=2, seed=0) == cells, "the order of files decides nothing"
    assert make_cells(GROUPS, groups_per_cell=2, seed=1) != cells


@pytest.mark.parametrize(("num_groups", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (5, [2, 3]), (6, [2, 2, 2])])
def test_what_is_left_over_joins_a_cell(num_groups: int, sizes: list[int]) -> None:
    cells = make_cells([str(i) for i in range(num_groups)], groups_per_cell=2, seed=0)
    assert sorted(Counter(cells.values()).values()) == sizes


def test_donors_are_other_persons_of_the_same_cell() -> None:
    jobs = make_plan(GROUPS, ForgeConfig(seed=7))
    cells = {job.source: job.cell for job in jobs}
    lent = [(job, task) for job in jobs for task in job.tasks if task.donor is not None]
    assert {task.method for _, task in lent} == DONOR_METHODS
    for job, task in lent:
        assert cells[task.donor] == job.cell
        assert GROUPS[task.donor] != GROUPS[job.source]


def test_no_edge_of_person_source_or_sound_leads_from_one_cell_to_another() -> None:
    """Connected components over everything that two files can share, by an independent search."""
    jobs = make_plan(GROUPS, ForgeConfig(seed=3))
    neighbours: dict[str, set[str]] = {}

    def connect(a: str, b: str) -> None:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)

    for job in jobs:
        for task in job.tasks:
            file = f"file:{job.source}:{task.method}"
            connect(file, f"cell:{job.cell}")
            for shared in (job.source, task.donor if task.donor is not None else job.source):
                connect(file, f"source:{shared}")
                connect(f"source:{shared}", f"person:{GROUPS[shared]}")
    for start in [name for name in neighbours if name.startswith("cell:")]:
        reached, open_ends = {start}, [start]
        while open_ends:
            for name in neighbours[open_ends.pop()] - reached:
                reached.add(name)
                open_ends.append(name)
        assert [name for name in reached if name.startswith("cell:")] == [start]


def test_a_cell_is_named_after_its_groups() -> None:
    """Cells were numbered: `cell-000` of two sets of different people were one group when prepared together."""
    some = make_cells(["a", "b"], groups_per_cell=2, seed=0)
    assert set(make_cells(["c", "d"], groups_per_cell=2, seed=0).values()).isdisjoint(some.values())
    assert make_cells(["b", "a"], groups_per_cell=2, seed=9) == some


def test_sound_is_shifted_as_often_one_way_as_the_other() -> None:
    for count in (8, 31):
        jobs = make_plan([str(i) for i in range(count)], ForgeConfig(methods=("audio_shift",)))
        directions = Counter(task.direction for job in jobs for task in job.tasks)
        assert abs(directions[1] - directions[-1]) <= 1


def test_leaving_a_method_out_does_not_change_the_others() -> None:
    everything = make_plan(GROUPS, ForgeConfig(seed=1))
    one = make_plan(GROUPS, ForgeConfig(seed=1, methods=(METHODS[0],)))
    assert [job.tasks[0] for job in one] == [job.tasks[0] for job in everything]


def test_a_person_alone_gets_no_donor() -> None:
    (job,) = make_plan(["only"], ForgeConfig())
    assert set(job.without_donor) == DONOR_METHODS
    assert {task.method for task in job.tasks} == set(DEFAULT_METHODS) - DONOR_METHODS


@pytest.mark.parametrize(
    "wrong", [{"part_s": (2.0, 0.4)}, {"groups_per_cell": 1}, {"methods": ()}, {"methods": ("smile",)}, {"sed": 1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, DfkitError)):
        ForgeConfig.model_validate(wrong)


def test_parts_of_a_given_split_lend_each_other_nothing() -> None:
    splits = ["train" if number // 2 % 2 else "test" for number in range(len(GROUPS))]
    jobs = make_plan(GROUPS, ForgeConfig(seed=2), splits=splits)
    parts: dict[str, set[str | None]] = {}
    for job in jobs:
        parts.setdefault(job.cell, set()).add(splits[job.source])
        assert {splits[task.donor] for task in job.tasks if task.donor is not None} <= {splits[job.source]}
    assert all(len(found) == 1 for found in parts.values())
    assert [job.tasks for job in make_plan(GROUPS, ForgeConfig(seed=2), splits=["train"] * len(GROUPS))] == [
        job.tasks for job in make_plan(GROUPS, ForgeConfig(seed=2))
    ]
