"""Folds that leave out whole families of fakes: what a detector is worth on a generator it never saw.

A family is what fakes have in common: their generator, their group, or a column of the label file. A fold leaves one
family out: no video of it is trained on or fixes a threshold. Its fakes are tested against real videos of the same
fold; every fake and every real video is tested in one fold. Groups stay whole: a group with a tested video is held
out as a whole. Its other fakes, and those of some groups cut off for it, are `seen`: fakes of generators that the fold
trained on, of persons that it did not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dfkit.data.catalog import VideoRow
from dfkit.data.grouped_cuts import Split, SplitRows, check_leaks, cut_part
from dfkit.data.groups import components
from dfkit.data.hashing import sha256_json
from dfkit.data.label_table import column_name
from dfkit.data.label_words import FAKE, REAL, family_of_method
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.measures.left_out import HeldOutScore, LeftOutFamily

METHOD, GROUP = "method", "group"
"""What families are made of; any other name is a column of the label file, such as `source` or `language`."""
MIN_VIDEOS = 5
"""Fewest fakes of a family of its own; smaller ones are left out together."""
POOLED = "others"
"""Name of the family that is pooled of small ones."""
MIN_REST_SHARE = 0.5
"""Least share of the other fakes, and of the real videos, that a fold keeps to learn from; where the groups of a
family's fakes hold more than that, the family is tested in several pieces, each in a fold of its own."""
MAX_PIECES = 5
VAL_SHARE = 0.2
"""Wanted share of all videos for a fold's validation part, that of `dfkit train` by default."""
MAX_VAL_SHARE = 0.3
"""Most of what a fold does not hold out that goes to its validation part."""
SEEN_SHARE = 0.15
"""Wanted share of the other families' fakes that is held out beside the left-out family, at least `MIN_VIDEOS`."""


@dataclass(frozen=True)
class LeaveOutFold:
    """Video indices of one fold, rising; `train`, `val` and what is held out share no group."""

    family: str
    """What is left out."""
    members: tuple[str, ...]
    """Families in it: itself, or those that were pooled."""
    piece: int
    """Which of `pieces`, from 1 on."""
    pieces: int
    """In how many folds the family is tested; above 1 where its groups hold too much to be held out at once."""
    train: tuple[int, ...]
    val: tuple[int, ...]
    """Of the families and groups that are not held out: for stopping, calibration and threshold."""
    test: tuple[int, ...]
    """Fakes of the family, and the real videos of the fold."""
    seen: tuple[int, ...]
    """Fakes of families in `train`, of groups in neither `train` nor `val`; of a column real videos, too."""
    aside: tuple[int, ...]
    """In no part: of held-out groups and tested in another fold, or of the left-out family and so not trained on."""
    groups_known: bool
    seed: int

    @property
    def name(self) -> str:
        """The family, and which piece of it where there are several."""
        return self.family if self.pieces == 1 else f"{self.family} ({self.piece} of {self.pieces})"

    def parts(self) -> dict[str, tuple[int, ...]]:
        """Video indices by name of the part: `train`, `val`, `test`, `seen`."""
        return {"train": self.train, "val": self.val, "test": self.test, "seen": self.seen}

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass
class _Piece:
    """A fold in the making. Numbers are places in `SplitRows`."""

    family: str
    members: tuple[str, ...]
    number: int
    pieces: int
    fakes: list[int]
    reals: list[int] = field(default_factory=list)

    def groups(self, rows: SplitRows) -> set[str]:
        return {rows.groups[i] for i in (*self.fakes, *self.reals)}

    @property
    def name(self) -> str:
        return self.family if self.pieces == 1 else f"{self.family} ({self.number} of {self.pieces})"


def leave_out_folds(
    data: PreparedData,
    by: str = METHOD,
    *,
    val_share: float = VAL_SHARE,
    seed: int = 0,
    min_videos: int = MIN_VIDEOS,
) -> list[LeaveOutFold]:
    """Folds that leave out one family of fakes each, see `LeaveOutPlan`.

    Args:
        data: Labelled, both classes present.
        by: `method` (the generator, see `family_of_method`), `group`, or a column of the label file.
        val_share: Wanted share of all videos for each fold's validation part.
        seed: Same seed, same folds.
        min_videos: Families with fewer fakes are pooled into one, called `others`.
    Returns:
        The largest family first, the pooled one last. Every fake and every real video is in one test part.
    Raises:
        DataError: A fake has no family, there are fewer than two families, or groups are too few; names families
            with their counts.
    """
    plan = LeaveOutPlan(data, by, val_share=val_share, seed=seed, min_videos=min_videos)
    return [plan.fold(number) for number in range(1, plan.num_folds + 1)]


