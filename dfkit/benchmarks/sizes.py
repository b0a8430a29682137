"""Sizes in decimal MB: the model, everything that a phone needs to decide, the bundle."""

from __future__ import annotations

from dataclasses import dataclass

from dfkit.runtime.bundle import Bundle
from dfkit.runtime.manifest import Backend

BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class Sizes:
    """Sizes of a bundle and of its parts, in MB of 10^6 bytes."""

    model_mb: dict[str, float]
    """By backend: its graphs."""
    manifest_mb: float
    face_models_mb: dict[str, float]
    phone_mb: dict[str, float]
    """By backend: graphs, manifest and face models."""
    bundle_mb: float
    """All of the bundle's files: every backend, golden vectors, face models, card."""


def graph_files(backend: Backend) -> set[str]:
    """Names of the files that hold a backend's graphs."""
    return {signature.file for signature in (backend.encode, backend.score) if signature is not None}


def measure_sizes(bundle: Bundle) -> Sizes:
    """Adds up the sizes of a verified bundle, from the manifest's entries."""
    manifest = bundle.manifest
    model_mb = {
        name: sum(manifest.files[file].bytes for file in graph_files(backend)) / BYTES_PER_MB
        for name, backend in manifest.backends.items()
    }
    manifest_mb = bundle.manifest_bytes / BYTES_PER_MB
    face_models_mb = {name: entry.bytes / BYTES_PER_MB for name, entry in manifest.face_models.items()}
    return Sizes(
        model_mb={str(name): size for name, size in model_mb.items()},
        manifest_mb=manifest_mb,
        face_models_mb=face_models_mb,
        phone_mb={str(name): size + manifest_mb + sum(face_models_mb.values()) for name, size in model_mb.items()},
        bundle_mb=bundle.bundle_bytes / BYTES_PER_MB,
    )
