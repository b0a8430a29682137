"""Fixtures of runtime and benchmarks; the conversion behind them runs once per session."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.runtime.bundle import Bundle, open_bundle
from tests.runtime.bundles import write_bundle


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with TFLite (mixed_int8) and ONNX (fp32) graphs; not to be changed."""
    return write_bundle(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_folder: Path) -> Bundle:
    return open_bundle(tiny_folder)


@pytest.fixture
def own_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "own"))


@pytest.fixture(scope="session")
def talk(shared: Path) -> Path:
    """A speaker of 3 s, 25 fps, 360 x 288."""
    return shared / "clips" / "lipnet-bbaf2n.mpg"


class SpoiltGraphs:
    """A real backend of which some answers are no numbers, as overflowing half floats would make them."""

    def __init__(self, graphs: Any, *, spoilt: range = range(10**9)) -> None:
        self.name, self.recipe, self.num_threads = graphs.name, graphs.recipe, graphs.num_threads
        self._graphs, self._spoilt, self._num_scored = graphs, spoilt, 0

    def encode(self, pictures: Any) -> Any:
        return self._graphs.encode(pictures)

    def score(self, inputs: Any) -> Any:
        frame_logits, clip_logits = self._graphs.score(inputs)
        self._num_scored += 1
        return frame_logits, clip_logits * (np.nan if self._num_scored - 1 in self._spoilt else 1)