class LeaveOutPlan:
    """Which fakes and which real videos each fold tests; the rest of a fold is cut when it is asked for."""

    def __init__(
        self,
        data: PreparedData,
        by: str = METHOD,
        *,
        val_share: float = VAL_SHARE,
        seed: int = 0,
        min_videos: int = MIN_VIDEOS,
    ) -> None:
        """Shares out fakes and real videos; arguments and errors as of `leave_out_folds`."""
        data.require_labels()
        self.data, self.by, self.val_share, self.seed = data, column_name(by), val_share, seed
        self._rows = SplitRows.of(data)
        self._keys = family_keys(self._rows.videos, self._rows.groups, self.by)
        families = _families(self._rows, self._keys, self.by, min_videos)
        self._pieces = [
            piece
            for name, members in families.items()
            for piece in _pieces(self._rows, self._keys, name, members, self.by, seed)
        ]
        _spread_reals(self._rows, self._keys, self._pieces, self.by)

    @property
    def num_folds(self) -> int:
        """How many folds there are."""
        return len(self._pieces)

    def fold(self, number: int) -> LeaveOutFold:
        """One of the folds.

        Args:
            number: From 1 on.
        Raises:
            DataError: Without its family and groups too little is left to learn from.
        """
        piece, seed = self._pieces[number - 1], self.seed + number - 1
        return _fold(self.data, self._rows, self._keys, piece, self.by, self.val_share, seed)


def family_keys(videos: Sequence[VideoRow], groups: Sequence[str], by: str) -> list[str | None]:
    """The family of each video before small ones are pooled; None of a real video that belongs to none.

    Args:
        videos: Labelled rows.
        groups: Group of each.
        by: As in `leave_out_folds`.
    Raises:
        DataError: A fake has no family.
    """
    if by == GROUP:
        return list(groups)
    if by == METHOD:
        keys = [family_of_method(row.method) if row.label == FAKE and row.method else None for row in videos]
    else:
        keys = column_values(videos, by)
    without = [row.name for row, key in zip(videos, keys, strict=True) if row.label == FAKE and not key]
    if without:
        num_fakes = sum(row.label == FAKE for row in videos)
        raise DataError(
            f"{len(without)} of {num_fakes} fake videos have no {by}, among them {without[0]}: "
            f"folds that leave out a {by} cannot place them",
            fix=f"fill in the column {by} of the label file and run dfkit prepare again, or --leave-out group",
        )
    return keys


def column_values(videos: Sequence[VideoRow], name: str) -> list[str | None]:
    """The cells of a further column of the label file; None where blank.

    Args:
        videos: Rows of prepared data.
        name: As in the header; case and blanks around do not matter.
    Raises:
        DataError: No video has such a column.
    """
    column = column_name(name)
    known = sorted({each for row in videos for each in row.columns or ()})
    if column not in known:
        raise DataError(
            f"no prepared video has a column {column}; there are {', '.join(known) or 'no further columns'}",
            fix=f"put a column {column} into the label file and run the same dfkit prepare --labels again: it prepares "
            "nothing anew and takes the new cells over",
        )
    return [(row.columns or {}).get(column) for row in videos]


def _families(rows: SplitRows, keys: Sequence[str | None], by: str, min_videos: int) -> dict[str, tuple[str, ...]]:
    """Names of the families, each with the keys in it, the largest first and the pooled one last."""
    counts = Counter(key for key, label in zip(keys, rows.labels, strict=True) if label == FAKE and key)
    ranked = sorted(counts, key=lambda key: (-counts[key], key))
    families: dict[str, tuple[str, ...]] = {key: (key,) for key in ranked if counts[key] >= min_videos}
    small = tuple(key for key in ranked if counts[key] < min_videos)
    if small:
        pooled = POOLED
        while pooled in families:
            pooled += "*"
        families[pooled] = small
    # Groups that were pooled are still left out by themselves: a piece at a time.
    if len(counts if by == GROUP else families) < 2:
        raise DataError(
            f"folds that leave out a {by} need two families of fakes, so that one is left to learn from; there is "
            f"{_counted(counts, ranked)} (families with fewer than {min_videos} fakes are pooled)",
            fix="add fakes of other generators (dfkit forge makes several kinds), or plain folds: --kfold 5",
        )
    return families


