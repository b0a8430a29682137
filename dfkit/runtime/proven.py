"""The smallest version of each runtime that answers as the golden vectors say.

`make runtimes` proves it: every golden case in 30 interpreters of one process, in random order, three times, for these
versions and the newest. A bundle carries the versions, and an older runtime is refused by name when one is loaded.
"""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from typing import Literal

from dfkit.errors import BundleError
from dfkit.runtime.manifest import Backend

SMALLEST: dict[Literal["tflite", "onnx"], dict[str, str]] = {
    "tflite": {"ai-edge-litert": "1.0.1", "tensorflow": "2.16.2"},
    "onnx": {"onnxruntime": "1.15.1"},
}
"""By backend and package; older ones were not tried, but for tflite-runtime 2.14, whose logits are off by 5.
onnxruntime 1.15 is the oldest with a wheel for Python 3.11."""
MODULES = {"ai-edge-litert": "ai_edge_litert", "tensorflow": "tensorflow", "onnxruntime": "onnxruntime"}


def refuse_older(backend: Backend, package: str, *, where: str) -> None:
    """Refuses a runtime that is older than the bundle was proven on.

    Args:
        backend: The manifest's entry; one of an older bundle names no versions, and nothing is refused.
        package: Name of the installed package that is to run it.
        where: Named in errors.
    Raises:
        BundleError: The installed version is older, or cannot be told.
    """
    smallest = backend.runtimes.get(package)
    if smallest is None:
        return
    found = installed_version(package)
    if version_numbers(found) < version_numbers(smallest):
        raise BundleError(
            f"{where}: found {package} {found}, this bundle is proven from {smallest} on",
            fix=f'pip install "{package}>={smallest}"',
        )


def installed_version(package: str) -> str:
    """Version of a runtime that can be imported, which another distribution may have brought (onnxruntime-gpu).

    Raises:
        BundleError: It does not say.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        found = getattr(importlib.import_module(MODULES[package]), "__version__", None)
    if not isinstance(found, str):
        raise BundleError(f"the installed {package} does not say its version", fix=f"pip install {package}")
    return found


def version_numbers(version: str) -> tuple[int, ...]:
    """Major, minor and patch: `2.21.0rc1` is (2, 21, 0)."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return (*numbers, *[0] * (3 - len(numbers)))
