"""Candidates of a search: each share of the teacher's channels crossed with each number of GRU units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfkit.config import SearchConfig, WidthConfig
from dfkit.distill.prune import (
    WIDTH_MULTIPLE,
    Weights,
    WeightSlice,
    channel_weight_slices,
    group_importance,
    gru_weight_slices,
    most_important_units,
)
from dfkit.errors import ConfigError
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec

WHOLE_CNN = 1.0
"""Share for a teacher without CNNs, whose channels cannot be cut."""


@dataclass(frozen=True)
class Candidate:
    """One student that could be pruned from the teacher."""

    cnn_share: float
    """Share of the teacher's channels that was asked for, before rounding."""
    spec: NetworkSpec
    kept_importance: float
    """Share of the teacher's importance that its units and channels keep, mean over the groups, 0 to 1."""

    @property
    def cnn_label(self) -> str:
        """Name of the CNN widths, such as `cnn-0.5`."""
        return f"cnn-{self.cnn_share:g}"

    @property
    def label(self) -> str:
        """Name of all widths, such as `cnn-0.5-gru-128`; also a folder's."""
        return f"{self.cnn_label}-gru-{self.spec.gru_hidden}"

    @property
    def widths(self) -> WidthConfig:
        """The widths as `distill.widths` takes them."""
        spec = self.spec
        return WidthConfig(face_channels=spec.face_channels, lip_channels=spec.lip_channels, gru_hidden=spec.gru_hidden)


def round_width(whole: int, share: float) -> int:
    """A share of a width, rounded to a multiple of 8; at least 8, at most the whole.

    Args:
        whole: The teacher's width.
        share: In (0, 1].
    """
    nearest = WIDTH_MULTIPLE * max(1, round(whole * share / WIDTH_MULTIPLE))
    return min(nearest, whole)


def make_candidates(
    teacher: MMMSBA, section: SearchConfig, *, gradients: Sequence[Weights] | None = None
) -> list[Candidate]:
    """Every combination of the configured shares and GRU widths, the most important first.

    Args:
        teacher: The network to prune.
        section: Shares and widths.
        gradients: Gradients by parameter name, a set per minibatch, for Taylor importance; L2 importance without them.
    Returns:
        Candidates of different widths.
    Raises:
        ConfigError: Every GRU width is above the teacher's.
    """
    gru_widths = [units for units in section.gru_hidden if units <= teacher.spec.gru_hidden]
    if not gru_widths:
        raise ConfigError(
            f"distill.search.gru_hidden {list(section.gru_hidden)}: the teacher has {teacher.spec.gru_hidden}",
            fix="name widths that are not above the teacher's",
        )
    found: dict[NetworkSpec, Candidate] = {}
    cnn_shares = section.cnn_shares if teacher.spec.pictures else (WHOLE_CNN,)
    for share in cnn_shares:
        for units in gru_widths:
            spec = scale_widths(teacher.spec, share, units)
            kept = kept_importance(teacher, spec, gradients=gradients)
            found.setdefault(spec, Candidate(share, spec, kept))
    return sorted(found.values(), key=lambda candidate: -candidate.kept_importance)


def scale_widths(whole: NetworkSpec, share: float, gru_hidden: int) -> NetworkSpec:
    """A narrower network.

    Args:
        whole: The network.
        share: Of the channels of each CNN layer, in (0, 1]; rounded by `round_width`.
        gru_hidden: Units per GRU direction.
    """
    changed: dict[str, object] = {"gru_hidden": gru_hidden}
    for name in whole.pictures:
        channels = getattr(whole, f"{name}_channels")
        changed[f"{name}_channels"] = tuple(round_width(width, share) for width in channels)
    return whole.model_copy(update=changed)


def kept_importance(teacher: MMMSBA, spec: NetworkSpec, *, gradients: Sequence[Weights] | None = None) -> float:
    """Share of importance that the most important units of every group keep, mean over the groups.

    Groups count alike: gradients and norms of a convolution and of a GRU are not of one scale.

    Args:
        teacher: The network to prune.
        spec: Target widths.
        gradients: See `make_candidates`.
    """
    weights = teacher.state_dict()
    shares = []
    for slices, num_units, num_kept in prunable_groups(teacher.spec, spec):
        importance = group_importance(weights, slices, num_units, gradients=gradients)
        total = float(importance.sum())
        if total:
            kept = float(importance[most_important_units(importance, num_kept)].sum())
            shares.append(kept / total)
        else:
            shares.append(num_kept / num_units)
    return sum(shares) / len(shares)


def prunable_groups(teacher: NetworkSpec, student: NetworkSpec) -> Iterator[tuple[list[WeightSlice], int, int]]:
    """Every group of units that is pruned as one: where its weights are, its units, and how many the student keeps."""
    for name in teacher.pictures:
        teacher_widths, student_widths = getattr(teacher, f"{name}_channels"), getattr(student, f"{name}_channels")
        for layer, (num_units, num_kept) in enumerate(zip(teacher_widths, student_widths, strict=True)):
            yield channel_weight_slices(name, layer), num_units, num_kept
    for name in teacher.modalities:
        for reverse in (False, True):
            slices = gru_weight_slices(name, teacher.gru_hidden, reverse=reverse)
            yield slices, teacher.gru_hidden, student.gru_hidden