def _counted(counts: Counter[str], names: Sequence[str]) -> str:
    return ", ".join(f"{name} with {counts[name]}" for name in names) or "none"


def _pieces(
    rows: SplitRows, keys: Sequence[str | None], name: str, members: tuple[str, ...], by: str, seed: int
) -> list[_Piece]:
    """Folds of a family: one, or as few as leave the others enough to learn from."""
    fakes = [i for i, key in enumerate(keys) if rows.labels[i] == FAKE and key in members]
    by_group: dict[str, list[int]] = defaultdict(list)
    for i in fakes:
        by_group[rows.groups[i]].append(i)
    order: list[str] = np.random.default_rng(seed).permutation(sorted(by_group)).tolist()
    order.sort(key=lambda group: -len(by_group[group]))
    pieces: list[_Piece] = []
    for count in range(1, min(MAX_PIECES, len(order)) + 1):
        pieces = [_Piece(name, members, number, count, []) for number in range(1, count + 1)]
        for group in order:
            min(pieces, key=lambda piece: len(piece.fakes)).fakes += by_group[group]
        if all(_keeps_enough(rows, keys, piece, by) for piece in pieces):
            break
    return pieces


def _keeps_enough(rows: SplitRows, keys: Sequence[str | None], piece: _Piece, by: str) -> bool:
    rest = set(_rest(rows, keys, piece, by))
    left_out = set() if by == GROUP else _left_out(keys, piece, by)
    others = [i for i, key in enumerate(keys) if rows.labels[i] == FAKE and key not in left_out]
    reals = [i for i in range(len(keys)) if rows.labels[i] == REAL]
    return all(sum(i in rest for i in part) >= MIN_REST_SHARE * len(part) > 0 for part in (others, reals))


def _left_out(keys: Sequence[str | None], piece: _Piece, by: str) -> set[str]:
    """Keys of which nothing is trained on in a piece's fold."""
    if by == GROUP:
        return {key for i in piece.fakes if (key := keys[i])}
    return {*piece.members, *(key for i in piece.reals if (key := keys[i]))}


def _rest(rows: SplitRows, keys: Sequence[str | None], piece: _Piece, by: str) -> list[int]:
    """Places of what may be trained on: neither of a held-out group nor of the left-out family."""
    held_out, left_out = piece.groups(rows), _left_out(keys, piece, by)
    return [i for i in range(len(keys)) if rows.groups[i] not in held_out and keys[i] not in left_out]


def _spread_reals(rows: SplitRows, keys: Sequence[str | None], pieces: list[_Piece], by: str) -> None:
    """Gives each piece real videos to be tested against: those of its family and groups, then whole blocks in turn.

    A block is a group, or where real videos have a family (as of a column) all that its groups and families join.
    Pieces get as many blocks as videos in turn: n videos of one person count as the square root of n.
    """
    reals = [i for i in range(len(keys)) if rows.labels[i] == REAL]
    ids = [
        [f"group:{rows.groups[i]}"] + ([f"key:{keys[i]}"] if by not in (METHOD, GROUP) and keys[i] else [])
        for i in reals
    ]
    blocks: dict[str, list[int]] = defaultdict(list)
    for i, name in zip(reals, components(ids), strict=True):
        blocks[name].append(i)
    if len(blocks) < len(pieces):
        raise _too_few_reals(pieces, len(reals), len(blocks), by)
    fake_groups = [piece.groups(rows) for piece in pieces]
    weights = {id(piece): 0.0 for piece in pieces}

    def own(block: list[int]) -> list[_Piece]:
        family = [
            piece for piece in pieces if any(keys[i] in piece.members for i in block if by not in (METHOD, GROUP))
        ]
        group = [
            piece
            for piece, groups in zip(pieces, fake_groups, strict=True)
            if any(rows.groups[i] in groups for i in block)
        ]
        return family or group

    ordered = sorted(blocks.values(), key=lambda block: (not own(block), -len(block), rows.groups[block[0]]))
    for block in ordered:
        receiver = min(own(block) or pieces, key=lambda piece: weights[id(piece)])
        receiver.reals += block
        weights[id(receiver)] += len(block) ** 0.5
    for piece in pieces:
        if not piece.reals:
            _take_block(piece, pieces, ordered)


