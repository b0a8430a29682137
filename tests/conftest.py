"""Fixtures for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfkit.files import CACHE_VARIABLE

SHARED = Path(os.environ.get("DFKIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing is written to the user's cache; processes that tests start inherit this one."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


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


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray cluster of two processes on this machine."""
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "dfkit[ray]"')
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
