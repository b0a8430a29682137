"""`--format executorch`: the program answers as torch does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import MissingExtraError
from dfkit.export import executorch
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import open_bundle
from tests.export.own_environment import export_in, python_of
from tests.runtime.bundles import make_network

INSTALLED = importlib.util.find_spec("executorch") is not None


@pytest.mark.skipif(INSTALLED, reason="executorch is installed")
def test_without_the_extra_its_install_command_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r'executorch(.|\n)*pip install "dfkit\[executorch\]"'):
        executorch.convert(make_network(), CLIP2S)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_command_line_exports_and_verifies(tmp_path: Path) -> None:
    """In an environment of its own: ExecuTorch's hydra-core wants another antlr4-python3-runtime than is pinned."""
    python = python_of("executorch", unpinned=("antlr4-python3-runtime",))
    bundle = open_bundle(export_in(python, tmp_path, formats="executorch"))
    assert {"model.tflite", "model.pte"} <= set(bundle.manifest.files)
    parity = [s for s in bundle.manifest.metrics["parity"]["stages"] if s["stage"] == "executorch fp32"]
    print([(stage["kind"], stage["max_difference"]) for stage in parity])
    assert [stage["kind"] for stage in parity] == ["real", "worst case"]
    assert all(stage["passed"] and stage["reference"] == "torch" for stage in parity)
    # Each of the deliberate mistakes would have been noticed.
    assert min(bundle.manifest.metrics["parity"]["controls"].values()) > max(
        stage["max_difference"] for stage in parity
    )
    assert "`model.pte`, method `encode`" in bundle.read("MODEL_CARD.md").decode()
    assert open_backend(bundle).name == "tflite"


def test_methods_and_shapes() -> None:
    backend = executorch.describe(make_network(), CLIP2S)
    assert backend.encode is not None
    assert [(e.name, e.shape) for e in backend.encode.inputs] == [("face", (1, 112, 112, 3)), ("lip", (1, 48, 48, 3))]
    assert [(e.name, e.shape) for e in backend.score.inputs] == [
        ("pcm", (1, 33408)),
        ("face_features", (50, 16)),
        ("lip_features", (50, 8)),
    ]