def _take_block(piece: _Piece, pieces: Sequence[_Piece], blocks: Sequence[list[int]]) -> None:
    """Moves the smallest block of the piece with most blocks to one that has none."""

    def blocks_of(other: _Piece) -> list[list[int]]:
        return [block for block in blocks if block[0] in other.reals]

    giver = max(pieces, key=lambda other: len(blocks_of(other)))
    block = min(blocks_of(giver), key=len)
    giver.reals = [i for i in giver.reals if i not in block]
    piece.reals = list(block)


def _too_few_reals(pieces: Sequence[_Piece], num_reals: int, num_blocks: int, by: str) -> DataError:
    listed = ", ".join(f"{piece.name} with {len(piece.fakes)}" for piece in pieces)
    together = "groups" if by in (METHOD, GROUP) else f"groups and values of {by}"
    return DataError(
        f"{len(pieces)} folds that leave out a {by} ({listed}) need real videos of as many groups to be tested "
        f"against: the {num_reals} real videos are of {num_blocks} {together} that stay whole",
        fix="add real videos of other persons, or leave out by something with fewer values",
    )


def _fold(
    data: PreparedData,
    rows: SplitRows,
    keys: Sequence[str | None],
    piece: _Piece,
    by: str,
    val_share: float,
    seed: int,
) -> LeaveOutFold:
    rest = _rest(rows, keys, piece, by)
    try:
        share = min(val_share * len(keys) / max(len(rest), 1), MAX_VAL_SHARE)
        name = f"val (left out: {piece.name})"
        train, val = cut_part(rows, np.asarray(rest, np.int64), share, seed, name)
    except DataError as error:
        raise _nothing_left(rows, piece, rest, by, error) from error
    test = {*piece.fakes, *piece.reals}
    left, seen = _seen_part(rows, keys, piece, train.tolist(), by, seed)
    places = {"train": left, "val": {*val.tolist()}, "test": test, "seen": seen}
    places["aside"] = set(range(len(keys))).difference(*places.values())
    parts = {part: tuple(rows.positions[i] for i in sorted(members)) for part, members in places.items()}
    fold = LeaveOutFold(
        family=piece.family,
        members=piece.members,
        piece=piece.number,
        pieces=piece.pieces,
        **parts,
        groups_known=data.groups_known,
        seed=seed,
    )
    held = tuple(sorted({*fold.test, *fold.seen}))
    check_leaks(Split(fold.train, fold.val, held, data.groups_known, seed), data.videos)
    return fold


def _seen_part(
    rows: SplitRows, keys: Sequence[str | None], piece: _Piece, train: Sequence[int], by: str, seed: int
) -> tuple[set[int], set[int]]:
    """What stays in the training part, and what is held out of families that are trained on.

    Fakes alone, which stand against the fold's real videos; of a column real videos, too, since those of the fold are
    of the left-out value.
    """
    held_out, test, stays, seen = piece.groups(rows), {*piece.fakes, *piece.reals}, {*train}, set()
    left_out = _left_out(keys, piece, by)
    for label in (FAKE,) if by in (METHOD, GROUP) else (FAKE, REAL):
        trained = {keys[i] for i in train if rows.labels[i] == label}
        free = [
            i
            for i in range(len(keys))
            if rows.labels[i] == label
            and rows.groups[i] in held_out
            and i not in test
            and (by == GROUP or (keys[i] in trained and keys[i] not in left_out))
        ]
        cut = _cut_seen(rows, keys, sorted(stays), free, label, by, seed)
        stays -= cut
        seen |= {*free, *cut}
    if by in (METHOD, GROUP):
        seen = {i for i in seen if rows.labels[i] == FAKE}
    return stays, seen


def _nothing_left(rows: SplitRows, piece: _Piece, rest: Sequence[int], by: str, error: DataError) -> DataError:
    counts = Counter(int(rows.labels[i]) for i in rest)
    groups = len({rows.groups[i] for i in rest})
    return DataError(
        f"without the {by} {piece.name} ({len(piece.fakes)} fakes) and the groups it is tested on, {counts[REAL]} real "
        f"and {counts[FAKE]} fake videos of {groups} groups are left to learn from: {error.found}",
        fix="add persons, or fakes of other families; or plain folds: --kfold 5",
    )


