"""The widths that a search tries: a share of the teacher's channels crossed with a number of GRU units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfkit.config import SearchConfig, WidthConfig
from dfkit.distill.prune import KEEP_MULTIPLE, Slot, Weights, channel_slots, group_importance, gru_slots, strongest
from dfkit.errors import ConfigError
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec

WHOLE_CNN = 1.0


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
        """Names the CNN widths."""
        return f"cnn-{self.cnn_share:g}"

    @property
    def label(self) -> str:
        """Names the widths; also a folder."""
        return f"{self.cnn_label}-gru-{self.spec.gru_hidden}"

    @property
    def widths(self) -> WidthConfig:
        """As `distill.widths` takes them."""
        spec = self.spec
        return WidthConfig(face_channels=spec.face_channels, lip_channels=spec.lip_channels, gru_hidden=spec.gru_hidden)


def round_width(whole: int, share: float) -> int:
    """A share of a width as a multiple of 8, at least 8, at most the whole.

    Args:
        whole: The teacher's width.
        share: In (0, 1].
    """
    nearest = KEEP_MULTIPLE * max(1, round(whole * share / KEEP_MULTIPLE))
    return min(nearest, whole)


def make_family(teacher: MMMSBA, section: SearchConfig, *, gradients: Weights | None = None) -> list[Candidate]:
    """Every combination of the configured shares and GRU widths, the most important first.

    Args:
        teacher: The network to prune.
        section: Shares and widths.
        gradients: Mean gradients by parameter name for Taylor importance; L2 importance without them.
    Returns:
        Candidates of different widths.
    Raises:
        ConfigError: Every GRU width is above the teacher's.
    """
    whole = teacher.spec
    hidden = [units for units in section.gru_hidden if units <= whole.gru_hidden]
    if not hidden:
        raise ConfigError(
            f"distill.search.gru_hidden {list(section.gru_hidden)}: the teacher has {whole.gru_hidden}",
            fix="name widths that are not above the teacher's",
        )
    found: dict[NetworkSpec, Candidate] = {}
    for share in section.cnn_shares if whole.pictures else (WHOLE_CNN,):
        for units in hidden:
            spec = narrower(whole, share, units)
            kept = kept_importance(teacher, spec, gradients=gradients)
            found.setdefault(spec, Candidate(share, spec, kept))
    return sorted(found.values(), key=lambda candidate: -candidate.kept_importance)


def narrower(whole: NetworkSpec, share: float, gru_hidden: int) -> NetworkSpec:
    """A network's widths cut down: a share of the channels of every layer that it has, and so many GRU units."""
    changed: dict[str, object] = {"gru_hidden": gru_hidden}
    for name in whole.pictures:
        field = f"{name}_channels"
        changed[field] = tuple(round_width(width, share) for width in getattr(whole, field))
    return whole.model_copy(update=changed)


def kept_importance(teacher: MMMSBA, spec: NetworkSpec, *, gradients: Weights | None = None) -> float:
    """Share of importance that the strongest units of every group keep, mean over the groups.

    Groups count alike: gradients and norms of a convolution and of a GRU are not of one scale.

    Args:
        teacher: The network to prune.
        spec: Target widths.
        gradients: See `make_family`.
    """
    weights = teacher.state_dict()
    shares = []
    for slots, units, count in groups(teacher.spec, spec):
        importance = group_importance(weights, slots, units, gradients=gradients)
        total = float(importance.sum())
        shares.append(float(importance[strongest(importance, count)].sum()) / total if total else count / units)
    return sum(shares) / len(shares)


def groups(whole: NetworkSpec, cut: NetworkSpec) -> Iterator[tuple[list[Slot], int, int]]:
    """Every group of units of a network: where its weights are, its units, and how many the cut keeps."""
    for name in whole.pictures:
        widths, kept = getattr(whole, f"{name}_channels"), getattr(cut, f"{name}_channels")
        for layer, (units, count) in enumerate(zip(widths, kept, strict=True)):
            yield channel_slots(name, layer), units, count
    for name in whole.modalities:
        for reverse in (False, True):
            yield gru_slots(name, whole.gru_hidden, reverse=reverse), whole.gru_hidden, cut.gru_hidden
