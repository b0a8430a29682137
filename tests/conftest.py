"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("DFKIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def original_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the original implementation with its random weights; not to be changed."""
    from tests.models.original_weights import write_original

    return write_original(tmp_path_factory.mktemp("original") / "fold4.pth")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real clips and the original teacher, which are no part of the project."""
    if SHARED.is_dir():
        return SHARED
    # In CI a missing folder would quietly test less, unless it is said that there is none.
    if os.environ.get("CI") == "true" and os.environ.get("DFKIT_SHARED") != "none":
        pytest.fail(f"{SHARED} is missing. Fix: set DFKIT_SHARED to the folder, or to 'none' to skip these tests")
    pytest.skip(f"{SHARED} is not there; set DFKIT_SHARED to the folder with the real clips")
