"""Writes a bundle: all files into a folder beside the target, then one rename, so that no half bundle is found."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from dfkit.clip import FaceVariant
from dfkit.errors import DfkitError
from dfkit.export.compact import embed
from dfkit.files import whole_file, whole_folder
from dfkit.runtime.bundle import FACES_FOLDER
from dfkit.runtime.manifest import MANIFEST_FILE, Manifest
from dfkit.runtime.tflite_file import MANIFEST_ENTRY

CARD_FILE = "MODEL_CARD.md"
REFERENCE_SUFFIX = ".reference"
# The zip format's first date: the same bundle gives the same bytes.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
ZIP_UNIX = 3
PACKAGES = (
    "torch",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxscript",
    "onnxruntime",
)


def face_model_files(variant: FaceVariant) -> dict[str, bytes]:
    """The face models with their licence: a bundle is used without dfkit, too."""
    from dfkit.media.faces import MODEL_FOLDER, VARIANTS

    names = [*VARIANTS[variant], "LICENSE"]
    return {f"{FACES_FOLDER}/{name}": (MODEL_FOLDER / name).read_bytes() for name in names}


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
    while any(path.with_name(f"{path.name}{suffix}").exists() for suffix in ("", ".zip", REFERENCE_SUFFIX)):
        number += 1
        path = parent / f"{name}-{number}"
    return path


def with_manifest(graphs: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    """Graph files with the manifest in each .tflite's metadata, so that a lone file explains itself.

    The copy has no `files`, for a file cannot hold its own hash, and no `metrics`: they grow with the groups of the
    data, name them, and no runtime asks for them.
    """
    copy = manifest.model_copy(update={"files": {}, "metrics": {}}).model_dump_json().encode()
    return {
        name: embed(content, MANIFEST_ENTRY, copy) if name.endswith(".tflite") else content
        for name, content in graphs.items()
    }


def keep_log(folder: Path, name: str, log: str) -> Path | None:
    """Writes what a failed converter said to `<name>.log`, or `<name>-2.log` and on; None where it cannot be."""
    path, number = folder / f"{name}.log", 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(log, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path


@contextmanager
def full_disk_named(target: Path) -> Iterator[None]:
    """Turns a failed write within into an error that names the bundle.

    Raises:
        DfkitError: The disk is full or not writable.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise DfkitError(
            f"{target}: the bundle could not be written ({error.strerror}); nothing was left behind",
            fix="free space or choose another --workspace",
        ) from error


def write_bundle(target: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Writes a folder and the same as .zip beside it.

    Args:
        target: Folder that does not exist yet.
        files: Content by path relative to the folder, without the manifest.
        manifest: Names exactly these files.
    Raises:
        DfkitError: The disk is full or not writable; nothing is left behind.
        FileExistsError: Another export wrote a bundle of that name meanwhile.
    """
    assert set(files) == set(manifest.files)
    content = {**files, MANIFEST_FILE: manifest.model_dump_json(indent=2).encode()}
    archive = target.with_name(f"{target.name}.zip")
    # The folder gets its name first: of two writers of one name, one fails there and leaves no archive.
    with full_disk_named(target), whole_file(archive) as new_archive, whole_folder(target) as folder:
        for name, data in sorted(content.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        write_archive(new_archive, content)


def write_archive(path: Path, content: Mapping[str, bytes]) -> None:
    """A .zip whose bytes depend on nothing but names and content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            # ZipInfo notes the system it is made on.
            entry.create_system, entry.external_attr = ZIP_UNIX, 0o644 << 16
            file.writestr(entry, data, zipfile.ZIP_DEFLATED)
