"""Original checkpoint with stressed weights -> GRU-128 -> one .tflite with two signatures -> Python's interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from dfkit.export.parity import (
    FLOAT_TOLERANCE,
    graph_logits,
    largest_change,
    negative_controls,
    run_parity,
    torch_logits,
    worst_cases,
)
from tests.export.conftest import SPEC, Converted

# The .tflite of the default student, CNNs and MFCC included (the limit).
MAX_BYTES = 1_500_000


def test_float_stages_equal_torch(converted: Converted) -> None:
    loaded = {name: stage.graphs for name, stage in converted.stages.items()}
    report = run_parity(converted.student, SPEC, [converted.clip, *worst_cases(SPEC)], loaded, require_int8=False)
    by_name = {(s.stage, s.kind): s for s in report.stages}
    assert len(by_name) == 10
    for stage in ("fused", "tflite fp32", "onnx fp32"):
        for kind in ("real", "worst case"):
            assert by_name[stage, kind].max_difference <= FLOAT_TOLERANCE
    for kind in ("real", "worst case"):
        for stage in ("tflite int8", "onnx int8"):
            result = by_name[stage, kind]
            print(f"{stage}, {kind}: {result.max_difference:.3g} in logits, mean {result.mean_difference:.3g}")
            assert 0 < result.max_difference < np.inf


def test_each_mistake_costs_more_than_mixed_int8(converted: Converted) -> None:
    """DESIGN, section 6: parity on weak weights proves nothing, so each deliberate mistake has to show."""
    expected = torch_logits(converted.student, SPEC, [converted.clip])
    quantized = largest_change(graph_logits(converted.stages["tflite int8"].graphs, [converted.clip]), expected)
    controls = negative_controls(converted.student, SPEC, [converted.clip])
    print(f"mixed_int8 {quantized:.3g}; " + ", ".join(f"{name} {change:.3g}" for name, change in controls.items()))
    assert set(controls) == {
        "channels swapped",
        "lips zeroed",
        "sound shifted by one step",
        "attention arguments swapped",
    }
    for name, change in controls.items():
        assert change > quantized, name


@pytest.mark.parametrize("mistake", ["channels", "lips", "sound"])
def test_the_graph_itself_notices_a_mistake(converted: Converted, mistake: str) -> None:
    """The same mistakes made to the INT8 graph's inputs, so that no input is ignored by it."""
    graphs, arrays = converted.stages["tflite int8"].graphs, dict(converted.clip.arrays)
    right = graph_logits(graphs, [converted.clip])
    if mistake == "channels":
        arrays |= {m: np.ascontiguousarray(arrays[m][..., ::-1]) for m in ("face", "lip")}
    elif mistake == "lips":
        arrays["lip"] = np.zeros_like(arrays["lip"])
    else:
        arrays["pcm"] = np.roll(arrays["pcm"], SPEC.audio.hop_length)
    wrong = graph_logits(graphs, [type(converted.clip)("mistaken", "real", arrays)])
    assert largest_change(wrong, right) > 0.1


def test_is_small(converted: Converted) -> None:
    (model,) = converted.stages["tflite int8"].files.values()
    print(f"mixed_int8: {len(model) / 1e6:.3f} MB")
    assert len(model) < MAX_BYTES


def test_signatures(converted: Converted) -> None:
    backend = converted.stages["tflite int8"].backend
    assert backend.encode is not None
    assert [(e.name, e.shape, e.dtype) for e in backend.encode.inputs] == [
        ("face", (1, 224, 224, 3), "int8"),
        ("lip", (1, 96, 96, 3), "int8"),
    ]
    # uint8 XOR 0x80 is the stored value: no cast in the graph.
    assert [(round(1 / e.scale), e.zero_point) for e in backend.encode.inputs] == [(255, -128)] * 2
    assert [(e.name, e.shape) for e in backend.score.inputs] == [
        ("pcm", (1, 33408)),
        ("face_features", (50, 128)),
        ("lip_features", (50, 64)),
    ]
    assert [(e.name, e.shape) for e in backend.score.outputs] == [("frame_logits", (50, 2)), ("clip_logits", (1, 2))]
