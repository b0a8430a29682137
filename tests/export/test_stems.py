"""`encode` of every stem: folded pixels give the network's own features, and pictures stay int8 on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.export import tflite
from dfkit.export.converter import convert_graphs
from dfkit.export.graph import EncodeGraph, FoldedConv
from dfkit.export.recipes import recipe_named
from dfkit.export.signature import encode_example
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.mmms_ba import Stem, image_cnn

SPEC = ClipSpec(picture=PictureSpec(face_px=64, lip_px=32))


@pytest.mark.parametrize("stem", ["conv3", "patch4"])
@pytest.mark.parametrize("side", [16, 48, 112])
def test_folding_changes_nothing(stem: Stem, side: int) -> None:
    torch.manual_seed(0)
    first = image_cnn((8, 8, 8), stem)[0]
    pictures = torch.rand(2, side, side, 3)
    torch.testing.assert_close(FoldedConv(first)(pictures), first(pictures.permute(0, 3, 1, 2)))


@pytest.mark.parametrize("stem", ["conv3", "patch4"])
def test_pictures_are_not_requantized(stem: Stem) -> None:
    """Ranges of the calibration set would round pictures again: they are pinned, whatever it holds."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    torch.manual_seed(0)
    spec = NetworkSpec(face_channels=(8, 8, 16), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=8, stem=stem)
    network = MMMSBA(spec).eval()
    for parameter in network.parameters():
        parameter.data.abs_()  # no channel is dead
    plain = convert_graphs([("encode", EncodeGraph(network).eval(), encode_example(network, SPEC))])
    rng = np.random.default_rng(0)
    sides = {"face": 64, "lip": 32}
    bright = [{m: rng.integers(60, 256, (4, side, side, 3), np.uint8) for m, side in sides.items()}]
    model = tflite.quantize(plain, recipe_named("mixed_int8"), network, SPEC, bright)
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    assert "QUANTIZE" not in {op["op_name"] for op in operators}
    reshaped = [details[op["outputs"][0]] for op in operators if op["op_name"] == "RESHAPE"]
    folded = [tensor for tensor in reshaped if tensor["shape"][-1] in (6, 12)]
    assert len(folded) == 2
    for tensor in folded:
        assert tensor["dtype"] == np.int8 and tensor["quantization"] == (pytest.approx(1 / 255), -128)

    pictures = {m: rng.integers(0, 256, (1, side, side, 3), np.uint8) for m, side in sides.items()}
    runner = interpreter.get_signature_runner("encode")
    made = runner(**{f"args_{n}": (p ^ 0x80).view(np.int8) for n, p in enumerate(pictures.values())})
    with torch.no_grad():
        expected = EncodeGraph(network)(*(torch.from_numpy(p).float() / 255 for p in pictures.values()))
    for place, value in enumerate(expected):
        np.testing.assert_allclose(made[f"output_{place}"], value.numpy(), rtol=0.05)
