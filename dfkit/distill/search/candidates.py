"""Candidates of a search: picture sizes, stems, shares of the teacher's channels and numbers of GRU units, crossed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from dfkit.clip import ClipSpec
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

SMALLER = (Fraction(1), Fraction(5, 7), Fraction(1, 2))
"""Shares of the data's sides that are tried: of 224 px 160 and 112, each a multiple of 16."""
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
    clip_spec: ClipSpec
    """Contract of its clips: the data's, with pictures of its own sides."""
    own_size: bool = False
    """Whether those sides are others than the data's."""

    @property
    def encode_label(self) -> str:
        """Name of what decides `encode`, such as `cnn-0.5` or, of another stem and size, `cnn-0.5-patch4-112px`."""
        stem = "" if self.spec.stem == "conv3" else f"-{self.spec.stem}"
        size = f"-{self.clip_spec.picture.face_px}px" if self.own_size else ""
        return f"cnn-{self.cnn_share:g}{stem}{size}"

    @property
    def score_label(self) -> str:
        """Name of what decides `score`, such as `cnn-0.5-gru-128`."""
        return f"cnn-{self.cnn_share:g}-gru-{self.spec.gru_hidden}"

    @property
    def label(self) -> str:
        """Name of all that is searched for, such as `cnn-0.5-patch4-112px-gru-128`; also a folder's."""
        return f"{self.encode_label}-gru-{self.spec.gru_hidden}"

    @property
    def settings(self) -> dict[str, object]:
        """What the candidate changes in the section `distill`."""
        picture = self.clip_spec.picture
        return {
            "widths": self.widths,
            "stem": self.spec.stem,
            "face_px": picture.face_px if self.own_size else None,
            "lip_px": picture.lip_px if self.own_size else None,
        }

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


def picture_sizes(spec: ClipSpec, section: SearchConfig) -> list[ClipSpec]:
    """The contracts to try, the largest pictures first; data of `uniform50` has its own sides alone.

    Args:
        spec: The data's.
        section: `face_px`; where left out the data's sides and `SMALLER` of them.
    """
    if spec.preset == "uniform50":
        return [spec]
    sides = section.face_px or [spec.picture.face_px * share.numerator // share.denominator for share in SMALLER]
    return list(dict.fromkeys(spec.resized(side) for side in sorted(sides, reverse=True)))


def make_candidates(
    teacher: MMMSBA, section: SearchConfig, clip_spec: ClipSpec, *, gradients: Sequence[Weights] | None = None
) -> list[Candidate]:
    """Every combination of the configured sizes, stems, shares and GRU widths, the most important first.

    Importance says nothing of sizes and stems: of equal widths the larger pictures and the teacher's own stem come
    first.

    Args:
        teacher: The network to prune.
        section: Sizes, stems, shares and widths.
        clip_spec: Contract of the data.
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
    found: dict[NetworkSpec, tuple[float, float]] = {}
    has_pictures, has_cnns = bool(teacher.spec.pictures), bool(teacher.spec.plain_cnns)
    for share in section.cnn_shares if has_cnns else (WHOLE_CNN,):
        for units in gru_widths:
            spec = scale_widths(teacher.spec, share, units)
            found.setdefault(spec, (share, kept_importance(teacher, spec, gradients=gradients)))
    sizes = picture_sizes(clip_spec, section) if has_pictures else [clip_spec]
    stems = sorted(set(section.stems)) if has_cnns and teacher.spec.stem == "conv3" else [teacher.spec.stem]
    candidates = [
        Candidate(share, spec.model_copy(update={"stem": stem}), kept, size, own_size=size != clip_spec)
        for size in sizes
        for stem in stems
        for spec, (share, kept) in found.items()
    ]
    return sorted(candidates, key=lambda candidate: -candidate.kept_importance)


def scale_widths(whole: NetworkSpec, share: float, gru_hidden: int) -> NetworkSpec:
    """A narrower network.

    Args:
        whole: The network.
        share: Of the channels of each CNN layer, in (0, 1]; rounded by `round_width`.
        gru_hidden: Units per GRU direction.
    """
    changed: dict[str, object] = {"gru_hidden": gru_hidden}
    for name in whole.plain_cnns:
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
    for name in teacher.plain_cnns:
        teacher_widths, student_widths = getattr(teacher, f"{name}_channels"), getattr(student, f"{name}_channels")
        for layer, (num_units, num_kept) in enumerate(zip(teacher_widths, student_widths, strict=True)):
            yield channel_weight_slices(name, layer), num_units, num_kept
    for name in teacher.streams:
        for reverse in (False, True):
            slices = gru_weight_slices(name, teacher.gru_hidden, reverse=reverse)
            yield slices, teacher.gru_hidden, student.gru_hidden
