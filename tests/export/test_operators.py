"""The operators that a .tflite may have are those that exports have, of every recipe, variant and preset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dfkit.clip import UNIFORM50, ClipSpec, PictureSpec
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.converter import convert_graphs
from dfkit.export.graph import EncodeGraph
from dfkit.export.recipes import RECIPES
from dfkit.export.signature import encode_example
from dfkit.export.straight import straight_model, straight_network
from dfkit.models import MMMSBA
from dfkit.runtime.flat_tables import read_graphs
from dfkit.runtime.graph_check import check_tflite
from dfkit.runtime.graph_operators import OPERATORS
from tests.export import tiny

SIDES = ((112, 64), (225, 97), (100, 33))
"""Of faces and lips: where a convolution's places come out even, the converter takes SAME padding instead of a PAD."""


def network(*modalities: str, **changes: object) -> MMMSBA:
    torch.manual_seed(0)
    return MMMSBA(tiny.NETWORK.model_copy(update={"modalities": modalities, **changes})).eval()


def clip_of(model: MMMSBA, spec: ClipSpec) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {f"{m}_features": model.spec.feature_dim(m) for m in model.spec.pictures}
    clip = tiny.tiny_clip() | {n: rng.random((spec.num_frames, size), np.float32) for n, size in sizes.items()}
    if spec.preset == "uniform50":
        del clip["pcm"]
        clip["mfcc"] = rng.random((spec.num_frames, spec.audio.n_mfcc), np.float32)
    return clip


def exports() -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, as converted and as shipped."""
    everything = network("audio", "face", "lip", "motion")
    uniform = UNIFORM50.model_copy(update={"num_frames": tiny.SPEC.num_frames, "picture": tiny.SPEC.picture})
    cases = [
        ("all streams", everything, tiny.SPEC, list(RECIPES)),
        ("lite", network("audio", "motion"), tiny.SPEC, ["fp32", "mixed_int8", "static_int8"]),
        ("uniform50", network("audio", "face", "lip", attention="self"), uniform, ["fp32", "mixed_int8"]),
    ]
    for name, model, spec, recipes in cases:
        plain = tflite.convert(model, spec)
        yield f"{name}, as converted", plain
        for recipe in recipes:
            quantized = tflite.quantize(plain, RECIPES[recipe], model, spec, [clip_of(model, spec)])
            yield f"{name}, {recipe}", compact(quantized)
    for face_px, lip_px in SIDES:
        spec = tiny.SPEC.model_copy(update={"picture": PictureSpec(face_px=face_px, lip_px=lip_px)})
        encode = EncodeGraph(everything).eval()
        yield f"{face_px} and {lip_px} px", convert_graphs([("encode", encode, encode_example(everything, spec))])
    texture = network("face", face_trunk="efficientnet_lite0", face_blocks=3)
    for side in (64, 33):
        spec = tiny.SPEC.model_copy(update={"picture": PictureSpec(face_px=side, lip_px=32)})
        encode = EncodeGraph(texture).eval()
        plain = convert_graphs([("encode", encode, encode_example(texture, spec))])
        yield f"texture, {side} px", plain
        if not side % 2:
            yield (
                "texture, mixed_int8",
                compact(tflite.quantize(plain, RECIPES["mixed_int8"], texture, spec, [tiny.tiny_clip()])),
            )
    yield "straight", straight_model(straight_network(everything), tiny.SPEC)


@pytest.mark.long
def test_exports_pass_and_have_every_operator() -> None:
    found: set[str] = set()
    for name, content in exports():
        check_tflite(content, where=name)
        names = {OPERATORS[code.builtin].name for code in read_graphs(content).codes}
        print(f"{name}: {len(content) / 1e6:.3f} MB, {', '.join(sorted(names))}")
        found |= names
    assert {kind.name for kind in OPERATORS.values()} == found
