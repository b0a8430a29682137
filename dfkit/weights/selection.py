"""Finds the network's weights among what a checkpoint holds: through containers, prefixes, and EMA beside plain ones.

Containers (`state_dict`, `model`, `net`, ...) may lie inside of each other. Wrappers put components before the names of
tensors (`module.` of several GPUs, `_orig_mod.` of torch.compile, `model.` of Lightning), in any order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

WeightsChoice = Literal["raw", "ema"]
"""Weights as the optimizer left them, or their exponential moving average."""
CONTAINERS = frozenset({"state_dict", "model", "net", "model_state_dict", "network", "module", "weights", "params",
                        "model_state", "net_state_dict", "network_state_dict", "state", "checkpoint"})  # fmt: skip
"""Keys that hold weights, or another container."""
LEADING = frozenset({"module", "_orig_mod", "model", "net", "network", "online_model", "_forward_module"})
"""Components that wrappers put before the names of a network's tensors."""
ANYWHERE = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Components that wrappers put inside of a name, too, where a part of the network was wrapped."""
EMA = re.compile(r"(.*_)?(ema|shadow|averaged)(_.*|\d.*)?|(swa|averaged|average)_model", re.I)
"""Keys and components that say that the weights are a moving average."""
BOOKKEEPING = frozenset({"n_averaged", "initted", "step", "num_updates", "decay", "_metadata"})
"""What averages store beside the weights."""
MAX_DEPTH = 8


@dataclass(frozen=True)
class Candidate:
    """One set of weights in a checkpoint."""

    place: str
    """Keys and prefix that lead to it, such as `state_dict, model.`; empty for tensors at the top."""
    kind: WeightsChoice
    tensors: dict[str, Tensor]
    """Under the network's own names."""


def find_weights(content: Mapping[str, Any]) -> list[Candidate]:
    """Every set of weights, in the order of the file."""
    found: list[Candidate] = []
    for keys, tensors in _state_dicts(content, ()):
        for prefix, group in _by_prefix(tensors).items():
            is_ema = any(EMA.fullmatch(part) for part in (*keys, *prefix))
            place = ", ".join([*keys, *([f"{'.'.join(prefix)}."] if prefix else [])])
            found.append(Candidate(place, "ema" if is_ema else "raw", group))
    return found


def best_of(candidates: list[Candidate], mark: str) -> list[Candidate]:
    """Those that hold the tensor that marks a network; where none does, the largest set."""
    marked = [candidate for candidate in candidates if mark in candidate.tensors]
    return marked or sorted(candidates, key=lambda candidate: len(candidate.tensors), reverse=True)[:1]


def _state_dicts(
    content: Mapping[str, Any], keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Keys that lead to each dictionary of tensors, and its tensors."""
    tensors = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, Tensor) and name not in BOOKKEEPING and not str(name).endswith("_extra_state")
    }
    # A tensor beside containers is a measure or a buffer; names of weights have parts.
    if any("." in name for name in tensors):
        yield keys, tensors
    if len(keys) >= MAX_DEPTH:
        return
    for name, value in content.items():
        known = str(name).lower() in CONTAINERS or EMA.fullmatch(str(name)) is not None
        if known and isinstance(value, Mapping):
            yield from _state_dicts(value, (*keys, str(name)))


def _by_prefix(tensors: Mapping[str, Tensor]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Tensors under their own names, by the wrappers before them."""
    groups: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for name, value in tensors.items():
        prefix, own = split_name(name)
        groups.setdefault(prefix, {})[own] = value
    return groups


def split_name(name: str) -> tuple[tuple[str, ...], str]:
    """Wrappers before a tensor's name, and its name without any: `module._orig_mod.a.b` is `a.b`."""
    parts = name.split(".")
    start = 0
    while start < len(parts) - 1 and (parts[start] in LEADING or EMA.fullmatch(parts[start])):
        start += 1
    return tuple(parts[:start]), ".".join(part for part in parts[start:] if part not in ANYWHERE)
