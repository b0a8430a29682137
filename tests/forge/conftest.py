"""One small forging run that several tests look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dfkit.forge import ForgeConfig, ForgeSource, ForgeSummary, forge
from dfkit.forge.footage import Footage, load_footage
from dfkit.media.faces import FaceModels
from dfkit.synthetic.heads import make_heads
from tests.forge.stand_in_voice import make_package
from tools.forge.sheet import Pair, read_pairs

SECONDS = 2.4


@dataclass(frozen=True)
class Forged:
    """A finished run of all methods that need no package on two synthetic heads."""

    sources: list[ForgeSource]
    config: ForgeConfig
    out_dir: Path
    summary: ForgeSummary

    @property
    def entries(self) -> list[dict[str, Any]]:
        lines = (self.out_dir / "forged.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    @property
    def pairs(self) -> list[Pair]:
        return read_pairs(self.out_dir)


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_heads(tmp_path_factory.mktemp("sources"), num_speakers=2, seconds=SECONDS, seed=3)


@pytest.fixture(scope="session")
def forged(heads: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Forged:
    sources = [ForgeSource(path, path.stem.split("-")[0], 0) for path in heads]
    config = ForgeConfig(seed=5)
    out_dir = tmp_path_factory.mktemp("forged")
    return Forged(sources, config, out_dir, forge(sources, out_dir, config))


@pytest.fixture(scope="session")
def voice_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with a stand-in for the neural voice."""
    folder = tmp_path_factory.mktemp("packages")
    make_package(folder)
    return folder


@pytest.fixture
def stand_in_voice(voice_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in as the installed voice."""
    monkeypatch.syspath_prepend(str(voice_folder))


@pytest.fixture(scope="session")
def footages(heads: list[Path]) -> list[Footage]:
    models = FaceModels()
    return [load_footage(path, ForgeConfig(), models) for path in heads]
