"""Plans a run of the forge: cells, donors, seeds. All random choices are drawn here, before any work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfkit.config.forge import DONOR_METHODS, ForgeConfig

CELL_DIGITS = 12
"""Hexadecimal digits of a hash in a cell's name: 48 bits do not collide among the cells of one data set."""


@dataclass(frozen=True)
class Task:
    """A forgery that is to be made of a source."""

    method: str
    donor: int | None
    """Number of the source whose face, lips or sound is taken; None for a method that needs no other person."""
    partial: bool
    """Whether only a part of the video is changed."""
    direction: int
    """-1 or 1: which way sound is shifted; as often one as the other over a run."""
    seed: int


@dataclass(frozen=True)
class Job:
    """All forgeries that are to be made of one source."""

    source: int
    cell: str
    tasks: tuple[Task, ...]
    without_donor: tuple[str, ...]
    """Methods that need another person where the cell has none."""


def make_cells(groups: Sequence[str], *, groups_per_cell: int, seed: int) -> dict[str, str]:
    """Divides groups into cells before anything is made of them.

    Args:
        groups: One name per source; names may repeat.
        groups_per_cell: At least 2. What is left over joins the last cell, so that nobody is alone.
        seed: Decides which groups share a cell.
    Returns:
        Cell by group. A cell is named after its groups, so that two sets share a cell's name only where they share
        the cell.
    """
    names = sorted(set(groups))
    order = [names[i] for i in np.random.default_rng([seed, 10]).permutation(len(names))]
    num_cells = max(1, len(order) // groups_per_cell)
    numbers = [min(index // groups_per_cell, num_cells - 1) for index in range(len(order))]
    members = [[name for name, n in zip(order, numbers, strict=True) if n == number] for number in range(num_cells)]
    return {name: _cell_name(cell) for cell in members for name in cell}


def _cell_name(members: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(members)).encode()).hexdigest()
    return f"cell-{digest[:CELL_DIGITS]}"


def make_plan(groups: Sequence[str], config: ForgeConfig) -> list[Job]:
    """Draws the cells, and for each source the donors, stretches and seeds of its forgeries.

    Args:
        groups: Connected group of each source, in a fixed order.
        config: Methods, cells, shares and the seed.
    Returns:
        One job per source.
    """
    cells = make_cells(groups, groups_per_cell=config.groups_per_cell, seed=config.seed)
    directions = _balanced_signs(len(groups), np.random.default_rng([config.seed, 11]))
    jobs = []
    for number, group in enumerate(groups):
        rng = np.random.default_rng([config.seed, 12, number])
        donors = [i for i, other in enumerate(groups) if cells[other] == cells[group] and other != group]
        tasks = []
        for method in config.methods:
            needs_donor = method in DONOR_METHODS
            # Drawn for every method, so that leaving one out does not change the others.
            draw, partial = rng.integers(2**31), rng.random() < config.part_share
            seed = int(rng.integers(2**31))
            if needs_donor and not donors:
                continue
            donor = donors[int(draw) % len(donors)] if needs_donor else None
            tasks.append(Task(method, donor, bool(partial), int(directions[number]), seed))
        without_donor = () if donors else tuple(method for method in config.methods if method in DONOR_METHODS)
        jobs.append(Job(number, cells[group], tuple(tasks), without_donor))
    return jobs


def _balanced_signs(count: int, rng: np.random.Generator) -> np.ndarray:
    """-1 and 1 equally often, in random order."""
    signs = np.where(np.arange(count) % 2 == 0, 1, -1)
    return rng.permutation(signs)
