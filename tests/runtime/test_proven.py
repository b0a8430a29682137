"""Runtimes that are older than a bundle was proven on are refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dfkit.errors import BundleError
from dfkit.runtime import proven
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.proven import refuse_older, version_numbers
from dfkit.runtime.tensorflow_replay import TensorflowGraphs


def asking(folder: Path, **runtimes: str) -> Path:
    """A bundle that names other smallest versions; `ai_edge_litert` stands for ai-edge-litert."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for backend in manifest["backends"].values():
        backend["runtimes"] = {name.replace("_", "-"): version for name, version in runtimes.items()}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_an_older_runtime_is_refused_by_name(own_folder: Path) -> None:
    bundle = open_bundle(asking(own_folder, ai_edge_litert="99.1", onnxruntime="98.0.2"))
    for name, told in (
        ("tflite", r"found ai-edge-litert 2\.\S+, this bundle is proven from 99\.1 on"),
        ("onnx", r"found onnxruntime 1\.\S+, this bundle is proven from 98\.0\.2 on"),
    ):
        with pytest.raises(BundleError, match=told) as caught:
            open_backend(bundle, name)
        assert "pip install" in str(caught.value)


def test_the_runtimes_of_today_open_a_bundle(own_folder: Path) -> None:
    bundle = open_bundle(asking(own_folder, ai_edge_litert="2.3.0", onnxruntime="1.15.1"))
    for name in ("tflite", "onnx"):
        assert open_backend(bundle, name).name == name


def test_the_command_names_the_older_runtime(own_folder: Path) -> None:
    bundle = asking(own_folder, ai_edge_litert="99.1")
    call = [sys.executable, "-m", "dfkit", "predict", "clip.mp4", "--bundle", str(bundle)]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "proven from 99.1 on" in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_each_interpreter_is_known_by_its_own_package(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_bundle(asking(own_folder, tensorflow="2.21.0")).manifest.backends["tflite"]
    monkeypatch.setattr(proven, "installed_version", lambda package: {"tensorflow": "2.18.1"}[package])
    with pytest.raises(BundleError, match=r"found tensorflow 2\.18\.1, this bundle is proven from 2\.21\.0 on"):
        refuse_older(backend, TensorflowGraphs.package, where="x")
    refuse_older(backend, "ai-edge-litert", where="x")  # the bundle says nothing of it


def test_another_distribution_of_a_runtime_says_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise proven.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(proven.metadata, "version", missing)
    assert proven.installed_version("onnxruntime").startswith("1.")


def test_versions_are_compared_as_numbers() -> None:
    assert version_numbers("1.15.1") < version_numbers("1.32.0") < version_numbers("2.3")
    assert version_numbers("2.21.0rc1") == version_numbers("2.21") == (2, 21, 0)
    assert version_numbers("2.3.0.dev20251031") == (2, 3, 0)
