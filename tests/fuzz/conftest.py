from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.fixtures import tiny_folder
from tools.fuzz.material import Material, make_material

__all__ = ["tiny_folder"]


@pytest.fixture(scope="session")
def material(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Whole inputs that the cases damage."""
    return make_material(tmp_path_factory.mktemp("fuzz"), bundle=tiny_folder)
