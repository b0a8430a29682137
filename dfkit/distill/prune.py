"""Structured pruning: whole GRU units and whole CNN channels, cut out exactly.

All weights of a unit are removed together: for unit k of a GRU direction the rows {k, H + k, 2 H + k} of W_ih, W_hh
and both biases, column k of W_hh, and the next layer's input column; for a channel its filter, its bias and the next
layer's input slice. Importance is scored over all of them, so that a unit is not kept for one strong row that nothing
reads. With the dropped units' recurrent columns at zero the pruned network gives the same output as the whole one (a
test holds it to 1e-6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dfkit.errors import ConfigError
from dfkit.models.mmms_ba import MMMSBA, PREFIX, NetworkSpec

WIDTH_MULTIPLE = 8
"""Student widths are multiples of it."""
CONV_LAYER_INDICES = (0, 3, 6)
"""Convolutions in a CNN's `nn.Sequential`; ReLU and pooling follow each."""
Weights = dict[str, Tensor]
"""Tensors by parameter name."""


@dataclass(frozen=True)
class WeightSlice:
    """Where a group of units has weights in one tensor: those of unit k lie along `dim` at `offset` + k."""

    tensor: str
    dim: int
    offset: int = 0


def check_widths(teacher: NetworkSpec, student: NetworkSpec) -> None:
    """Refuses a student that is no narrower version of the teacher.

    Raises:
        ConfigError: A width grows, is no multiple of 8, or another part of the architecture differs.
    """
    pairs = [("gru_hidden", teacher.gru_hidden, student.gru_hidden)]
    own_face = student.face_trunk != teacher.face_trunk
    for name in ("lip_channels",) if own_face else ("face_channels", "lip_channels"):
        teacher_widths, student_widths = getattr(teacher, name), getattr(student, name)
        for layer, (whole, kept) in enumerate(zip(teacher_widths, student_widths, strict=True)):
            pairs.append((f"{name}[{layer}]", whole, kept))
    problems = [f"{name} {kept}: the teacher has {whole}" for name, whole, kept in pairs if kept > whole]
    problems += [
        f"{name} {kept}: not a multiple of {WIDTH_MULTIPLE}"
        for name, whole, kept in pairs
        if kept % WIDTH_MULTIPLE and kept != whole
    ]
    same = [
        "modalities",
        "attention",
        "aligned",
        "clip_statistics",
        "sound_deviation",
        "motion_over_time",
        "dense_dim",
        "audio_dim",
        "face_blocks",
    ]
    if student.face_trunk != "mmms_ba":
        same.append("face_trunk")
    problems += [
        f"{name} {getattr(student, name)}: the teacher has {getattr(teacher, name)}"
        for name in same
        if getattr(student, name) != getattr(teacher, name)
    ]
    if teacher.stem not in {student.stem, "conv3"}:
        problems.append(f"stem {student.stem}: the teacher has {teacher.stem}, and only conv3 can be changed")
    if problems:
        raise ConfigError(f"student cannot be pruned from this teacher: {'; '.join(problems)}")


def gru_weight_slices(modality: str, hidden: int, *, reverse: bool) -> list[WeightSlice]:
    """Where the units of one GRU direction have their weights.

    Args:
        modality: Whose GRU.
        hidden: Units of the direction.
        reverse: The backward direction.
    """
    prefix, suffix = PREFIX[modality], "_reverse" if reverse else ""
    rows = [
        WeightSlice(f"{prefix}_encoder.gru.{name}_l0{suffix}", 0, gate * hidden)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for gate in range(3)
    ]
    return [
        *rows,
        WeightSlice(f"{prefix}_encoder.gru.weight_hh_l0{suffix}", 1),
        WeightSlice(f"{prefix}_dense.1.weight", 1, hidden if reverse else 0),
    ]


def channel_weight_slices(modality: str, layer: int) -> list[WeightSlice]:
    """Where the output channels of one convolution have their weights.

    Args:
        modality: `face` or `lip`.
        layer: Number of the convolution, from 0 on.
    """
    prefix = PREFIX[modality]
    convolution = f"{prefix}_feature_extractor.{CONV_LAYER_INDICES[layer]}"
    if layer < len(CONV_LAYER_INDICES) - 1:
        readers = [WeightSlice(f"{prefix}_feature_extractor.{CONV_LAYER_INDICES[layer + 1]}.weight", 1)]
    else:
        readers = [WeightSlice(f"{prefix}_encoder.gru.weight_ih_l0{suffix}", 1) for suffix in ("", "_reverse")]
    return [WeightSlice(f"{convolution}.weight", 0), WeightSlice(f"{convolution}.bias", 0), *readers]


def group_importance(
    weights: Weights, slices: list[WeightSlice], num_units: int, *, gradients: Sequence[Weights] | None = None
) -> Tensor:
    """Importance of each unit of a group.

    Args:
        weights: State dict.
        slices: Where the units have their weights; see `gru_weight_slices` and `channel_weight_slices`.
        num_units: Units in the group.
        gradients: Gradient of the loss for each weight, one set per minibatch; without them the L2 norm is taken.
    Returns:
        (num_units,) float64: the group's L2 norm, or the mean over the minibatches of |sum of weight * gradient|, the
        first-order change of the loss. The absolute value comes before the mean: a unit that matters one way in one
        minibatch and the other way in the next would cancel.
    Source: Molchanov et al. 2017, arXiv:1611.06440, section 2.2.
    """
    if gradients is None:
        return _sum_over_units(weights, None, slices, num_units).sqrt()
    changes = [_sum_over_units(weights, each, slices, num_units).abs() for each in gradients]
    return torch.stack(changes).mean(dim=0)


