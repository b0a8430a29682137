"""Opens a bundle, from a folder or a .zip, and uses nothing in it before its hash is verified.

Order: manifest, schema, every file's presence, size and SHA-256, then the face models that this installation
ships. Only then may a graph be loaded, and `Bundle.read` hashes again what it hands out.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from dfkit.clip import SCHEMA_VERSION, ClipSpec, FaceVariant
from dfkit.errors import NOT_JSON, BundleError, one_line
from dfkit.named_inputs import require_bundle
from dfkit.runtime.manifest import (
    MANIFEST_FILE,
    MANIFEST_VERSION,
    FaceModelEntry,
    FileEntry,
    Manifest,
    Signature,
    validation_faults,
)

if TYPE_CHECKING:
    from dfkit.media.faces import FaceModels

FACES_FOLDER = "face_models"
"""Of the bundle, with the face models and their licence."""
FIX_COPY = "copy the bundle again from where it was exported, or run dfkit export anew"
IGNORED_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers leave in every folder; `__MACOSX/` in archives likewise. Never read."""
MAX_MANIFEST_BYTES = 16_000_000
"""Room for 100,000 calibration clips of 160 bytes each."""
MAX_BUNDLE_BYTES = 500_000_000
"""All files together, unpacked. The original network has 12 MB in float32 and a golden clip's pictures 9: far more is
an archive made to fill the memory."""
PACKED_HOW = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Only of these the library unpacks no more than is asked for."""
DAMAGED = (OSError, ValueError, EOFError, OverflowError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What the library raises on changed bytes: wrong CRCs, broken streams and names, places outside of the file, and
versions and methods that do not exist."""
_PIECE_BYTES = 1_000_000
INPUT_NAMES = {
    "encode": frozenset({"face", "lip"}),
    "score": frozenset({"face_features", "lip_features", "pcm", "mfcc", "landmarks"}),
}
OUTPUT_NAMES = {
    "encode": frozenset({"face_features", "lip_features"}),
    "score": frozenset({"frame_logits", "clip_logits"}),
}


