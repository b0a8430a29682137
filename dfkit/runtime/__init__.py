"""Runs a bundle on files and streams: no torch, no training code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfkit.runtime.bundle import open_bundle
    from dfkit.runtime.detector import Detector

__all__ = ["Detector", "open_bundle"]
_PLACES = {"Detector": "dfkit.runtime.detector", "open_bundle": "dfkit.runtime.bundle"}


def __getattr__(name: str) -> Any:
    # On first use: whoever needs only the manifest's schema is spared OpenCV, PyAV and the interpreters.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
