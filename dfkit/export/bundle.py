"""Writes a bundle: all files into a folder beside the target, then one rename, so that no half bundle is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.errors import DfkitError
from dfkit.runtime.manifest import MANIFEST_FILE, FileEntry, Manifest

GOLDEN_FOLDER = "golden"
CARD_FILE = "MODEL_CARD.md"
# The zip format's first date: the same bundle gives the same bytes.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
PACKAGES = (
    "torch",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxscript",
    "onnxruntime",
)


def file_entry(content: bytes) -> FileEntry:
    """Size and hash of a file's content."""
    return FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def face_model_entries() -> dict[str, FileEntry]:
    """The face models that the runtime has to run, as shipped with dfkit."""
    from dfkit.media.faces import MODEL_FOLDER, MODEL_SHA256

    return {
        name: FileEntry(bytes=(MODEL_FOLDER / name).stat().st_size, sha256=digest)
        for name, digest in sorted(MODEL_SHA256.items())
    }


def versions() -> dict[str, str]:
    """Versions of the packages that make a bundle."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or `parent/name-2` and on where that exists: nothing is overwritten."""
    path, number = parent / name, 1
    while path.exists() or path.with_name(f"{path.name}.zip").exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path


def write_bundle(target: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Writes a folder and the same as .zip beside it.

    Args:
        target: Folder that does not exist yet.
        files: Content by path relative to the folder, without the manifest.
        manifest: Names exactly these files.
    Raises:
        DfkitError: The disk is full or not writable; nothing is left behind.
    """
    assert set(files) == set(manifest.files)
    content = {**files, MANIFEST_FILE: manifest.model_dump_json(indent=2).encode()}
    partial = target.with_name(f".{target.name}.partial")
    archive = target.with_name(f"{target.name}.zip")
    partial_archive = target.with_name(f".{target.name}.zip.partial")
    try:
        partial.mkdir(parents=True)
        for name, data in sorted(content.items()):
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with zipfile.ZipFile(partial_archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in sorted(content.items()):
                file.writestr(zipfile.ZipInfo(name, ZIP_DATE), data, zipfile.ZIP_DEFLATED)
        partial_archive.replace(archive)
        partial.replace(target)
    except OSError as error:
        archive.unlink(missing_ok=True)
        raise DfkitError(
            f"{target}: the bundle could not be written ({error.strerror}); nothing was left behind",
            fix="free space or choose another --out",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        partial_archive.unlink(missing_ok=True)


class GoldenWriter:
    """Collects golden vectors as little-endian .bin files with a JSON index, readable without Python."""

    def __init__(self, tolerance: dict[str, dict[str, float]]) -> None:
        """Starts with the largest difference allowed per backend to `features` and `logits`."""
        self.index: dict[str, Any] = {
            "schema_version": 1,
            "backends": {name: {"tolerance": limits} for name, limits in tolerance.items()},
            "encode": [],
            "score": [],
        }
        self.files: dict[str, bytes] = {}

    def _store(self, name: str, array: np.ndarray) -> dict[str, Any]:
        file = f"{name}.bin"
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        self.files[f"{GOLDEN_FOLDER}/{file}"] = little.tobytes()
        return {"file": file, "shape": list(array.shape), "dtype": array.dtype.name}

    def add(
        self,
        part: str,
        name: str,
        inputs: dict[str, np.ndarray],
        outputs: dict[str, dict[str, np.ndarray]],
    ) -> None:
        """Adds one case of `encode` or `score`: inputs by name, outputs by backend and name."""
        stem = f"{part}_{len(self.index[part])}"
        self.index[part].append(
            {
                "name": name,
                "inputs": {key: self._store(f"{stem}_{key}", value) for key, value in inputs.items()},
                "outputs": {
                    backend: {key: self._store(f"{stem}_{backend}_{key}", value) for key, value in values.items()}
                    for backend, values in outputs.items()
                },
            }
        )

    def content(self) -> dict[str, bytes]:
        """All files, the index among them."""
        return {**self.files, f"{GOLDEN_FOLDER}/golden.json": json.dumps(self.index, indent=1).encode()}