class FileSource(Protocol):
    """Files of a bundle, by name, wherever they lie."""

    def names(self) -> list[str]:
        """Files, as paths with `/` relative to the manifest."""
        ...

    def size(self, name: str) -> int:
        """Bytes of one file as its folder or archive states them, without reading it."""
        ...

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Content of one file; a BundleError where it cannot be read or has more bytes than that."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """Files of a bundle that lies as a folder."""

    folder: Path

    def names(self) -> list[str]:
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())

    def size(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except OSError as error:
            raise BundleError(f"{self.folder / name} cannot be read: {error.strerror}", fix=FIX_COPY) from error

    def read(self, name: str, *, max_bytes: int) -> bytes:
        try:
            with (self.folder / name).open("rb") as file:
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise BundleError(f"{self.folder / name} cannot be read: {error.strerror}", fix=FIX_COPY) from error
        return _within(content, max_bytes, str(self.folder / name))


@dataclass(frozen=True)
class ZipSource:
    """A bundle as an archive, manifest at its top or in its one folder. Nothing is unpacked to disk."""

    path: Path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except DAMAGED as error:
            raise BundleError(f"{self.path} is not a readable .zip: {error}", fix=FIX_COPY) from error

    @cached_property
    def _prefix(self) -> str:
        names = self._archive.namelist()
        if MANIFEST_FILE in names:
            return ""
        nested = [n for n in names if n.count("/") == 1 and n.endswith(f"/{MANIFEST_FILE}") and "__MACOSX" not in n]
        return nested[0][: -len(MANIFEST_FILE)] if len(nested) == 1 else ""

    def names(self) -> list[str]:
        files = [n for n in self._archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
        return sorted(n[len(self._prefix) :] if n.startswith(self._prefix) else f"../{n}" for n in files)

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._archive.getinfo(self._prefix + name)
        except KeyError as error:
            raise BundleError(f"{name} in {self.path} cannot be read: {error}", fix=FIX_COPY) from error

    def size(self, name: str) -> int:
        return self._info(name).file_size

    def read(self, name: str, *, max_bytes: int) -> bytes:
        info = self._info(name)
        if info.compress_type not in PACKED_HOW:
            raise BundleError(
                f"{name} in {self.path} is packed by method {info.compress_type}", fix="pack it as an ordinary .zip"
            )
        try:
            with self._archive.open(info) as file:
                content = bytearray()
                # In pieces: asked for all, the library would unpack all before it looks at the stated size.
                while len(content) <= max_bytes and (piece := file.read(_PIECE_BYTES)):
                    content += piece
        except DAMAGED as error:
            raise BundleError(f"{name} in {self.path} cannot be read: {error}", fix=FIX_COPY) from error
        return _within(bytes(content), max_bytes, f"{name} in {self.path}")


def _within(content: bytes, max_bytes: int, name: str) -> bytes:
    if len(content) > max_bytes:
        raise BundleError(f"{name} has more than the {max_bytes} bytes that are expected", fix=FIX_COPY)
    return content


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were verified against its manifest."""

    path: Path
    manifest: Manifest
    source: FileSource = field(repr=False)

    def read(self, name: str) -> bytes:
        """Content of a file, hashed again: what is loaded is what was verified.

        Raises:
            BundleError: Not in the manifest, or changed since the bundle was opened.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"bundle {self.path}: '{name}' is not listed in {MANIFEST_FILE}", fix=FIX_COPY)
        content = self.source.read(name, max_bytes=entry.bytes)
        problem = _file_problem(name, content, entry)
        if problem:
            raise BundleError(f"bundle {self.path}: {problem}", fix=FIX_COPY)
        return content

    @property
    def manifest_bytes(self) -> int:
        """Size of the manifest."""
        return self.source.size(MANIFEST_FILE)

    @property
    def bundle_bytes(self) -> int:
        """Size of all files and the manifest, in bytes."""
        return sum(entry.bytes for entry in self.manifest.files.values()) + self.manifest_bytes


def open_bundle(path: str | Path) -> Bundle:
    """Opens and verifies a bundle; loads no graph.

    Args:
        path: Folder with a manifest.json, or a .zip of one.
    Returns:
        The bundle.
    Raises:
        BundleError: Missing, foreign, newer than this dfkit, changed, incomplete, with files that the
            manifest does not know, or made for other face models. All changed files are named at once.
    """
    path = Path(path)
    source = _source_of(path)
    manifest = _read_manifest(path, source)
    problems = [*_file_problems(source, manifest), *_graph_problems(manifest)]
    if problems:
        raise BundleError("\n  ".join([f"bundle {path} cannot be used:", *problems]), fix=FIX_COPY)
    _check_face_models(path, manifest)
    return Bundle(path, manifest, source)


def _source_of(path: Path) -> FileSource:
    require_bundle(path)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return ZipSource(path)
    raise BundleError(f"no bundle at {path}", fix="name a bundle folder or .zip, or make one with dfkit export")


def _read_manifest(path: Path, source: FileSource) -> Manifest:
    if MANIFEST_FILE not in source.names():
        raise BundleError(f"{path} holds no {MANIFEST_FILE}", fix="name the folder that dfkit export wrote")
    content = source.read(MANIFEST_FILE, max_bytes=MAX_MANIFEST_BYTES)
    try:
        data = json.loads(content)
    except NOT_JSON as error:
        raise BundleError(f"{MANIFEST_FILE} in {path} is not JSON: {one_line(error)}", fix=FIX_COPY) from error
    if not isinstance(data, dict):
        raise BundleError(f"{MANIFEST_FILE} in {path} is not a JSON object", fix=FIX_COPY)
    _refuse_newer(path, data)
    _refuse_whole_pictures(path, data)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        faults = [f"{MANIFEST_FILE} in {path} does not follow the schema:", *validation_faults(error)]
        raise BundleError("\n  ".join(faults), fix=FIX_COPY) from error


def _refuse_newer(path: Path, data: dict[str, Any]) -> None:
    spec = data.get("clip_spec")
    spec_version = spec.get("schema_version", 0) if isinstance(spec, dict) else 0
    versions = [
        ("schema_version", data.get("schema_version", MANIFEST_VERSION), MANIFEST_VERSION),
        ("clip_spec.schema_version", spec_version, SCHEMA_VERSION),
    ]
    for key, version, known in versions:
        if isinstance(version, int) and version > known:
            made_by = data.get("dfkit_version", "a newer dfkit")
            raise BundleError(
                f"{MANIFEST_FILE} in {path}: {key} is {version}, this dfkit reads up to {known}",
                fix=f"install the dfkit that made it ({made_by}) or a newer one",
            )


def _refuse_whole_pictures(path: Path, data: dict[str, Any]) -> None:
    """Version 3 states how whole pictures were converted, which is no longer done; earlier ones state nothing."""
    if data.get("schema_version") == 3:
        raise BundleError(
            f"bundle {path} was made for another way of serving (manifest version 3): its crops are cut out of whole "
            "RGB pictures, this dfkit cuts them out of a decoder's planes",
            fix=f"export the checkpoint again, or install dfkit {data.get('dfkit_version', '')} to use it as it is",
        )


def _file_problems(source: FileSource, manifest: Manifest) -> list[str]:
    present = set(source.names())
    problems = []
    total = sum(entry.bytes for entry in manifest.files.values())
    if total > MAX_BUNDLE_BYTES:
        largest = max(manifest.files, key=lambda name: manifest.files[name].bytes)
        return [f"its files have {total} bytes, {MAX_BUNDLE_BYTES} at most; the largest is {largest}"]
    for name, entry in manifest.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
            problems.append(f"files: '{name}' leads out of the bundle")
        elif name not in present:
            problems.append(f"{name} is missing")
        elif source.size(name) != entry.bytes:
            problems.append(_wrong_size(name, source.size(name), entry))
        else:
            problem = _file_problem(name, source.read(name, max_bytes=entry.bytes), entry)
            problems += [problem] if problem else []
    unlisted = sorted(present - set(manifest.files) - {MANIFEST_FILE})
    unknown = [name for name in unlisted if PurePosixPath(name).name not in IGNORED_FILES]
    return [*problems, *(f"{name} is not listed in {MANIFEST_FILE}" for name in unknown)]


def _file_problem(name: str, content: bytes, entry: FileEntry) -> str | None:
    if len(content) != entry.bytes:
        return _wrong_size(name, len(content), entry)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        return f"{name} was changed: SHA-256 {digest}, {MANIFEST_FILE} says {entry.sha256}"
    return None


def _wrong_size(name: str, size: int, entry: FileEntry) -> str:
    return f"{name} has {size} bytes, {MANIFEST_FILE} says {entry.bytes}"


def _graph_problems(manifest: Manifest) -> list[str]:
    """Faults of graphs and operating point that the schema's types cannot express."""
    problems = []
    if not manifest.backends:
        problems.append("backends: none listed")
    for name, backend in manifest.backends.items():
        for part, signature in (("encode", backend.encode), ("score", backend.score)):
            if signature is None:
                continue
            where = f"backends.{name}.{part}"
            if signature.file not in manifest.files:
                problems.append(f"{where}.file: '{signature.file}' is not among the files")
            problems += _unknown_names(f"{where}.inputs", (t.name for t in signature.inputs), INPUT_NAMES[part])
            problems += _unfit_inputs(f"{where}.inputs", signature, manifest.clip_spec)
            problems += _unknown_names(f"{where}.outputs", (t.name for t in signature.outputs), OUTPUT_NAMES[part])
    for model, entry in manifest.face_models.items():
        held = None if entry.file is None else manifest.files.get(entry.file)
        if entry.file is not None and (held is None or held.sha256 != entry.sha256):
            problems.append(f"face_models.{model}.file: '{entry.file}' is not among the files with that hash")
    problems += _familiarity_problems(manifest)
    points = {"operating_point": manifest.operating_point}
    if manifest.decision_muted is not None:
        points["decision_muted.operating_point"] = manifest.decision_muted.operating_point
    for where, point in points.items():
        if not point.review_low <= point.threshold <= point.review_high:
            problems.append(
                f"{where}: review_low {point.review_low} <= threshold {point.threshold} "
                f"<= review_high {point.review_high} does not hold"
            )
    return problems


