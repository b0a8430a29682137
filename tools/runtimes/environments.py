"""Environments with one runtime each, made once and kept in dfkit's cache folder.

A runtime cannot be tried in the environment of another: dfkit's own has one version of each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from dfkit.errors import DfkitError
from dfkit.files import cache_folder, whole_folder

INSTALL_TIMEOUT_S = 1200
KEPT = cache_folder("runtimes")
"""Where they lie."""


@dataclass(frozen=True)
class Runtime:
    """One version of one runtime."""

    package: str
    version: str
    backend: Literal["tflite", "onnx"]
    beside: str = "numpy"
    """The numpy it was built for, where it is not the newest."""

    @property
    def name(self) -> str:
        """As pip names it."""
        return f"{self.package}=={self.version}"

    @property
    def module(self) -> str:
        """The name that a program imports."""
        return self.package.replace("-", "_")


LITERT = (
    Runtime("ai-edge-litert", "2.3.0", "tflite"),
    Runtime("ai-edge-litert", "2.1.6", "tflite"),
    Runtime("ai-edge-litert", "1.4.0", "tflite"),
    Runtime("ai-edge-litert", "1.0.1", "tflite", "numpy<2"),
)
TENSORFLOW = Runtime("tensorflow", "2.21.0", "tflite")
OLD_TENSORFLOW = Runtime("tensorflow", "2.16.2", "tflite", "numpy<2")
ONNX_RUNTIME = (Runtime("onnxruntime", "1.32.0", "onnx"), Runtime("onnxruntime", "1.15.1", "onnx", "numpy<2"))
INFORMATION = (Runtime("tflite-runtime", "2.14.0", "tflite", "numpy<2"),)
"""Tried as well; what they say fails nothing."""
MATRIX = (*LITERT, TENSORFLOW, OLD_TENSORFLOW, *ONNX_RUNTIME)
"""Newest, older, and the smallest that `dfkit.runtime.proven` names."""


def interpreter_of(runtime: Runtime) -> Path:
    """Python of an environment with that runtime; made, if it is not there yet.

    Args:
        runtime: Where dfkit's own environment has that version of TensorFlow, it is taken: it is large.
    Raises:
        DfkitError: It could not be installed.
    """
    if runtime == TENSORFLOW and _is_here(runtime):
        return Path(sys.executable)
    folder = KEPT / f"{runtime.package}-{runtime.version}"
    if not folder.exists():
        try:
            # Under its own name only when it is whole; of two that make it at once, the first wins.
            with whole_folder(folder) as unfinished:
                _install(runtime, unfinished)
        except FileExistsError:
            pass
    python = _python_in(folder)
    if _run(python, "-c", f"import numpy, {runtime.module}").returncode:
        raise DfkitError(f"{folder}: {runtime.name} cannot be imported there", fix=f"delete {folder} and try again")
    return python


def _is_here(runtime: Runtime) -> bool:
    try:
        return metadata.version(runtime.package) == runtime.version
    except metadata.PackageNotFoundError:
        return False


def _install(runtime: Runtime, folder: Path) -> None:
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    done = _run(_python_in(folder), "-m", "pip", "install", "--quiet", runtime.name, runtime.beside)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise DfkitError(
            f"{runtime.name} could not be installed: {' '.join(last)}",
            fix="look at the network and at the version of Python, of which it may have no wheel",
        )


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
    )
