"""ONNX: batch and time are dynamic, and what the file says of its shapes is true."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dfkit.clip import UNIFORM50, ClipSpec
from dfkit.export import onnx_graph
from dfkit.models import MMMSBA
from dfkit.models.front_end import MfccFrontEnd
from tests.export import tiny

WHOLE_VIDEO = ClipSpec(preset="uniform50", audio=UNIFORM50.audio, num_frames=6, picture=tiny.SPEC.picture)


@pytest.fixture(scope="module")
def network() -> MMMSBA:
    return tiny.tiny_network()


def features(network: MMMSBA, batch: int, steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(steps)
    widths = {m: network.spec.feature_dim(m) for m in network.spec.pictures}
    return {f"{m}_features": rng.random((batch, steps, width), np.float32) for m, width in widths.items()}


def expected(network: MMMSBA, audio: torch.Tensor, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    steps = {"audio": audio} | {m: torch.from_numpy(given[f"{m}_features"]) for m in network.spec.pictures}
    with torch.no_grad():
        output = network.fuse(steps)
    return output.frame_logits.numpy(), output.clip_logits.numpy()


def check(found: list[np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() < 1e-5


def test_any_batch_and_any_time(network: MMMSBA) -> None:
    """A PCM of (T - 1) * hop + n_fft samples has T columns; the network is torch's own for each T."""
    graphs = onnx_graph.convert(network, tiny.SPEC)
    for content in (*graphs.values(), *onnx_graph.quantize(graphs, [tiny.tiny_clip()], network).values()):
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        for mine, theirs in zip(model.graph.output, inferred.graph.output, strict=True):
            assert mine.type == theirs.type
        assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    session = onnxruntime.InferenceSession(graphs[onnx_graph.SCORE_FILE])
    assert [axis for value in session.get_outputs() for axis in value.shape] == ["batch", "steps", 2, "batch", 2]
    for batch, steps in ((1, 6), (3, 6), (1, 50), (2, 11)):
        given = features(network, batch, steps)
        samples = (steps - 1) * tiny.SPEC.audio.hop_length + tiny.SPEC.audio.n_fft
        pcm = 0.1 * np.random.default_rng(batch).standard_normal((batch, samples)).astype(np.float32)
        with torch.no_grad():
            mfcc = MfccFrontEnd(tiny.SPEC.audio, steps)(torch.from_numpy(pcm))
        check(session.run(None, {"pcm": pcm, **given}), expected(network, mfcc, given))
    encode = onnxruntime.InferenceSession(graphs[onnx_graph.ENCODE_FILE])
    for count in (1, 3):
        made = encode.run(None, {m: tiny.tiny_clip()[m][:count] for m in ("face", "lip")})
        assert [value.shape for value in made] == [(count, 16), (count, 8)]


def test_whole_videos_take_mfcc_of_any_length(network: MMMSBA) -> None:
    graphs = onnx_graph.convert(network, WHOLE_VIDEO)
    backend = onnx_graph.describe(graphs, network, WHOLE_VIDEO, "fp32")
    assert (backend.opset, backend.ir_version) == (onnx_graph.OPSET, onnx_graph.IR_VERSION)
    first = backend.score.inputs[0]
    assert (first.name, first.shape) == ("mfcc", (1, 6, 40))
    session = onnxruntime.InferenceSession(graphs[onnx_graph.SCORE_FILE])
    for batch, steps in ((1, 6), (2, 20)):
        given = features(network, batch, steps)
        mfcc = np.random.default_rng(1).standard_normal((batch, steps, 40)).astype(np.float32)
        check(session.run(None, {"mfcc": mfcc, **given}), expected(network, torch.from_numpy(mfcc), given))
