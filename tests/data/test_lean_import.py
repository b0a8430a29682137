"""Labels, catalogs and splits are read by commands that never train: they load neither torch nor litdata."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "dfkit.data.labels",
    "dfkit.data.layouts",
    "dfkit.data.npz",
    "dfkit.data.prepare",
    "dfkit.data.splits",
    "dfkit.data.storage",
    "dfkit.workspace",
)
HEAVY = ("torch", "litdata", "sklearn", "boto3", "ray", "rich", "dfkit.media.faces")


@pytest.mark.parametrize("module", MODULES)
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
