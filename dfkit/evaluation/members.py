"""What is evaluated: checkpoints of dfkit or the original, or a bundle, opened with what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dfkit.clip import ClipSpec
from dfkit.data.storage import PreparedData
from dfkit.distill.evaluate import Decision
from dfkit.distill.task import ClipNetwork
from dfkit.distill.train import require_clips
from dfkit.errors import ConfigError, DataError
from dfkit.evaluation.scorers import BundleScorer, NetworkScorer, Scorer
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.runtime.backends import BackendName, open_backend
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.manifest import Calibration, OperatingPoint


@dataclass(frozen=True)
class Member:
    """One model."""

    name: str
    path: Path
    kind: str
    """`teacher`, `student`, `original` or `bundle`."""
    clip_spec: ClipSpec
    modalities: tuple[str, ...]
    scorer: Scorer
    model: ClipNetwork | None
    """None for a bundle."""
    decision: Decision | None
    """Threshold and calibration that it carries; None for an original checkpoint."""
    parts: dict[str, frozenset[str]] | None
    """Groups that it was trained, tuned and tested on, by part; None where it does not say."""

    @property
    def temperature(self) -> float:
        """Calibration temperature that it carries; 1 without one."""
        return 1.0 if self.decision is None else self.decision.calibration.calibration_temperature


def clip_network(checkpoint: Checkpoint) -> ClipNetwork:
    """A checkpoint's network with its front ends, on the GPU where there is one."""
    model = ClipNetwork(checkpoint.network, checkpoint.clip_spec, pool_sound=checkpoint.kind == "student")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def decision_of(facts: dict[str, Any]) -> Decision | None:
    """The decision in a checkpoint's facts; None where it has none."""
    if "operating_point" not in facts or "calibration" not in facts:
        return None
    return Decision(
        Calibration.model_validate(facts["calibration"]), OperatingPoint.model_validate(facts["operating_point"])
    )


def parts_of(splits: Any) -> dict[str, frozenset[str]] | None:
    """Groups by part out of what training recorded; None where nothing is recorded."""
    if not isinstance(splits, dict) or not splits:
        return None
    return {name: frozenset(facts["groups"]) for name, facts in splits.items()}


def open_checkpoint(path: str | Path) -> Member:
    """Opens a checkpoint for evaluation.

    Raises:
        CheckpointError: It cannot be used.
    """
    checkpoint = load_checkpoint(path)
    model = clip_network(checkpoint)
    return Member(
        name=checkpoint.path.stem if checkpoint.kind == "original" else checkpoint.path.parent.name or "checkpoint",
        path=checkpoint.path,
        kind=checkpoint.kind,
        clip_spec=checkpoint.clip_spec,
        modalities=checkpoint.network.spec.modalities,
        scorer=NetworkScorer(model),
        model=model,
        decision=decision_of(checkpoint.facts),
        parts=parts_of(checkpoint.facts.get("splits")),
    )


def open_bundle_member(path: str | Path, backend: BackendName | None = None) -> Member:
    """Opens a bundle for evaluation.

    Raises:
        BundleError: It cannot be used.
        ConfigError: It has no such backend.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    return Member(
        name=manifest.name,
        path=bundle.path,
        kind="bundle",
        clip_spec=manifest.clip_spec,
        modalities=tuple(manifest.modalities),
        scorer=BundleScorer(open_backend(bundle, backend), manifest.clip_spec),
        model=None,
        decision=Decision(manifest.calibration, manifest.operating_point),
        parts=parts_of(manifest.metrics.get("data", {}).get("splits")),
    )


def require_one_contract(members: Sequence[Member]) -> None:
    """An ensemble votes clip by clip, so its members have to see the same clips.

    Raises:
        ConfigError: They do not; names two that differ.
    """
    first = members[0]
    for other in members[1:]:
        if other.clip_spec != first.clip_spec:
            raise ConfigError(
                f"{other.path} takes other clips ({other.clip_spec.preset}) than {first.path} "
                f"({first.clip_spec.preset}): they cannot vote on the same ones",
                fix="evaluate them one at a time, or name checkpoints of one preset and clip contract",
            )


def require_view(member: Member, data: PreparedData) -> None:
    """Prepared data of another preset or contract than a model's cannot be shown to it.

    Raises:
        DataError: The presets differ.
        ConfigError: The presets agree, but something within does not.
    """
    if member.clip_spec.preset != data.spec.preset:
        raise DataError(
            f"{data.path} was prepared as {data.spec.preset}, {member.path} takes {member.clip_spec.preset}",
            fix=f"dfkit prepare the same videos with --preset {member.clip_spec.preset} and name them with --data",
        )
    if member.kind != "original":
        # An original network takes lips of any size; its contract is the format itself.
        require_clips(data.spec, member.clip_spec, data.path)
