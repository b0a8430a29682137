"""Models under evaluation: checkpoints of dfkit or of the original, or a bundle, with what is stored in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dfkit.clip import ClipSpec
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError
from dfkit.evaluation.scorers import BundleScorer, NetworkScorer, Scorer
from dfkit.measures.decision import Decision
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.runtime.backends import BackendName, open_backend
from dfkit.runtime.bundle import open_bundle
from dfkit.training.task import ClipNetwork
from dfkit.training.train import require_clip_spec
from dfkit.weights.selection import WeightsChoice


@dataclass(frozen=True)
class EnsembleMember:
    """One model under evaluation; several vote as an ensemble."""

    name: str
    """Of the run or the bundle."""
    path: Path
    kind: str
    """`teacher`, `student`, `original` or `bundle`."""
    clip_spec: ClipSpec
    modalities: tuple[str, ...]
    scorer: Scorer
    model: ClipNetwork | None
    """None for a bundle."""
    decision: Decision | None
    """Stored calibration and threshold; None for an original checkpoint."""
    splits: dict[str, dict[str, Any]] | None
    """What training stored of the parts that it was trained, validated and tested on; None where it stored nothing."""

    weights: WeightsChoice | None = None
    """Which weights of a checkpoint; None for a bundle."""
    muted: Decision | None = None
    """For videos without sound; None of a model that gives them no verdict."""

    @property
    def temperature(self) -> float:
        """Stored calibration temperature; 1 without one."""
        return 1.0 if self.decision is None else self.decision.calibration.calibration_temperature


def build_clip_network(checkpoint: Checkpoint) -> ClipNetwork:
    """A checkpoint's network with its front ends, in eval mode, on the GPU where there is one."""
    model = ClipNetwork(checkpoint.network, checkpoint.clip_spec, pool_sound=checkpoint.kind == "student")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def stored_splits(splits: Any) -> dict[str, dict[str, Any]] | None:
    """The `splits` that training stored; None where nothing is stored."""
    return splits if isinstance(splits, dict) and splits else None


def open_checkpoint_member(path: str | Path, weights: WeightsChoice | None = None) -> EnsembleMember:
    """Opens a checkpoint for evaluation.

    Raises:
        CheckpointError: It cannot be used.
    """
    checkpoint = load_checkpoint(path, weights)
    model = build_clip_network(checkpoint)
    # A run's checkpoints are all called best.pth: its folder names it.
    name = checkpoint.path.stem if checkpoint.kind == "original" else checkpoint.path.parent.name
    return EnsembleMember(
        name=name or "checkpoint",
        path=checkpoint.path,
        kind=checkpoint.kind,
        clip_spec=checkpoint.clip_spec,
        modalities=checkpoint.network.spec.modalities,
        scorer=NetworkScorer(model),
        model=model,
        decision=Decision.from_facts(checkpoint.facts),
        splits=stored_splits(checkpoint.facts.get("splits")),
        weights=checkpoint.weights,
        muted=Decision.muted_from_facts(checkpoint.facts),
    )


def open_bundle_member(path: str | Path, backend: BackendName | None = None) -> EnsembleMember:
    """Opens a bundle for evaluation.

    Raises:
        BundleError: It cannot be used.
        ConfigError: It has no such backend.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    return EnsembleMember(
        name=manifest.name,
        path=bundle.path,
        kind="bundle",
        clip_spec=manifest.clip_spec,
        modalities=tuple(manifest.modalities),
        scorer=BundleScorer(open_backend(bundle, backend), manifest.clip_spec),
        model=None,
        decision=manifest.decision,
        splits=stored_splits(manifest.metrics.get("data", {}).get("splits")),
        muted=None if manifest.decision_muted is None else manifest.decision_muted.decision,
    )


def require_same_clip_spec(members: Sequence[EnsembleMember]) -> None:
    """Refuses an ensemble whose members take different clips: it votes clip by clip.

    Raises:
        ConfigError: Two clip contracts differ; names both models.
    """
    first = members[0]
    for other in members[1:]:
        if other.clip_spec != first.clip_spec:
            raise ConfigError(
                f"{other.path} takes other clips ({other.clip_spec.preset}) than {first.path} "
                f"({first.clip_spec.preset}): they cannot vote on the same ones",
                fix="evaluate them one at a time, or name checkpoints of one preset and clip contract",
            )


def require_prepared_for(member: EnsembleMember, data: PreparedData) -> None:
    """Refuses prepared data of another preset or clip contract than a model takes.

    Raises:
        DataError: The presets differ.
        ConfigError: The presets agree, but another field of the contract differs.
    """
    if member.clip_spec.preset != data.spec.preset:
        raise DataError(
            f"{data.path} was prepared as {data.spec.preset}, {member.path} takes {member.clip_spec.preset}",
            fix=f"dfkit prepare the same videos with --preset {member.clip_spec.preset} and name them with --data",
        )
    if member.kind != "original":
        # An original network takes lips of any size; its contract is the format itself.
        require_clip_spec(data.spec, member.clip_spec, data.path)
