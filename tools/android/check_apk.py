"""Holds a built APK against what it promises: signatures, permissions, what is stored, alignment of natives, size.

    python tools/android/check_apk.py android_demo/build/*.apk

Only the standard library, and aapt2 and apksigner of Debian. Ends with 1 and all faults, or prints bytes by part.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

MAX_BYTES = 9_000_000
"""Model included; an APK has the natives of one ABI."""
PAGE_BYTES = 16_384
"""Newer phones load natives by pages of this size."""
PERMISSIONS = frozenset({"android.permission.CAMERA", "android.permission.RECORD_AUDIO"})
"""For the live screen; nothing else, and no network."""
STORED_SUFFIX = ".tflite"
"""Read where they lie; everything else that shrinks is deflated, but for resources.arsc, which Android maps."""
ALWAYS_STORED = frozenset({"resources.arsc"})
PT_LOAD = 1
PARTS = (("lib/", "natives"), ("assets/bundle/golden/", "golden vectors"), ("assets/", "model"), ("res", "resources"))


def load_alignments(elf: bytes) -> list[int]:
    """Alignments of the segments of a 64-bit little-endian ELF file that are loaded, bytes."""
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", elf, table + n * size) for n in range(count)]
    return [header[7] for header in headers if header[0] == PT_LOAD]


def zip_faults(apk: zipfile.ZipFile) -> list[str]:
    """What is wrong with the entries of an APK."""
    faults = []
    for entry in apk.infolist():
        is_stored = entry.compress_type == zipfile.ZIP_STORED
        if entry.filename.endswith(STORED_SUFFIX) and not is_stored:
            faults.append(f"{entry.filename} is deflated, it is read where it lies")
        if entry.filename in ALWAYS_STORED and not is_stored:
            faults.append(f"{entry.filename} is deflated, Android refuses that")
        if entry.filename.endswith(".so"):
            alignments = load_alignments(apk.read(entry))
            if not alignments or min(alignments) < PAGE_BYTES:
                faults.append(f"{entry.filename}: segments aligned to {alignments} bytes, {PAGE_BYTES} are needed")
    abis = {name.split("/")[1] for name in apk.namelist() if name.endswith(".so")}
    if not abis:
        faults.append("there are no natives")
    if len(abis) > 1:
        faults.append(f"there are natives of {', '.join(sorted(abis))}, of one ABI are expected")
    return faults


def manifest_faults(apk: Path) -> list[str]:
    """What is wrong with permissions and traffic."""
    said = _said_by("aapt2", "dump", "permissions", apk).splitlines()
    permissions = {line.split("'")[1] for line in said if line.startswith("uses-permission")}
    faults = [f"it asks for {name}" for name in sorted(permissions - PERMISSIONS)]
    faults += [f"it does not ask for {name}" for name in sorted(PERMISSIONS - permissions)]
    tree = _said_by("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", apk)
    if "usesCleartextTraffic(0x010104ec)=false" not in tree:
        faults.append("plain-text traffic is not forbidden")
    if "debuggable(0x0101000f)=true" in tree:
        faults.append("it is debuggable")
    return faults


def signature_faults(apk: Path) -> list[str]:
    """Signature schemes that are missing."""
    said = _said_by("apksigner", "verify", "--verbose", "--min-sdk-version", "26", apk)
    return [f"it has no signature {v}" for v in ("v2", "v3") if not _has(said, f"using {v} scheme")]


def _has(said: str, scheme: str) -> bool:
    return any(scheme in line and line.endswith("true") for line in said.splitlines())


def bytes_by_part(apk: zipfile.ZipFile) -> dict[str, int]:
    """Packed bytes: natives, model, golden vectors, classes, and so on."""
    sizes: dict[str, int] = {}
    for entry in apk.infolist():
        fallback = "classes" if entry.filename.endswith(".dex") else "rest"
        part = next((name for prefix, name in PARTS if entry.filename.startswith(prefix)), fallback)
        sizes[part] = sizes.get(part, 0) + entry.compress_size
    return sizes


def check(path: Path) -> list[str]:
    """All faults of an APK; prints what its bytes are."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as apk:
        parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in bytes_by_part(apk).items())
        print(f"{path.name}: {size / 1e6:.2f} MB ({parts})")
        faults = zip_faults(apk)
    if size > MAX_BYTES:
        faults.append(f"it has {size} bytes, {MAX_BYTES} at most")
    return [*faults, *manifest_faults(path), *signature_faults(path)]


def _said_by(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    found = [f"{path}: {fault}" for path in sys.argv[1:] for fault in check(Path(path))]
    if found:
        raise SystemExit("\n  ".join(["not what an APK of this app promises:", *found]))
