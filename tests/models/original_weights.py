"""The original's checkpoint of random weights, built anew from its seed: tests/golden/teacher/README.md.

torch's own modules in the order in which the original builds them, so that nothing here is dfkit's. A digest of the
original file's tensors tells whether this torch still draws the same numbers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WEIGHTS_SHA256 = "8f329fbff2e8e504a5f46a52aac72d14a7585478d663207b8d43129c4fd8a55a"
"""Of the 44 tensors of fold4.pth, names and little-endian float32 bytes in the file's order."""


def _cnn(widths: tuple[int, int, int]) -> dict[str, nn.Module]:
    inputs = (3, *widths[:2])
    # 0, 3 and 6: between them lie ReLU and pooling, which have no weights.
    return {str(3 * n): nn.Conv2d(inputs[n], widths[n], 3, stride=2, padding=1) for n in range(3)}


def original_weights() -> dict[str, Tensor]:
    """The 44 tensors of fold4.pth: torch.manual_seed(0), then torch's default initialisation.

    The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts: dict[str, nn.Module] = {}
        for name, widths in (("visual", (64, 128, 256)), ("lip", (32, 64, 128))):
            parts |= {f"{name}_feature_extractor.{place}": layer for place, layer in _cnn(widths).items()}
        for name, width in (("audio", 40), ("visual", 256), ("lip", 128)):
            parts[f"{name}_encoder.gru"] = nn.GRU(width, 300, batch_first=True, bidirectional=True)
        for name in ("audio", "visual", "lip"):
            parts[f"{name}_dense.1"] = nn.Linear(600, 100)
        parts["classifier.0"] = nn.Linear(900, 2)
    weights = {f"{part}.{n}": value for part, module in parts.items() for n, value in module.state_dict().items()}
    if digest(weights) != WEIGHTS_SHA256:
        pytest.fail(f"torch {torch.__version__} draws other weights from seed 0: see tests/golden/teacher/README.md")
    return weights


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes."""
    found = hashlib.sha256()
    for name, value in weights.items():
        found.update(name.encode())
        found.update(value.numpy().astype("<f4").tobytes())
    return found.hexdigest()


def write_original(path: Path) -> Path:
    """Writes a checkpoint with the keys of the original's: epoch, weights, fresh Adam and cosine states, results."""
    weights = original_weights()
    adam = torch.optim.Adam([nn.Parameter(value) for value in weights.values()], lr=5e-4, weight_decay=1e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=15, eta_min=1e-5)
    content: dict[str, Any] = {
        "epoch": 7,
        # As a module's state_dict() is.
        "model_state_dict": OrderedDict(weights),
        "optimizer_state_dict": adam.state_dict(),
        "scheduler_state_dict": cosine.state_dict(),
        "best_val_acc": 0.625,
        "best_val_loss": 0.6875,
        "best_val_precision": 0.6,
        "best_val_recall": 0.75,
        "best_val_f1": 0.667,
        "config": {"experiment": {"name": "teacher", "seed": 42}, "model": {"name": "MMMS_BA", "num_classes": 2}},
    }
    torch.save(content, path)
    return path