def _familiarity_problems(manifest: Manifest) -> list[str]:
    """Faults of the section `familiarity`: other names or sizes than those of the features."""
    found = manifest.familiarity
    if found is None:
        return []
    if (found.max_distance is None) != (not found.spreads):
        return ["familiarity: max_distance without spreads, or spreads without max_distance"]
    problems = []
    for backend, graphs in manifest.backends.items():
        sizes = {} if graphs.encode is None else {entry.name: entry.shape[-1] for entry in graphs.encode.outputs}
        for name, spread in found.spreads.items():
            lengths = {len(spread.mean), *(len(axis) for axis in spread.axes)}
            if lengths != {sizes.get(name)} or len(spread.scales) != len(spread.axes) + 1:
                problems.append(f"familiarity.spreads.{name}: does not fit what encode of {backend} gives")
    return problems


def _unfit_inputs(where: str, signature: Signature, spec: ClipSpec) -> list[str]:
    """Inputs of another size than the clip contract gives: the graph could not be asked."""
    face_px, lip_px = spec.picture.face_px, spec.picture.lip_px
    given = {
        "face": (face_px, face_px, 3),
        "lip": (lip_px, lip_px, 3),
        "pcm": (spec.num_samples,),
        "mfcc": (spec.num_frames, spec.audio.n_mfcc),
    }
    return [
        f"{where}: '{entry.name}' is {entry.shape}, the clip contract gives {given[entry.name]}"
        for entry in signature.inputs
        if entry.name in given and entry.shape[-len(given[entry.name]) :] != given[entry.name]
    ]


