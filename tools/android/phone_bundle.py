"""Takes out of a bundle what a phone does not run: ONNX graphs, their golden answers, the golden video.

    python -m tools.android.phone_bundle BUNDLE android_demo/build/phone

What stays keeps its bytes and hashes; the manifest lists it alone, and golden.json is as it was.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.golden_index import GOLDEN_FILE, GOLDEN_FOLDER, read_golden
from dfkit.runtime.manifest import MANIFEST_FILE

RUN_BY_PHONES = "tflite"
ALWAYS = ("MODEL_CARD.md", GOLDEN_FILE, "face_models/LICENSE")


def files_for_phones(bundle: Bundle) -> set[str]:
    """Names of the files that are read on a phone, or that a person reads there."""
    manifest = bundle.manifest
    graphs = manifest.backends[RUN_BY_PHONES]  # type: ignore[index]
    names = {signature.file for signature in (graphs.encode, graphs.score) if signature is not None}
    names |= {entry.file for entry in manifest.face_models.values() if entry.file is not None}
    for vectors in read_golden(bundle).sets:
        names |= set(vectors.graphs.get(RUN_BY_PHONES, {}).values())
        arrays: list[Any] = [array for case in (*vectors.encode, *vectors.score) for array in case.inputs.values()]
        arrays += [a for c in (*vectors.encode, *vectors.score) for a in c.outputs.get(RUN_BY_PHONES, {}).values()]
        arrays += [c.answers[RUN_BY_PHONES] for c in vectors.controls if RUN_BY_PHONES in c.answers]
        names |= {f"{GOLDEN_FOLDER}/{array.file}" for array in arrays}
    return names | {name for name in ALWAYS if name in manifest.files}


def write_phone_bundle(source: Path, target: Path) -> None:
    """Writes the smaller bundle.

    Args:
        source: Folder of a bundle.
        target: Folder; what lies there is replaced.
    Raises:
        BundleError: It cannot be used, or holds no graphs for a phone.
    """
    bundle = open_bundle(source)
    kept = files_for_phones(bundle)
    shutil.rmtree(target, ignore_errors=True)
    for name in sorted(kept):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bundle.read(name))
    manifest = bundle.manifest.model_copy(
        update={
            "backends": {RUN_BY_PHONES: bundle.manifest.backends[RUN_BY_PHONES]},  # type: ignore[index]
            "files": {name: entry for name, entry in bundle.manifest.files.items() if name in kept},
        }
    )
    content = json.dumps(manifest.model_dump(mode="json"), separators=(",", ":"))
    (target / MANIFEST_FILE).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write_phone_bundle(Path(sys.argv[1]), Path(sys.argv[2]))