def _sum_over_units(weights: Weights, gradients: Weights | None, slices: list[WeightSlice], num_units: int) -> Tensor:
    """Per unit the sum over its weights of weight * gradient, of weight * weight without one: (num_units,) float64."""
    total = torch.zeros(num_units, dtype=torch.float64)
    for part in slices:
        weight = weights[part.tensor].narrow(part.dim, part.offset, num_units).double()
        factor = weight
        if gradients is not None:
            factor = gradients[part.tensor].narrow(part.dim, part.offset, num_units).double()
        total += (weight * factor).movedim(part.dim, 0).reshape(num_units, -1).sum(1)
    return total


def most_important_units(importance: Tensor, count: int) -> Tensor:
    """Indices of the `count` most important units, in rising order; ties go to the lower index."""
    order = torch.argsort(importance, descending=True, stable=True)
    return order[:count].sort().values


def keep_units(weights: Weights, slices: list[WeightSlice], kept: Tensor, num_units: int) -> None:
    """Cuts a group down to the kept units, in place.

    Slices of one tensor and dimension are cut in one go; rows outside of every slice stay.

    Args:
        weights: State dict, changed.
        slices: Where the group has its weights.
        kept: (K,) int64, the units that stay, rising.
        num_units: Units of the group before.
    """
    offsets_of_axis: dict[tuple[str, int], list[int]] = {}
    for part in slices:
        offsets_of_axis.setdefault((part.tensor, part.dim), []).append(part.offset)
    for (name, dim), offsets in offsets_of_axis.items():
        keep = torch.ones(weights[name].shape[dim], dtype=torch.bool)
        for offset in offsets:
            keep[offset : offset + num_units] = False
            keep[offset + kept] = True
        weights[name] = weights[name].index_select(dim, keep.nonzero()[:, 0])


def prune(teacher: MMMSBA, student_spec: NetworkSpec, *, gradients: Sequence[Weights] | None = None) -> MMMSBA:
    """A narrower network made of the teacher's most important units and channels.

    Args:
        teacher: The network to prune; unchanged.
        student_spec: Target widths; multiples of 8, none above the teacher's.
        gradients: Gradients by parameter name, a set per minibatch, for Taylor importance; L2 importance without them.
    Returns:
        A network of `student_spec`, in eval mode.
    Raises:
        ConfigError: The widths cannot be reached from this teacher.

    A student with the original's three layers in place of the teacher's trunk gets them with random weights.
    """
    check_widths(teacher.spec, student_spec)
    weights = {name: value.detach().clone() for name, value in teacher.state_dict().items()}
    grads = None if gradients is None else [dict(each) for each in gradients]
    for modality in student_spec.streams:
        if modality in set(student_spec.plain_cnns) & set(teacher.spec.plain_cnns):
            teacher_widths = getattr(teacher.spec, f"{modality}_channels")
            student_widths = getattr(student_spec, f"{modality}_channels")
            for layer, (num_units, num_kept) in enumerate(zip(teacher_widths, student_widths, strict=True)):
                _prune_group(weights, grads, channel_weight_slices(modality, layer), num_units, num_kept)
        # Backward first: its columns of the dense layer lie behind the forward ones.
        for reverse in (True, False):
            slices = gru_weight_slices(modality, teacher.spec.gru_hidden, reverse=reverse)
            _prune_group(weights, grads, slices, teacher.spec.gru_hidden, student_spec.gru_hidden)
    if student_spec.stem != teacher.spec.stem:
        for picture in set(student_spec.plain_cnns) & set(teacher.spec.plain_cnns):
            kernel = f"{PREFIX[picture]}_feature_extractor.{CONV_LAYER_INDICES[0]}.weight"
            weights[kernel] = patch_kernel(weights[kernel])
    student = MMMSBA(student_spec, frame_resampling=teacher.frame_resampling)
    if student_spec.face_trunk != teacher.spec.face_trunk:
        weights = _without_face_trunk(weights, student)
    student.load_state_dict(weights)
    return student.eval()


def _without_face_trunk(weights: Weights, student: MMMSBA) -> Weights:
    """A pruned teacher's weights for a student with another CNN of the face: that, and what reads it, are the student's
    own."""
    own = ("visual_feature_extractor.", "visual_encoder.gru.weight_ih_l0")
    fresh = student.state_dict()
    return {name: value if name.startswith(own) else weights[name] for name, value in fresh.items()}


def patch_kernel(kernel: Tensor) -> Tensor:
    """What a `patch4` stem starts from: the mean of the four places of a `conv3` stem that its pool chooses from.

    Args:
        kernel: (C, 3, 3, 3) of the convolution of stride 2.
    Returns:
        (C, 3, 4, 4). The four places reach one pixel beyond the patch at the top and the left; what they weigh there
        goes to the patch's own edge.
    """
    whole = kernel.new_zeros(*kernel.shape[:2], 5, 5)
    for row in (0, 2):
        for column in (0, 2):
            whole[:, :, row : row + 3, column : column + 3] += kernel / 4
    patch = whole[:, :, 1:, 1:].clone()
    patch[:, :, 0] += whole[:, :, 0, 1:]
    patch[:, :, :, 0] += whole[:, :, 1:, 0]
    patch[:, :, 0, 0] += whole[:, :, 0, 0]
    return patch


def _prune_group(
    weights: Weights, grads: list[Weights] | None, slices: list[WeightSlice], num_units: int, num_kept: int
) -> None:
    if num_kept == num_units:
        return
    kept = most_important_units(group_importance(weights, slices, num_units, gradients=grads), num_kept)
    keep_units(weights, slices, kept, num_units)
    for each in grads or ():
        keep_units(each, slices, kept, num_units)
