"""Structured pruning: whole GRU units and whole CNN channels, cut out exactly.

A unit's group is everything that leaves with it: for unit k of a GRU direction the rows {k, H + k, 2 H + k}
of W_ih, W_hh and both biases, column k of W_hh, and the next layer's input column; for a channel its filter,
its bias and the next layer's input slice. Importance is scored over the whole group, so that a unit is not
kept for one strong row that nothing reads. With the dropped units' recurrent columns at zero the pruned
network answers as the whole one does (a test holds it to 1e-6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dfkit.errors import ConfigError
from dfkit.models.mmms_ba import MMMSBA, PREFIX, NetworkSpec

Importance = Literal["l2", "taylor"]
KEEP_MULTIPLE = 8
CONV_PLACES = (0, 3, 6)
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Slot:
    """One place where a unit of a group has its weights: `tensor` along `dim`, at `offset` + unit."""

    tensor: str
    dim: int
    offset: int = 0


def check_widths(teacher: NetworkSpec, student: NetworkSpec) -> None:
    """Refuses a student that is no narrower version of the teacher.

    Raises:
        ConfigError: A width grows, is no multiple of 8, or another part of the architecture differs.
    """
    pairs = [("gru_hidden", teacher.gru_hidden, student.gru_hidden)]
    for name in ("face_channels", "lip_channels"):
        for number, (whole, kept) in enumerate(zip(getattr(teacher, name), getattr(student, name), strict=True)):
            pairs.append((f"{name}[{number}]", whole, kept))
    problems = [f"{name} {kept}: the teacher has {whole}" for name, whole, kept in pairs if kept > whole]
    problems += [
        f"{name} {kept}: not a multiple of {KEEP_MULTIPLE}"
        for name, whole, kept in pairs
        if kept % KEEP_MULTIPLE and kept != whole
    ]
    same = ("modalities", "attention", "dense_dim", "audio_dim")
    problems += [
        f"{name} {getattr(student, name)}: the teacher has {getattr(teacher, name)}"
        for name in same
        if getattr(student, name) != getattr(teacher, name)
    ]
    if problems:
        raise ConfigError(f"student cannot be pruned from this teacher: {'; '.join(problems)}")


def gru_slots(modality: str, hidden: int, *, reverse: bool) -> list[Slot]:
    """Where the units of one GRU direction have their weights."""
    prefix, end = PREFIX[modality], "_reverse" if reverse else ""
    rows = [
        Slot(f"{prefix}_encoder.gru.{name}_l0{end}", 0, gate * hidden)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for gate in range(3)
    ]
    return [
        *rows,
        Slot(f"{prefix}_encoder.gru.weight_hh_l0{end}", 1),
        Slot(f"{prefix}_dense.1.weight", 1, hidden if reverse else 0),
    ]


def channel_slots(modality: str, layer: int) -> list[Slot]:
    """Where the output channels of one convolution have their weights."""
    prefix = PREFIX[modality]
    own = f"{prefix}_feature_extractor.{CONV_PLACES[layer]}"
    if layer < len(CONV_PLACES) - 1:
        readers = [Slot(f"{prefix}_feature_extractor.{CONV_PLACES[layer + 1]}.weight", 1)]
    else:
        readers = [Slot(f"{prefix}_encoder.gru.weight_ih_l0{end}", 1) for end in ("", "_reverse")]
    return [Slot(f"{own}.weight", 0), Slot(f"{own}.bias", 0), *readers]


def group_importance(
    weights: Weights, slots: list[Slot], num_units: int, *, gradients: Weights | None = None
) -> Tensor:
    """Importance of each unit of a group.

    Args:
        weights: State dict.
        slots: Where the units have their weights.
        num_units: Units in the group.
        gradients: Mean gradient of the loss for each weight; without it the L2 norm is taken.
    Returns:
        (num_units,) float64: the group's L2 norm, or |sum of weight * gradient| (first-order Taylor,
        Molchanov et al. 2019, arXiv:1906.10771, equation 8 without the square).
    """
    total = torch.zeros(num_units, dtype=torch.float64)
    for slot in slots:
        part = weights[slot.tensor].narrow(slot.dim, slot.offset, num_units).double()
        if gradients is None:
            value = part.square()
        else:
            value = part * gradients[slot.tensor].narrow(slot.dim, slot.offset, num_units).double()
        total += value.movedim(slot.dim, 0).reshape(num_units, -1).sum(1)
    return total.sqrt() if gradients is None else total.abs()


def strongest(importance: Tensor, count: int) -> Tensor:
    """Indices of the `count` most important units, in rising order; ties go to the lower index."""
    order = torch.argsort(importance, descending=True, stable=True)
    return order[:count].sort().values


def keep_units(weights: Weights, slots: list[Slot], kept: Tensor, num_units: int) -> None:
    """Cuts a group down to the kept units, in place.

    Slots of one tensor and dimension are cut in one go: rows outside of every slot stay.
    """
    axes: dict[tuple[str, int], list[int]] = {}
    for slot in slots:
        axes.setdefault((slot.tensor, slot.dim), []).append(slot.offset)
    for (name, dim), offsets in axes.items():
        keep = torch.ones(weights[name].shape[dim], dtype=torch.bool)
        for offset in offsets:
            keep[offset : offset + num_units] = False
            keep[offset + kept] = True
        weights[name] = weights[name].index_select(dim, keep.nonzero()[:, 0])


def prune(teacher: MMMSBA, student_spec: NetworkSpec, *, gradients: Weights | None = None) -> MMMSBA:
    """A narrower network made of the teacher's most important units and channels.

    Args:
        teacher: The network to prune; unchanged.
        student_spec: Target widths; multiples of 8, none above the teacher's.
        gradients: Mean gradients by parameter name for Taylor importance; L2 importance without them.
    Returns:
        A network of `student_spec`, in eval mode.
    Raises:
        ConfigError: The widths cannot be reached from this teacher.
    """
    check_widths(teacher.spec, student_spec)
    weights = {name: value.detach().clone() for name, value in teacher.state_dict().items()}
    grads = None if gradients is None else {name: value.detach().clone() for name, value in gradients.items()}
    for modality in student_spec.modalities:
        if modality in student_spec.pictures:
            whole = teacher.spec.face_channels if modality == "face" else teacher.spec.lip_channels
            target = student_spec.face_channels if modality == "face" else student_spec.lip_channels
            for layer, (units, count) in enumerate(zip(whole, target, strict=True)):
                _prune_group(weights, grads, channel_slots(modality, layer), units, count)
        # Backward first: its columns of the dense layer lie behind the forward ones.
        for reverse in (True, False):
            slots = gru_slots(modality, teacher.spec.gru_hidden, reverse=reverse)
            _prune_group(weights, grads, slots, teacher.spec.gru_hidden, student_spec.gru_hidden)
    student = MMMSBA(student_spec, frame_resampling=teacher.frame_resampling)
    student.load_state_dict(weights)
    return student.eval()


def _prune_group(weights: Weights, grads: Weights | None, slots: list[Slot], num_units: int, count: int) -> None:
    if count == num_units:
        return
    kept = strongest(group_importance(weights, slots, num_units, gradients=grads), count)
    keep_units(weights, slots, kept, num_units)
    if grads is not None:
        keep_units(grads, slots, kept, num_units)
