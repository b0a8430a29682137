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
from dfkit.models.original import infer_spec, load_weights, original_weights, read_checkpoint

CHECKPOINT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A network loaded from a checkpoint, with the clips it takes and what was measured on it."""

    network: MMMSBA
    """In eval mode."""
    clip_spec: ClipSpec
    """The clips it was trained on; `uniform50` for an original checkpoint."""
    kind: Literal["teacher", "student", "original"]
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    """Epoch, metrics, operating point, data: plain values."""


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a checkpoint of dfkit or of the original implementation.

    Args:
        path: A `.pth` file.
    Returns:
        The network in eval mode, with its facts.
    Raises:
        CheckpointError: The file, a field or a tensor does not fit, by name.
    """
    path = Path(path)
    content = read_checkpoint(path)
    weights = original_weights(content, where=str(path))
    if "clip_spec" not in content:
        network = MMMSBA(infer_spec(weights, where=str(path)), frame_resampling="padded")
        load_weights(network, weights, where=str(path))
        facts = {name: value for name, value in content.items() if isinstance(value, (int, float, str))}
        return Checkpoint(network.eval(), UNIFORM50, "original", path, facts)
    version = content.get("schema_version")
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint schema {version}, this dfkit reads {CHECKPOINT_VERSION}", fix="upgrade dfkit"
        )
    try:
        spec = NetworkSpec.model_validate(content["network"])
        clip_spec = ClipSpec.model_validate(content["clip_spec"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {error}") from error
    network = MMMSBA(spec)
    load_weights(network, weights, where=str(path))
    return Checkpoint(network.eval(), clip_spec, content["kind"], path, content.get("facts", {}))