def _unknown_names(where: str, names: Iterable[str], known: frozenset[str]) -> list[str]:
    return [f"{where}: unknown name '{n}', known are {', '.join(sorted(known))}" for n in names if n not in known]


def face_variant(manifest: Manifest, *, where: str) -> FaceVariant:
    """Which of the shipped face models a bundle is served with.

    Raises:
        BundleError: It names no complete set of them.
    """
    from dfkit.media.faces import VARIANTS, variant_of

    named = set(manifest.face_models)
    variant = variant_of(named)
    if variant is None:
        nearest = max(VARIANTS.values(), key=lambda models: len(named & set(models)))
        problems = [("lacks", set(nearest) - named), ("has besides", named - set(nearest))]
        found = ", ".join(f"{what} {', '.join(sorted(names))}" for what, names in problems if names)
        raise BundleError(f"{where}: face_models {found}", fix="export again with this dfkit")
    return variant


def load_faces(manifest: Manifest, *, where: str) -> FaceModels:
    """The face networks that a bundle is served with; without a second stage where it names no full-range detector.

    Raises:
        BundleError: It names no complete set of them.
        DfkitError: A file is missing or is not the one this version was built with.
    """
    from dfkit.media.faces import FaceModels, has_second_stage

    return FaceModels(face_variant(manifest, where=where), second_stage=has_second_stage(manifest.face_models))


def _check_face_models(path: Path, manifest: Manifest) -> None:
    # Only the hashes: the models themselves are checked again when the tracker loads them.
    from dfkit.media.faces import VARIANTS

    known = {name: digest for models in VARIANTS.values() for name, digest in models.items()}
    for name, entry in manifest.face_models.items():
        shipped = known.get(name)
        if shipped != entry.sha256:
            raise BundleError(
                f"bundle {path} was made for face model {name} {entry.sha256}, this dfkit ships "
                f"{shipped or 'none'}: its crops would differ from those in training",
                fix=f"install dfkit {manifest.dfkit_version}, or export again with this version",
            )
    face_variant(manifest, where=f"bundle {path}")


def file_entry(content: bytes) -> FileEntry:
    """Size and hash of a file's content."""
    return FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def face_model_entries(variant: FaceVariant = "float16") -> dict[str, FaceModelEntry]:
    """The face models that the runtime has to run, as shipped with dfkit, and where an exported bundle holds them."""
    from dfkit.media.faces import MODEL_FOLDER, ORIGINS, ROLES, VARIANTS

    return {
        name: FaceModelEntry(
            bytes=(MODEL_FOLDER / name).stat().st_size,
            sha256=digest,
            role=ROLES[name],
            file=f"{FACES_FOLDER}/{name}",
            source=ORIGINS[name].source,
            license=ORIGINS[name].license,
        )
        for name, digest in sorted(VARIANTS[variant].items())
    }
