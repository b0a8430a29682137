"""dfkit's own checkpoints: a network, the clips it takes, and what was measured on it.

The weights lie under `model_state_dict`, as in original checkpoints, so that either kind opens as the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from dfkit.clip import UNIFORM50, ClipSpec
from dfkit.errors import DISK_FULL_ERRNOS, CheckpointError
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.models.original import WEIGHTS_KEY, infer_spec, load_weights, original_weights, read_checkpoint

CHECKPOINT_VERSION = 1
WRITER_FAILURES = ("PytorchStreamWriter failed", "unexpected pos", "file write failed")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network with its facts."""

    network: MMMSBA
    """In eval mode."""
    clip_spec: ClipSpec
    """The clips it was trained on; `uniform50` for an original checkpoint."""
    kind: Literal["teacher", "student", "original"]
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    """Epoch, metrics, operating point, data: plain values."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write under; the file gets its own name when it is whole, and only then.

    Raises:
        CheckpointError: The disk is full; what stood under the name before is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as a RuntimeError of its zip writer.
        full = isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS
        if not full and not any(word in str(error) for word in WRITER_FAILURES):
            raise
        raise CheckpointError(
            f"{path}: could not be written, no space left; the checkpoints of earlier epochs are kept",
            fix="free space and go on with dfkit train --resume RUN",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def save_checkpoint(
    path: Path,
    network: MMMSBA,
    clip_spec: ClipSpec,
    *,
    kind: Literal["teacher", "student"],
    facts: dict[str, Any],
) -> None:
    """Writes a checkpoint under a temporary name and renames it, so that no half-written one is ever found."""
    content = {
        "schema_version": CHECKPOINT_VERSION,
        "kind": kind,
        "network": network.spec.model_dump(mode="json"),
        "clip_spec": clip_spec.model_dump(mode="json"),
        "facts": facts,
        WEIGHTS_KEY: {name: value.detach().cpu() for name, value in network.state_dict().items()},
    }
    with whole_file(path) as partial:
        torch.save(content, partial)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a checkpoint of dfkit or of the original implementation.

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
