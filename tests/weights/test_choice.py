"""What was chosen with `--weights` is known behind the reader, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.evaluation.ensemble_members import open_checkpoint_member
from dfkit.evaluation.torch_graphs import CheckpointDetector
from dfkit.weights.selection import WeightsChoice
from tests.models.original_weights import original_weights


@pytest.mark.parametrize("choice", ["raw", "ema"])
def test_evaluation_and_detector_take_and_name_it(tmp_path: Path, choice: WeightsChoice) -> None:
    raw = original_weights()
    ema = {name: value * 0.5 for name, value in raw.items()}
    torch.save({"model": raw, "model_ema": ema}, tmp_path / "x.pth")
    expected = {"raw": raw, "ema": ema}[choice]["classifier.0.bias"]
    member = open_checkpoint_member(tmp_path / "x.pth", choice)
    detector = CheckpointDetector(tmp_path / "x.pth", weights=choice)
    assert (member.weights, detector.bundle.manifest.metrics) == (choice, {"weights": choice})
    assert member.model is not None
    for model in (member.model, detector.torch_graphs.model):
        found = model.network.state_dict()["classifier.0.bias"].cpu()
        np.testing.assert_array_equal(found, expected)
