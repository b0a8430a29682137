"""The runtime installs small and starts quickly: nothing in it may need torch, or load what it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel

from dfkit import clip
from dfkit.measures import decision, familiarity
from dfkit.runtime import contract, golden_index, golden_video, manifest

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


HEAVY = {"numpy", "cv2", "av", "ai_edge_litert", "onnxruntime", "matplotlib", "torch", "tensorflow", "yaml", "rich"}
"""Each takes 10 ms or more to import."""
STARTS: dict[str, tuple[str, set[str], set[str]]] = {
    "the package": ("import dfkit.runtime", {"dfkit.runtime"}, HEAVY | {"pydantic"}),
    "the schema's models": ("import dfkit.runtime.manifest", {"numpy"}, HEAVY - {"numpy"}),
    "a command that is parsed": ("import dfkit.cli", {"typer"}, HEAVY | {"pydantic"}),
    "what commands call": ("import dfkit.pipeline", {"pydantic"}, HEAVY | {"dfkit.config", "dfkit.original"}),
    "a detector": (
        "from dfkit.runtime import Detector",
        {"ai_edge_litert", "cv2", "av"},
        {"onnxruntime", "matplotlib", "torch", "tensorflow", "yaml", "rich", "dfkit.config", "dfkit.pipeline"},
    ),
    "predict": (
        "import dfkit.cli, dfkit.pipeline, dfkit.runtime.predict",
        {"ai_edge_litert", "typer"},
        {"onnxruntime", "matplotlib", "torch", "tensorflow", "yaml", "dfkit.config", "dfkit.original"},
    ),
}
"""What is imported, what of it has to be there, and what must not be."""


@pytest.mark.parametrize("start", STARTS)
def test_a_start_loads_what_it_needs(start: str) -> None:
    """No clock: a package that comes back to a start by an import at the top of some file is named here."""
    program, needed, unneeded = STARTS[start]
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert needed <= loaded
    assert not unneeded & loaded


def test_no_model_reads_its_source_at_import() -> None:
    """pydantic's `use_attribute_docstrings` does: 30 ms of a start; `dfkit.runtime.schema` reads the source instead."""
    for module in (clip, decision, familiarity, contract, manifest, golden_index, golden_video):
        models = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, BaseModel)]
        assert models
        assert not any(model.model_config.get("use_attribute_docstrings") for model in models)
