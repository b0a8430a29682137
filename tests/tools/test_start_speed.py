"""The tool that measures starts and pictures per call, on the tiny bundle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.runtime.bundle import Bundle
from tests.runtime.fixtures import tiny_bundle, tiny_folder
from tools.speed import encode_batches, start_speed

__all__ = ["tiny_bundle", "tiny_folder"]


def test_every_phase_of_a_start_is_there(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "tools.speed.start_speed", str(tiny_folder), "--backend", "onnx", "--repeats", "1"]
    done = subprocess.run(
        command, cwd=start_speed.HERE, capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    assert len(done) == 1 and done[0].startswith(f"{start_speed.HERE}; python ")
    times = {name: float(ms) for name, ms in re.findall(r"; ([a-z_ ]+) ([\d.]+) \(", done[0])}
    assert list(times)[1:4] == ["imports", "open_bundle", "import onnxruntime"]
    assert times.pop("all") == pytest.approx(sum(times.values()), abs=0.5)


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_features_of_several_pictures_are_those_of_one(tiny_bundle: Bundle, name: Any) -> None:
    line = encode_batches.measure(tiny_bundle, name, 1, rounds=1)
    sizes = "1: .*, 2: .*, 3: .*, 5" if name == "onnx" else "1"
    assert re.fullmatch(rf"{name}, 1 threads: {sizes}: [\d.]+ \([\d.]+\); bit-equal", line)


def test_features_that_depend_on_their_neighbours_are_said(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encode_batches.load_graphs

    def load(*args: Any, **options: Any) -> Any:
        graphs = real(*args, **options)
        encode = graphs.encode
        monkeypatch.setattr(graphs, "encode", lambda pictures: mixed(encode(pictures)))
        return graphs

    def mixed(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key: values - values.mean(axis=0) for key, values in features.items()}

    monkeypatch.setattr(encode_batches, "load_graphs", load)
    assert encode_batches.measure(tiny_bundle, "onnx", 1, rounds=1).endswith("NOT EQUAL")
