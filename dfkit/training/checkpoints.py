"""Writes checkpoints atomically, on a full disk, too. `dfkit.models.checkpoint` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from dfkit.clip import ClipSpec
from dfkit.errors import DISK_FULL_ERRNOS, CheckpointError
from dfkit.files import whole_file
from dfkit.models.checkpoint import CHECKPOINT_VERSION
from dfkit.models.mmms_ba import MMMSBA
from dfkit.models.original import WEIGHTS_KEY

WRITE_FAILURES = ("PytorchStreamWriter failed", "unexpected pos", "file write failed")
"""Messages of torch's zip writer where the disk is full."""


@contextmanager
def atomic_checkpoint(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, which replaces the checkpoint when the block ends without an error.

    Args:
        path: The checkpoint; an earlier one stays until the new one is whole.
    Raises:
        CheckpointError: The disk is full; an earlier checkpoint is still there.
    """
    try:
        with whole_file(path) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as a RuntimeError of its zip writer.
        full = isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS
        if not full and not any(word in str(error) for word in WRITE_FAILURES):
            raise
        raise CheckpointError(
            f"{path}: could not be written, no space left; the checkpoints of earlier epochs are kept",
            fix="free space and go on with dfkit train --resume RUN",
        ) from error


def save_checkpoint(
    path: Path,
    network: MMMSBA,
    clip_spec: ClipSpec,
    *,
    kind: Literal["teacher", "student"],
    facts: dict[str, Any],
) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: The `.pth`; replaced when the new file is whole.
        network: Its architecture and weights are stored; the weights on the CPU.
        clip_spec: Contract of the clips that it takes.
        kind: Teacher or student.
        facts: Plain values such as splits and metrics.
    Raises:
        CheckpointError: The disk is full.
    """
    content = {
        "schema_version": CHECKPOINT_VERSION,
        "kind": kind,
        "network": network.spec.model_dump(mode="json"),
        "clip_spec": clip_spec.model_dump(mode="json"),
        "facts": facts,
        WEIGHTS_KEY: {name: value.detach().cpu() for name, value in network.state_dict().items()},
    }
    with atomic_checkpoint(path) as partial:
        torch.save(content, partial)
