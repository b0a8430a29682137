"""TensorFlow's interpreter and ai-edge-litert on the same files and inputs, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dfkit.errors import MissingExtraError
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.recipes import recipe_named
from dfkit.models import MMMSBA
from dfkit.runtime import tensorflow_replay
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.tensorflow_replay import QUIET, TensorflowGraphs, replay_with_tensorflow
from tests.export import tiny

CHILD = """
import sys
from pathlib import Path
import numpy as np
from dfkit.runtime.manifest import Backend
from dfkit.runtime.tensorflow_replay import TensorflowGraphs
folder = Path(sys.argv[1])
backend = Backend.model_validate_json((folder / "backend.json").read_bytes())
model = (folder / "model.tflite").read_bytes()
graphs = TensorflowGraphs(backend, {"model.tflite": model}, num_threads=1, where="test")
with np.load(folder / "inputs.npz") as stored:
    clip = dict(stored)
features = graphs.encode(clip)
frame, value = graphs.score({**features, **clip})
np.savez(folder / "outputs.npz", frame=frame, clip=value, **features)
print("ai_edge_litert" in sys.modules, "tensorflow" in sys.modules)
"""
# Float sums of another order; INT8 kernels of two builds may round a product the other way.
TOLERANCE = {"fp32": 1e-5, "mixed_int8": 0.02}


@pytest.fixture(scope="module")
def network() -> MMMSBA:
    return tiny.tiny_network()


@pytest.fixture(scope="module")
def plain(network: MMMSBA) -> bytes:
    return tflite.convert(network, tiny.SPEC)


@pytest.mark.parametrize("recipe", ["fp32", "mixed_int8"])
def test_two_interpreters_agree(network: MMMSBA, plain: bytes, tmp_path: Path, recipe: str) -> None:
    clip = tiny.tiny_clip()
    model = compact(tflite.quantize(plain, recipe_named(recipe), network, tiny.SPEC, [clip]))
    backend = tflite.describe(model, network, tiny.SPEC, recipe)
    (tmp_path / "model.tflite").write_bytes(model)
    (tmp_path / "backend.json").write_text(backend.model_dump_json())
    np.savez(tmp_path / "inputs.npz", **clip)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **QUIET},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True"]
    graphs = TfliteGraphs(backend, {"model.tflite": model}, num_threads=1, where="test")
    features = graphs.encode(clip)
    frame, value = graphs.score({**features, **clip})
    with np.load(tmp_path / "outputs.npz") as stored:
        found = dict(stored)
    for name, expected in {"frame": frame, "clip": value, **features}.items():
        assert found[name].shape == expected.shape
        difference = float(np.abs(found[name] - expected).max())
        print(f"{recipe} {name}: {difference:.3g}")
        assert difference <= TOLERANCE[recipe] * max(1.0, float(np.abs(expected).max()))
    assert np.ptp(frame) > 1e-3


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorflow_replay, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"dfkit\[tensorflow\]"):
        replay_with_tensorflow(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"dfkit\[tensorflow\]"):
        TensorflowGraphs.interpreter_class()
