"""Optional packages: which extra brings which, and the message where one is not installed."""

from __future__ import annotations

import importlib.util
from typing import Literal

from dfkit.errors import MissingExtraError

Extra = Literal["plot", "train", "export", "ray", "tensorflow", "executorch"]
PACKAGES: dict[Extra, dict[str, str]] = {
    "plot": {"matplotlib": "matplotlib"},
    "train": {
        "torch": "torch",
        "lightning": "lightning",
        "sklearn": "scikit-learn",
        "scipy": "scipy",
        "litdata": "litdata",
        "tensorboard": "tensorboard",
        "boto3": "boto3",
        "filelock": "filelock",
    },
    "export": {
        "litert_torch": "litert-torch",
        "ai_edge_quantizer": "ai-edge-quantizer",
        "onnx": "onnx",
        "onnxscript": "onnxscript",
        "onnxsim": "onnxsim",
        "flatbuffers": "flatbuffers",
    },
    "ray": {"ray": "ray"},
    "tensorflow": {"tensorflow": "tensorflow"},
    "executorch": {"executorch": "executorch"},
}
"""Names under which packages are imported, and installed, by extra."""
CONTAINS: dict[Extra, tuple[Extra, ...]] = {"train": ("plot",), "export": ("train", "plot"), "executorch": ("export",)}
"""Extras that an extra installs, too; as in pyproject.toml."""


def require_extra(extra: Extra) -> None:
    """Asks for every package of an extra, without importing one.

    Raises:
        MissingExtraError: Names the first that is not installed.
    """
    for each in (*CONTAINS.get(extra, ()), extra):
        for name, package in PACKAGES[each].items():
            if not _is_installed(name):
                raise MissingExtraError(package, extra)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """What a failed import means to a user; None where no extra brings that module: it is a fault of ours."""
    root = (error.name or "").split(".")[0]
    for extra, packages in PACKAGES.items():
        if root in packages:
            return MissingExtraError(packages[root], extra)
    return None
