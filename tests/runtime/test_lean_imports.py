"""The runtime installs small: nothing in it may need torch."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = ("torch", "lightning", "tensorflow", "litdata", "librosa", "sklearn", "onnx", "litert_torch")
PROGRAM = """
import importlib, pkgutil, sys
for name in {blocked!r}:
    sys.modules[name] = None  # makes every import of it fail
import dfkit.clip
count = 0
for package in ("dfkit.runtime", "dfkit.benchmarks", "dfkit.media"):
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, package + "."):
        importlib.import_module(module.name)
        count += 1
from dfkit.runtime import Detector, open_bundle
print(count, "matplotlib" in sys.modules, "onnxruntime" in sys.modules)
"""


def test_runtime_benchmarks_and_media_import_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(blocked=BLOCKED)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    count, has_matplotlib, has_onnxruntime = done.stdout.split()
    # 10 modules of runtime, 14 of benchmarks, more than 10 of media: the walk found them.
    assert int(count) > 30
    assert (has_matplotlib, has_onnxruntime) == ("False", "False")
