"""Bundles and checkpoints: archives that are cut, packed oddly or lie, and the pickles in them."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzz.damage import damage, extreme
from tools.fuzz.documents import change_json, write_json

PICKLE_OPCODES = (
    b"(.012FGIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x80\x81\x82\x83\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x93\x94\x95"
)
FOREIGN = (
    b"cos\nsystem\n(S'true'\ntR.",
    b"c__builtin__\neval\n(S'1'\ntR.",
    b"carray\narray\n(S'd'\n]tR.",
    b"N.",
    b"]",
    b"(dp0\n.",
)
"""Pickles that would run code, hold nothing or break off."""


def spoil_manifest(folder: Path, rng: np.random.Generator) -> None:
    """Changes a bundle's manifest in place."""
    path = folder / "manifest.json"
    path.write_bytes(write_json(change_json(json.loads(path.read_bytes()), rng), rng))


def spoil_bundle(folder: Path, rng: np.random.Generator) -> Path:
    """Damages a bundle: its files with or without new hashes, or as an archive.

    Args:
        folder: A whole bundle, changed in place.
        rng: Decides.
    Returns:
        Where the bundle lies now: the folder, or a .zip beside it.
    """
    names = sorted(path.name for path in folder.iterdir())
    kind = int(rng.integers(8))
    if kind < 4:
        models = [name for name in names if name.endswith((".tflite", ".onnx"))]
        name = str(rng.choice(models if rng.random() < 0.9 else names))
        spoil = _graph_numbers if rng.random() < 0.5 else damage
        (folder / name).write_bytes(spoil((folder / name).read_bytes(), rng))
        if rng.random() < 0.9 and name != "manifest.json":
            _seal(folder)
    elif kind == 4:
        (folder / str(rng.choice(names))).unlink()
    elif kind == 5:
        odd = str(rng.choice(["more.bin", ".DS_Store", "manifest.json.bak", "a b"]))
        (folder / odd).write_bytes(rng.bytes(int(rng.choice([0, 10, 1000]))))
    return _pack(folder, rng) if kind > 5 or rng.random() < 0.15 else folder


def _graph_numbers(content: bytes, rng: np.random.Generator) -> bytes:
    """Single words of a graph's tables, which stand at its beginning and its end, become other numbers."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(min(len(data) - 4, 60_000)))
        place = len(data) - 4 - place if rng.integers(2) else place
        place -= place % 4
        old = int.from_bytes(data[place : place + 4], "little")
        data[place : place + 4] = extreme(rng, old=old).to_bytes(4, "little")
    return bytes(data)


def _seal(folder: Path) -> None:
    """Writes sizes and hashes of the files as they are now: whoever spoils a bundle may do that, too."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def _pack(folder: Path, rng: np.random.Generator) -> Path:
    path = folder.with_suffix(".zip")
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in sorted(p.name for p in folder.iterdir()):
            top = str(rng.choice(["", "", "", "x/", "../", "/"])) if rng.random() < 0.1 else ""
            archive.writestr(top + name, (folder / name).read_bytes())
        if rng.random() < 0.1:
            archive.writestr("zeros.bin", bytes(50_000_000), zipfile.ZIP_DEFLATED)
    if rng.random() < 0.7:
        path.write_bytes(_spoil_zip(path.read_bytes(), rng))
    return path


def _spoil_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """Words of the archive's directory, which stands at its end, or any damage."""
    if rng.integers(2):
        return damage(content, rng)
    data = bytearray(content)
    reach = min(len(data) - 4, 2000)
    for _ in range(int(rng.integers(1, 6))):
        place = len(data) - 4 - int(rng.integers(reach))
        length = int(rng.choice([1, 2, 4]))
        data[place : place + length] = extreme(rng, bits=8 * length).to_bytes(length, "little")
    return bytes(data)


def spoil_checkpoint(content: bytes, rng: np.random.Generator) -> bytes:
    """Damages a checkpoint: its archive, or the pickle in it.

    Args:
        content: Of torch.save, in either format, or safetensors.
        rng: Decides.
    """
    if content.startswith(b"PK") and rng.random() < 0.7:
        return _spoil_pickle_in_zip(content, rng)
    if content.startswith(b"PK"):
        return _spoil_zip(content, rng)
    if content[8:9] == b"{" and rng.random() < 0.7:
        size = int.from_bytes(content[:8], "little")
        header = json.dumps(change_json(json.loads(content[8 : 8 + size]), rng)).encode("utf-8", "surrogatepass")
        stated = extreme(rng, bits=64) if rng.random() < 0.1 else len(header)
        return stated.to_bytes(8, "little") + header + content[8 + size :]
    return damage(_spoil_pickle(content, rng, reach=3000) if rng.integers(2) else content, rng)


def _spoil_pickle_in_zip(content: bytes, rng: np.random.Generator) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            inside = source.read(name)
            if name.endswith("data.pkl"):
                inside = _spoil_pickle(inside, rng, reach=len(inside))
            elif rng.random() < 0.02:
                continue
            elif rng.random() < 0.02 and inside:
                inside = damage(inside, rng)
            archive.writestr(name, inside)
    return target.getvalue()


def _spoil_pickle(content: bytes, rng: np.random.Generator, *, reach: int) -> bytes:
    """Other opcodes, numbers and names; a foreign pickle; values of numpy that are no numbers."""
    kind = int(rng.integers(8))
    data = bytearray(content)
    if kind == 0:
        return FOREIGN[int(rng.integers(len(FOREIGN)))]
    if kind == 1:
        return pickle.dumps(_odd_content(rng), protocol=int(rng.choice([0, 2, 4])))
    if kind == 2:
        for old, new in (
            (b"FloatStorage", b"HalfStorage\0"),
            (b"collections", b"subprocess."),
            (b"_rebuild", b"_rebuilt"),
        ):
            if rng.integers(2):
                data = data.replace(old, new)
        return bytes(data)
    for _ in range(int(rng.integers(1, 8))):
        place = int(rng.integers(min(reach, len(data))))
        data[place] = PICKLE_OPCODES[int(rng.integers(len(PICKLE_OPCODES)))] if kind < 6 else int(rng.integers(256))
    return bytes(data)


def _odd_content(rng: np.random.Generator) -> Any:
    scalars = (
        np.float64(1), np.float32("nan"), np.int64(2**62), np.bool_(True), np.str_("x"), np.datetime64("2020"),
        np.complex128(1j), np.float16(3), np.longdouble(1), np.array([1.0]), np.dtype("O"), range(3), {1, 2}, b"x",
    )  # fmt: skip
    values = [scalars[int(rng.integers(len(scalars)))] for _ in range(3)]
    kinds: list[Any] = [
        {"a": values[0], "model_state_dict": values[1]},
        values,
        values[0],
        {0: values[0]},
        {"state_dict": {}},
    ]
    deep: Any = {"model": values[2]}
    for _ in range(int(rng.choice([5, 3000]))):
        deep = {"model": deep} if rng.integers(2) else [deep]
    kinds.append(deep if rng.random() < 0.5 else {"clip_spec": values[0], "schema_version": values[1], "network": {}})
    try:
        chosen = kinds[int(rng.integers(len(kinds)))]
        pickle.dumps(chosen, protocol=2)
    except RecursionError:
        return {"model": {}}
    return chosen


def copy_bundle(source: Path, target: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(source, target))
