"""The weights of a checkpoint under plain names, in float32, and what was chosen and changed on the way.

What somebody may not expect is said on stderr, once per file: which of plain and EMA weights were taken, another number
format, tensors that belong to no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfkit.console import note
from dfkit.errors import CheckpointError
from dfkit.weights.file import MAX_NAMED, read_checkpoint
from dfkit.weights.selection import Candidate, WeightsChoice, best_of, find_weights

NAMES: dict[WeightsChoice, str] = {"raw": "plain weights", "ema": "EMA weights"}


@dataclass(frozen=True)
class StoredWeights:
    """One set of weights of a checkpoint, and the values beside it."""

    tensors: dict[str, Tensor]
    """Under the network's own names; floating point numbers are float32."""
    content: dict[str, Any]
    """All that the file holds, tensors included."""
    kind: WeightsChoice
    """Which weights they are."""
    place: str
    """Keys and prefix that led to them."""
    notes: tuple[str, ...] = ()
    """What was chosen, converted and left out."""


def read_weights(path: str | Path, weights: WeightsChoice | None = None, *, mark: str) -> StoredWeights:
    """Reads the weights of a checkpoint, and says on stderr what was chosen and changed.

    Args:
        path: Of torch.save or safetensors.
        weights: Plain or EMA weights; where left out the plain ones, or the EMA where there are no others.
        mark: Name of a tensor by which the network's weights are known among others.
    Raises:
        CheckpointError: It cannot be read, holds no such weights, or tensors that are not plain numbers.
    """
    stored = choose_weights(read_checkpoint(path), weights, mark=mark, where=str(path))
    for line in stored.notes:
        _note_once(f"{path}: {line}")
    return stored


def choose_weights(
    content: Mapping[str, Any], weights: WeightsChoice | None = None, *, mark: str, where: str
) -> StoredWeights:
    """The weights among what a checkpoint holds.

    Args:
        content: Of `read_checkpoint`.
        weights: As in `read_weights`.
        mark: As in `read_weights`.
        where: Names the file in messages.
    Raises:
        CheckpointError: There are no such weights, or not as plain numbers.
    """
    candidates = find_weights(content)
    if not candidates:
        raise CheckpointError(
            f"{where}: no weights among its keys ({_listed(content)}); looked for tensors at its top and under "
            "state_dict, model, net, model_state_dict, network and their EMA",
            fix="save it with torch.save({'model_state_dict': model.state_dict()}, PATH)",
        )
    by_kind = {kind: best_of([c for c in candidates if c.kind == kind], mark) for kind in NAMES}
    kind: WeightsChoice = weights or ("raw" if by_kind["raw"] else "ema")
    if weights is None and not any(mark in c.tensors for c in by_kind["raw"]) and by_kind["ema"]:
        kind = "ema" if any(mark in c.tensors for c in by_kind["ema"]) else kind
    other: WeightsChoice = "ema" if kind == "raw" else "raw"
    if not by_kind[kind]:
        raise CheckpointError(f"{where}: holds no {NAMES[kind]}", fix=f"--weights {other}, or leave --weights out")
    chosen = by_kind[kind][0]
    tensors, converted = _as_float32(chosen.tensors, where)
    notes = (*_choice_notes(chosen, by_kind[kind], by_kind[other], mark), *_left_out(chosen, candidates, mark))
    return StoredWeights(tensors, dict(content), kind, chosen.place, (*notes, *converted))


def _choice_notes(chosen: Candidate, same: list[Candidate], others: list[Candidate], mark: str) -> list[str]:
    """What was taken where there was a choice."""
    lines = []
    others = [other for other in others if mark in other.tensors or mark not in chosen.tensors]
    if others:
        lines.append(
            f"holds plain and EMA weights: the {NAMES[chosen.kind]} were taken ({chosen.place or 'at its top'}); "
            f"--weights {others[0].kind} takes the {NAMES[others[0].kind]} ({others[0].place or 'at its top'})"
        )
    elif chosen.kind == "ema":
        lines.append(f"the EMA weights were taken ({chosen.place}); there are no plain ones")
    if len(same) > 1 and not all(_equal(chosen, each) for each in same[1:]):
        places = ", ".join(f"'{each.place}'" for each in same)
        lines.append(f"holds several sets of {NAMES[chosen.kind]} ({places}): '{chosen.place}' was taken")
    return lines


def _equal(one: Candidate, other: Candidate) -> bool:
    same_names = one.tensors.keys() == other.tensors.keys()
    return same_names and all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())


def _left_out(chosen: Candidate, candidates: list[Candidate], mark: str) -> list[str]:
    """Tensors beside the network's: of a loss or a metric that a wrapper holds, too."""
    rest = [
        f"{each.place.split(', ')[-1] if each.place.endswith('.') else ''}{name}"
        for each in candidates
        if each is not chosen and mark in chosen.tensors and mark not in each.tensors
        for name in each.tensors
    ]
    return [f"{len(rest)} tensors are outside of the network and were left out: {_listed(rest)}"] if rest else []


def _as_float32(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors with floating point numbers as float32, and a line about those that were others."""
    odd = [
        name for name, value in tensors.items() if value.is_quantized or value.is_meta or value.layout != torch.strided
    ]
    if odd:
        raise CheckpointError(
            f"{where}: tensors that are quantized, sparse or without data: {_listed(odd)}",
            fix="save the state dict of the network as it was trained, before quantizing or pruning it",
        )
    others = Counter(
        str(value.dtype).removeprefix("torch.")
        for value in tensors.values()
        if value.is_floating_point() and value.dtype != torch.float32
    )
    found = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    told = ", ".join(f"{number} of {name}" for name, number in others.items())
    return found, [f"tensors converted to float32: {told}"] if told else []


def _listed(names: Any) -> str:
    shown = [str(name) for name in names]
    more = f" and {len(shown) - MAX_NAMED} more" if len(shown) > MAX_NAMED else ""
    return ", ".join(shown[:MAX_NAMED]) + more


@cache
def _note_once(line: str) -> None:
    """A command opens its checkpoint several times."""
    note(line)