def _cut_seen(
    rows: SplitRows,
    keys: Sequence[str | None],
    train: Sequence[int],
    free: Sequence[int],
    label: int,
    by: str,
    seed: int,
) -> set[int]:
    """Places of whole groups to take from the training part, so that each family has videos held out.

    Args:
        rows: All.
        keys: Family of each.
        train: The training part.
        free: Videos of the label that are held out already, of families that are trained on.
        label: Of the videos to hold out.
        by: As in `leave_out_folds`.
        seed: Of the order of groups.
    Returns:
        Enough that `SEEN_SHARE` of the label's videos are held out; the training part keeps at least half of each
        family, real or fake, so there may be fewer.
    """
    if by == GROUP:
        keys = [""] * len(keys)  # a group has no half that could stay: they are taken whole, as of one family
    kinds = {i: (int(rows.labels[i]), keys[i]) for i in (*train, *free)}
    left = Counter(kinds[i] for i in train)
    least = {kind: count / 2 for kind, count in left.items()}
    held = Counter({kind: 0 for kind in left if kind[0] == label})
    held.update(kinds[i] for i in free)
    members: dict[str, list[int]] = defaultdict(list)
    for i in train:
        members[rows.groups[i]].append(i)
    queues = _queues(rows, kinds, members, label, seed)
    wanted = max(MIN_VIDEOS, round(SEEN_SHARE * (sum(held.values()) + sum(least[k] * 2 for k in held if k in least))))
    cut: set[int] = set()
    while queues and sum(held.values()) < wanted:
        kind = min(queues, key=lambda each: held[each])
        group = queues[kind].pop()
        lost = Counter(kinds[i] for i in members[group])
        if not cut.issuperset(members[group]) and all(left[each] - lost[each] >= least[each] for each in lost):
            cut |= set(members[group])
            left.subtract(lost)
            held.update(Counter({each: count for each, count in lost.items() if each[0] == label}))
        if not queues[kind]:
            del queues[kind]
    return cut


def _queues(
    rows: SplitRows,
    kinds: Mapping[int, tuple[int, str | None]],
    members: Mapping[str, Sequence[int]],
    label: int,
    seed: int,
) -> dict[tuple[int, str | None], list[str]]:
    """Groups by label and family of the videos in them, in the order of `pop`: those of one label before others."""
    queues: dict[tuple[int, str | None], list[str]] = defaultdict(list)
    order: list[str] = np.random.default_rng(seed).permutation(sorted(members)).tolist()
    order.sort(key=lambda group: len({int(rows.labels[i]) for i in members[group]}), reverse=True)
    for group in order:
        for kind in {kinds[i] for i in members[group]}:
            if kind[0] == label:
                queues[kind].append(group)
    return {kind: queues[kind] for kind in sorted(queues, key=lambda each: each[1] or "")}


def left_out_families(folds: Sequence[LeaveOutFold]) -> list[LeftOutFamily]:
    """What the folds leave out, each family with the numbers of its folds."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, fold in enumerate(folds, start=1):
        numbers[fold.family].append(number)
    members = {fold.family: fold.members for fold in folds}
    return [LeftOutFamily(name, members[name], tuple(places)) for name, places in numbers.items()]


def held_out_scores(
    data: PreparedData, fold: LeaveOutFold, number: int, p_fake: Mapping[int, float]
) -> list[HeldOutScore]:
    """The scores of one fold as they are joined with those of the others.

    Args:
        data: What the fold is of.
        fold: Its `test` and `seen` videos were scored.
        number: Of the fold, from 1 on.
        p_fake: By index of the video.
    """
    parts: dict[Literal["test", "seen"], tuple[int, ...]] = {"test": fold.test, "seen": fold.seen}
    return [
        HeldOutScore(
            video=data.videos[index].key,
            label=int(data.videos[index].label or 0),
            group=str(data.groups[index]),
            fold=number,
            part=part,
            p_fake=round(float(p_fake[index]), 6),
        )
        for part, indices in parts.items()
        for index in indices
    ]


def folds_hash(data: PreparedData, folds: Sequence[LeaveOutFold]) -> str:
    """SHA-256 over the folds' families and the videos in their parts: equal hashes, like tables."""

    def keys(indices: Sequence[int]) -> list[str]:
        return sorted(data.videos[index].key for index in indices)

    return sha256_json([[fold.family, {name: keys(part) for name, part in fold.parts().items()}] for fold in folds])
