"""`--format coreai`: the asset answers as torch does, by the package's own interpreter."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import MissingExtraError
from dfkit.export import coreai
from dfkit.export.card import program_lines
from dfkit.export.parity import FEW_CLIPS
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import open_bundle
from tests.export.own_environment import export_in, python_of
from tests.runtime.bundles import make_network

INSTALLED = importlib.util.find_spec("coreai_torch") is not None


@pytest.mark.skipif(INSTALLED, reason="coreai-torch is installed")
def test_without_the_extra_its_install_command_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r'coreai-torch(.|\n)*pip install "dfkit\[coreai\]"'):
        coreai.convert(make_network(), CLIP2S)


def test_functions_and_names() -> None:
    backend = coreai.describe(make_network(), CLIP2S)
    assert backend.encode is not None
    assert [(e.tensor, e.shape) for e in backend.encode.outputs] == [
        ("face_features", (1, 16)),
        ("lip_features", (1, 8)),
    ]
    assert [(e.tensor, e.shape) for e in backend.score.inputs] == [
        ("pcm", (1, 33408)),
        ("face_features", (50, 16)),
        ("lip_features", (50, 8)),
    ]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_command_line_exports_and_verifies(tmp_path: Path) -> None:
    """In an environment of its own: betas, which nothing else should meet."""
    bundle = open_bundle(export_in(python_of("coreai"), tmp_path, formats="coreai"))
    assert {"model.tflite", "model.aimodel/main.mlirb", "model.aimodel/metadata.json"} <= set(bundle.manifest.files)
    parity = [s for s in bundle.manifest.metrics["parity"]["stages"] if s["stage"] == "coreai fp32"]
    print([(stage["kind"], stage["num_clips"], stage["max_difference"]) for stage in parity])
    assert [(stage["kind"], stage["num_clips"]) for stage in parity] == [
        ("real", 2),
        ("worst case", FEW_CLIPS["coreai"]),
    ]
    assert all(stage["passed"] and stage["reference"] == "torch" for stage in parity)
    # Each of the deliberate mistakes would have been noticed.
    assert min(bundle.manifest.metrics["parity"]["controls"].values()) > max(
        stage["max_difference"] for stage in parity
    )
    asset = bundle.read("model.aimodel/main.mlirb")
    assert str(Path(__file__).parents[2]).encode() not in asset and b"site-packages" not in asset
    card = "\n".join(program_lines(bundle.manifest))
    assert card in bundle.read("MODEL_CARD.md").decode()
    assert "older iOS take `model.tflite`" in card and "function `score`" in card
    assert open_backend(bundle).name == "tflite"
