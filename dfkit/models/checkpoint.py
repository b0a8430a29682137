"""dfkit's own checkpoints: a network, the clips it takes, and what was measured on it.

The weights lie under `model_state_dict`, as in original checkpoints, so that either kind opens as the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from dfkit.clip import UNIFORM50, ClipSpec
from dfkit.errors import CheckpointError
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.models.original import MARK, infer_spec, load_weights
from dfkit.weights.selection import WeightsChoice
from dfkit.weights.stored import read_weights

CHECKPOINT_VERSION = 1
TRAINING_STATE = "RunRecorder"
"""Callback whose state stands in what a run is resumed from."""
TEACHER_PICTURE = "teacher_picture"
"""Fact of a student: the sides of the pictures that its teacher sees, as `PictureSpec` has them."""
Kind = Literal["teacher", "student", "original"]


@dataclass(frozen=True)
class Checkpoint:
    """A network loaded from a checkpoint, with the clips it takes and what was measured on it."""

    network: MMMSBA
    """In eval mode."""
    clip_spec: ClipSpec
    """The clips it was trained on; `uniform50` for an original checkpoint."""
    kind: Kind
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    """Epoch, metrics, operating point, data: plain values."""
    weights: WeightsChoice = "raw"
    """Which of the file's weights these are."""
    notes: tuple[str, ...] = ()
    """What was chosen, converted and left out on the way from the file."""


def load_checkpoint(path: str | Path, weights: WeightsChoice | None = None) -> Checkpoint:
    """Opens a checkpoint of dfkit or of the original implementation.

    Args:
        path: A `.pth` or `.safetensors` file.
        weights: Plain or EMA weights where a file holds both; the plain ones where left out.
    Returns:
        The network in eval mode, with its facts.
    Raises:
        CheckpointError: The file, a field or a tensor does not fit, by name.
    """
    path = Path(path)
    stored = read_weights(path, weights, mark=MARK)
    content, where = stored.content, str(path)
    if isinstance(callbacks := content.get("callbacks"), dict) and TRAINING_STATE in callbacks:
        raise CheckpointError(
            f"{path}: the state that dfkit train goes on from, without its clip contract",
            fix=f"give {path.with_name('best.pth')}, or {path.with_name('last.pth').name} of the same folder",
        )
    if "clip_spec" not in content:
        network = MMMSBA(infer_spec(stored.tensors, where=where), frame_resampling="padded")
        clip_spec: ClipSpec = UNIFORM50
        kind: Kind = "original"
        facts = {name: value for name, value in content.items() if isinstance(value, (int, float, str))}
    else:
        network, clip_spec, kind, facts = _own(content, where)
    load_weights(network, stored.tensors, where=where)
    return Checkpoint(network.eval(), clip_spec, kind, path, facts, stored.kind, stored.notes)


def _own(content: dict[str, Any], where: str) -> tuple[MMMSBA, ClipSpec, Kind, dict[str, Any]]:
    """Network without weights, contract, kind and facts of dfkit's own checkpoint."""
    version = content.get("schema_version")
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{where}: checkpoint schema {version}, this dfkit reads {CHECKPOINT_VERSION}", fix="upgrade dfkit"
        )
    fix = "copy the checkpoint again from its run's folder"
    try:
        spec = NetworkSpec.model_validate(content["network"])
        clip_spec = ClipSpec.model_validate(content["clip_spec"])
        kind, facts = content["kind"], content.get("facts", {})
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{where}: damaged checkpoint: {error}", fix=fix) from error
    if kind not in ("teacher", "student") or not isinstance(facts, dict):
        raise CheckpointError(f"{where}: damaged checkpoint: kind {kind!r}, facts {type(facts).__name__}", fix=fix)
    return MMMSBA(spec), clip_spec, kind, facts
