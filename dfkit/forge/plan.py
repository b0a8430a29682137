"""Plans a run of the forge: cells, donors, seeds. All random choices are drawn here, before any work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dfkit.config.forge import DONOR_METHODS, ForgeConfig

VOICE_DONOR_METHODS = frozenset({"audio_swap"})
"""Methods that lend a voice: the donor is chosen by it where that is asked for."""
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
    voice_likeness: float | None = None
    """Cosine similarity of the two voices, where a voice was chosen by it."""


@dataclass(frozen=True)
class Job:
    """All forgeries that are to be made of one source."""

    source: int
    cell: str
    tasks: tuple[Task, ...]
    without_donor: tuple[str, ...]
    """Methods that need another person where the cell has none."""


def make_cells(
    groups: Sequence[str], *, groups_per_cell: int, seed: int, likeness: np.ndarray | None = None
) -> dict[str, str]:
    """Divides groups into cells before anything is made of them.

    Args:
        groups: One name per source; names may repeat.
        groups_per_cell: At least 2. What is left over joins the last cell, so that nobody is alone.
        seed: Decides which groups share a cell.
        likeness: (N, N), by source; groups that are most alike share a cell as far as it goes. None: at random.
    Returns:
        Cell by group. A cell is named after its groups, so that two sets share a cell's name only where they share
        the cell.
    """
    names = sorted(set(groups))
    order = [names[i] for i in np.random.default_rng([seed, 10]).permutation(len(names))]
    if likeness is not None:
        order = _neighbours_first(order, groups, likeness, groups_per_cell)
    num_cells = max(1, len(order) // groups_per_cell)
    numbers = [min(index // groups_per_cell, num_cells - 1) for index in range(len(order))]
    members = [[name for name, n in zip(order, numbers, strict=True) if n == number] for number in range(num_cells)]
    return {name: _cell_name(cell) for cell in members for name in cell}


def _neighbours_first(order: list[str], groups: Sequence[str], likeness: np.ndarray, size: int) -> list[str]:
    """Reorders groups so that each `size` in a row are one drawn at random, and those left that are most like it."""
    places = {name: [place for place, group in enumerate(groups) if group == name] for name in order}

    def alike(a: str, b: str) -> float:
        known = likeness[np.ix_(places[a], places[b])]
        # A voice that nobody knows is the last choice.
        return float(known[~np.isnan(known)].mean()) if not np.isnan(known).all() else -np.inf

    left, out = list(order), []
    while left:
        first = left.pop(0)
        near = sorted(left, key=lambda name: alike(first, name), reverse=True)[: size - 1]
        out += [first, *near]
        left = [name for name in left if name not in near]
    return out


def _cell_name(members: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(members)).encode()).hexdigest()
    return f"cell-{digest[:CELL_DIGITS]}"


def make_plan(
    groups: Sequence[str],
    config: ForgeConfig,
    likeness: np.ndarray | None = None,
    splits: Sequence[str | None] | None = None,
) -> list[Job]:
    """Draws the cells, and for each source the donors, stretches and seeds of its forgeries.

    Args:
        groups: Connected group of each source, in a fixed order.
        config: Methods, cells, shares, the seed, and whether voices are to be like or unlike.
        likeness: (N, N) cosine similarity of the sources' voices, NaN where not known. None: voices are drawn.
        splits: Part that each source is given to (`train`, `val`, `test`), None where it is given to none; sources of
            different parts share no cell. All of a group are of one part.
    Returns:
        One job per source.
    """
    sign = {"like": 1.0, "unlike": -1.0}.get(config.voice_match)
    wanted = None if likeness is None or sign is None else sign * likeness
    cells = _cells_by_part(groups, splits or [None] * len(groups), config, wanted)
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
            task = Task(method, donor, bool(partial), int(directions[number]), seed)
            if wanted is not None and likeness is not None and method in VOICE_DONOR_METHODS:
                task = _with_best_voice(task, donors, wanted[number], likeness[number])
            tasks.append(task)
        without_donor = () if donors else tuple(method for method in config.methods if method in DONOR_METHODS)
        jobs.append(Job(number, cells[group], tuple(tasks), without_donor))
    return jobs


def _cells_by_part(
    groups: Sequence[str], splits: Sequence[str | None], config: ForgeConfig, wanted: np.ndarray | None
) -> dict[str, str]:
    """Cell by group; of each part of a given split its own cells."""
    cells: dict[str, str] = {}
    for part in sorted(set(splits), key=str):
        places = [place for place, split in enumerate(splits) if split == part]
        cells |= make_cells(
            [groups[place] for place in places],
            groups_per_cell=config.groups_per_cell,
            seed=config.seed,
            likeness=None if wanted is None else wanted[np.ix_(places, places)],
        )
    return cells


def _with_best_voice(task: Task, donors: Sequence[int], wanted: np.ndarray, likeness: np.ndarray) -> Task:
    """The task with the donor whose voice is most wanted; as it was where no donor's voice is known."""
    known = [donor for donor in donors if not np.isnan(wanted[donor])]
    if not known:
        return task
    best = max(known, key=lambda donor: float(wanted[donor]))
    return replace(task, donor=best, voice_likeness=round(float(likeness[best]), 4))


def _balanced_signs(count: int, rng: np.random.Generator) -> np.ndarray:
    """-1 and 1 equally often, in random order."""
    signs = np.where(np.arange(count) % 2 == 0, 1, -1)
    return rng.permutation(signs)
