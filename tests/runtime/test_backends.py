from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import BundleError, ConfigError, ShapeError
from dfkit.runtime.backends import (
    from_graph,
    open_backend,
    picture_table,
    picture_to_graph,
    to_graph,
)
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.manifest import TensorEntry
from tests.runtime.bundles import example_inputs, make_network, write_bundle


def torch_answer(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The network itself: another implementation of the same clip."""
    import torch

    from dfkit.models.front_end import MfccFrontEnd

    network = make_network()
    with torch.no_grad():
        mfcc = MfccFrontEnd(CLIP2S.audio, CLIP2S.num_frames)(torch.from_numpy(inputs["pcm"])[None])
        face, lip = (torch.from_numpy(inputs[m]).permute(0, 3, 1, 2)[None].float() / 255 for m in ("face", "lip"))
        answer = network(mfcc, face, lip)
    return answer.frame_logits[0].numpy(), answer.clip_logits[0].numpy()


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return example_inputs(50)


@pytest.fixture(scope="module")
def expected(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return torch_answer(inputs)


def run(graphs: Any, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return graphs.score(graphs.encode(inputs) | {"pcm": inputs["pcm"]})


# fp32: the export's own limit between float stages. mixed_int8: measured 0.03 on these loud random weights.
@pytest.mark.parametrize(("backend", "limit"), [("onnx", 1e-4), ("tflite", 0.1)])
def test_graphs_answer_like_torch(
    tiny_bundle: Bundle, inputs: dict[str, np.ndarray], expected: Any, backend: Any, limit: float
) -> None:
    frame_logits, clip_logits = run(open_backend(tiny_bundle, backend), inputs)
    assert (frame_logits.shape, clip_logits.shape) == ((50, 2), (2,))
    assert (frame_logits.dtype, clip_logits.dtype) == (np.float32, np.float32)
    assert np.abs(frame_logits - expected[0]).max() < limit
    assert np.abs(clip_logits - expected[1]).max() < limit


@pytest.mark.parametrize("backend", ["onnx", "tflite"])
def test_every_input_matters(tiny_bundle: Bundle, inputs: dict[str, np.ndarray], backend: Any) -> None:
    graphs = open_backend(tiny_bundle, backend)
    reference, _ = run(graphs, inputs)
    for name in ("face", "lip", "pcm"):
        changed, _ = run(graphs, {**inputs, name: np.zeros_like(inputs[name])})
        # A conversion that loses a modality would leave the answer as it is.
        assert np.abs(changed - reference).max() > 0.05, name
    swapped, _ = run(graphs, {**inputs, "face": np.ascontiguousarray(inputs["face"][..., ::-1])})
    assert np.abs(swapped - reference).max() > 1e-3


@pytest.mark.parametrize("backend", ["onnx", "tflite"])
def test_features_do_not_depend_on_company(tiny_bundle: Bundle, inputs: Any, backend: Any) -> None:
    graphs = open_backend(tiny_bundle, backend)
    together = graphs.encode(inputs)
    for index in (0, 7, 49):
        alone = graphs.encode({m: inputs[m][index : index + 1] for m in ("face", "lip")})
        for name in together:
            assert np.array_equal(together[name][index], alone[name][0])
    empty = graphs.encode({m: inputs[m][:0] for m in ("face", "lip")})
    assert empty["face_features"].shape == (0, together["face_features"].shape[1])


def test_float_tflite_graph_takes_the_same_pictures(
    tmp_path: Path, inputs: dict[str, np.ndarray], expected: Any
) -> None:
    folder = write_bundle(tmp_path / "float", backends=("tflite_fp32",), backends_as={"tflite": "tflite_fp32"})
    frame_logits, clip_logits = run(open_backend(open_bundle(folder), "tflite"), inputs)
    # fp32 TFLite against torch: sums in another order, 1e-4 is the export's limit.
    assert max(np.abs(frame_logits - expected[0]).max(), np.abs(clip_logits - expected[1]).max()) < 1e-4


@pytest.mark.parametrize("backend", ["onnx", "tflite"])
def test_wrong_arrays_are_refused(tiny_bundle: Bundle, inputs: dict[str, np.ndarray], backend: Any) -> None:
    graphs = open_backend(tiny_bundle, backend)
    with pytest.raises(ShapeError, match="uint8"):
        graphs.encode({**inputs, "face": inputs["face"].astype(np.float32)})
    with pytest.raises(ShapeError, match="lip"):
        graphs.encode({**inputs, "lip": inputs["lip"][:, :-1]})
    with pytest.raises(ShapeError, match="as many"):
        graphs.encode({**inputs, "lip": inputs["lip"][:3]})
    features = graphs.encode(inputs)
    with pytest.raises(ShapeError, match="pcm"):
        graphs.score(features)
    with pytest.raises(ShapeError, match="pcm"):
        graphs.score(features | {"pcm": inputs["pcm"][:-1]})
    with pytest.raises(ShapeError, match="face_features"):
        graphs.score(features | {"pcm": inputs["pcm"], "face_features": features["face_features"][:49]})


def test_a_backend_that_is_not_there_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    only = open_bundle(write_bundle(tmp_path / "only", backends=("onnx",)))
    with pytest.raises(ConfigError, match=r"no graphs for tflite(.|\n)*--format tflite"):
        open_backend(only, "tflite")
    assert open_backend(only).name == "onnx"
    assert open_backend(tiny_bundle).name == "tflite"


@pytest.mark.parametrize(
    ("backend", "change"),
    [
        ("tflite", {"tensor": "args_7"}),
        ("tflite", {"shape": [1, 64, 64, 3]}),
        ("tflite", {"dtype": "float32"}),
        ("onnx", {"tensor": "nose"}),
        ("onnx", {"shape": [1, 64, 64, 3]}),
        ("onnx", {"dtype": "float32"}),
    ],
)
def test_graph_and_manifest_must_agree(tmp_path: Path, backend: Any, change: dict[str, Any]) -> None:
    from tests.runtime.test_bundle import edit

    folder = write_bundle(tmp_path / "other")
    edit(folder, lambda d: d["backends"][backend]["encode"]["inputs"][0].update(change))
    with pytest.raises(BundleError, match=r"encode|model.tflite"):
        open_backend(open_bundle(folder), backend)


@pytest.mark.parametrize("backend", ["tflite", "onnx"])
def test_a_file_that_is_no_graph_is_refused(own_folder: Path, backend: Any) -> None:
    from tests.runtime.bundles import reseal

    for name in ("model.tflite", "score.onnx"):
        (own_folder / name).write_bytes(b"no graph at all, but hashed")
    reseal(own_folder)
    with pytest.raises(BundleError, match=r"is not a \.tflite file|cannot be loaded"):
        open_backend(open_bundle(own_folder), backend)


@pytest.mark.parametrize("location", ["weights.bin", "../{folder}/weights.bin", "{path}/weights.bin"])
def test_an_onnx_reads_no_file_beside_it(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    import onnx

    from tests.runtime.bundles import reseal

    model = onnx.load(own_folder / "score.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: tensor.ByteSize())
    (tmp_path / "weights.bin").write_bytes(onnx.numpy_helper.to_array(weights).tobytes())
    onnx.external_data_helper.set_external_data(weights, location.format(folder=tmp_path.name, path=tmp_path))
    weights.ClearField("raw_data")
    (own_folder / "score.onnx").write_bytes(model.SerializeToString())
    reseal(own_folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"score\.onnx cannot be loaded(.|\n)*External data path"):
        open_backend(open_bundle(own_folder), "onnx")


def entry(dtype: str, *, scale: float = 1.0, zero_point: int = 0) -> TensorEntry:
    return TensorEntry(
        name="face",
        tensor="t",
        shape=(1, 1, 256, 1),
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,  # type: ignore[arg-type]
    )


LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (entry("float32"), LEVELS / np.float32(255)),
        (entry("uint8"), LEVELS),
        (entry("uint8", scale=1 / 255), LEVELS),
        # int8 with scale 1/255 and zero point -128: level v is stored as v - 128.
        (entry("int8", scale=1 / 255, zero_point=-128), (LEVELS.astype(int) - 128).astype(np.int8)),
        # The converter writes float32(1/255).
        (entry("int8", scale=0.003921568859368563, zero_point=-128), (LEVELS.astype(int) - 128).astype(np.int8)),
        # Twice as coarse: level 255 is real 1, stored round(127.5) - 128.
        (entry("int8", scale=2 / 255, zero_point=-128), (np.rint(LEVELS / 2) - 128).astype(np.int8)),
    ],
)
def test_grey_levels_become_the_graphs_type(kind: TensorEntry, stored: np.ndarray) -> None:
    made = picture_to_graph(LEVELS, kind, picture_table(kind))
    assert made.dtype == np.dtype(kind.dtype)
    assert np.array_equal(made, stored.astype(kind.dtype))


def test_quantized_features_go_there_and_back() -> None:
    kind = entry("int8", scale=0.05, zero_point=10)
    real = np.array([-10.0, -6.9, 0.0, 0.024, 0.026, 5.85, 99.0], np.float32)
    stored = to_graph(real, kind)
    # round(real / 0.05) + 10, clipped to [-128, 127].
    assert stored.tolist() == [-128, -128, 10, 10, 11, 127, 127]
    assert np.allclose(from_graph(stored, kind), [-6.9, -6.9, 0, 0, 0.05, 5.85, 5.85], atol=1e-6)
