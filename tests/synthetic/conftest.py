"""Synthetic heads that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.synthetic.heads import make_heads

HEAD_SECONDS = 2.0


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_heads(tmp_path_factory.mktemp("heads"), num_speakers=8, seconds=HEAD_SECONDS, seed=0)
