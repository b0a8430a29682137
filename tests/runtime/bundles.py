"""A tiny real bundle: random but loud weights, converted by the export package, run by real interpreters."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.clip import CLIP2S
from dfkit.media.faces import MODEL_FOLDER, MODEL_SHA256
from dfkit.runtime.manifest import Backend


def make_network() -> Any:
    """A student of 8 GRU units whose answers depend on every input."""
    import torch

    from dfkit.models.mmms_ba import MMMSBA, NetworkSpec

    torch.manual_seed(5)
    torch.set_num_threads(1)
    network = MMMSBA(NetworkSpec(face_channels=(8, 8, 16), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=8)).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "feature_extractor" in name and name.endswith("weight"):
                weight.mul_(2.5)
            if "classifier" in name and name.endswith("weight"):
                weight.mul_(6)
    return network


def example_inputs(count: int) -> dict[str, np.ndarray]:
    """Pictures, features and sound that are not degenerate."""
    rng = np.random.default_rng(11)
    side, lip = CLIP2S.picture.face_px, CLIP2S.picture.lip_px
    ramp = np.linspace(0, 200, side)[None, :, None, None] + rng.uniform(0, 55, (count, 1, 1, 3))
    face = np.broadcast_to(ramp, (count, side, side, 3)).astype(np.uint8)
    noise = rng.integers(0, 60, face.shape, dtype=np.uint8)
    t = np.arange(CLIP2S.num_samples) / CLIP2S.audio.sample_rate
    pcm = (0.3 * np.sin(2 * np.pi * 180 * t) * (0.6 + 0.4 * np.sin(6 * t))).astype(np.float32)
    face = (face // 2 + noise).astype(np.uint8)
    middle = slice(side // 4, side // 4 + lip)
    return {"face": face, "lip": np.ascontiguousarray(face[:, middle, middle]), "pcm": pcm}


@lru_cache(maxsize=1)
def convert_network() -> dict[str, tuple[Backend, dict[str, bytes]]]:
    """The network as `tflite_fp32`, `tflite` (mixed_int8) and `onnx`: manifest entry and files of each."""
    import torch

    from dfkit.export import onnx_graph, tflite
    from dfkit.export.graph import EncodeGraph
    from dfkit.export.recipes import recipe_named

    network = make_network()
    inputs = example_inputs(50)
    with torch.no_grad():
        pictures = [torch.from_numpy(inputs[m]).float() / 255 for m in ("face", "lip")]
        face_features, lip_features = EncodeGraph(network).eval()(*pictures)
    calibration = {
        **inputs,
        "face_features": face_features.numpy(),
        "lip_features": lip_features.numpy(),
    }
    fp32 = tflite.convert(network, CLIP2S, [calibration])
    mixed = tflite.quantize(fp32, recipe_named("mixed_int8"), network, CLIP2S, [calibration])
    graphs = onnx_graph.convert(network, CLIP2S)
    return {
        "tflite_fp32": (tflite.describe(fp32, network, CLIP2S, "fp32"), {"model.tflite": fp32}),
        "tflite": (tflite.describe(mixed, network, CLIP2S, "mixed_int8"), {"model.tflite": mixed}),
        "onnx": (onnx_graph.describe(graphs, network, CLIP2S, "fp32"), graphs),
    }


def entry_of(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_bundle(
    folder: Path,
    *,
    backends: tuple[str, ...] = ("tflite", "onnx"),
    backends_as: dict[str, str] | None = None,
    **changes: Any,
) -> Path:
    """Writes a bundle.

    Args:
        folder: Where to.
        backends: Keys of `convert_network`.
        backends_as: Which key stands under which backend's name, where they differ.
        changes: Replace keys of the manifest.
    """
    converted = convert_network()
    files: dict[str, bytes] = {"MODEL_CARD.md": b"# A model of random weights, for tests\n"}
    for name in backends:
        files |= converted[name][1]
    data = {
        "name": "tiny",
        "dfkit_version": "0.1.0",
        "clip_spec": CLIP2S.model_dump(mode="json"),
        "modalities": ["audio", "face", "lip"],
        "network": {},
        "backends": {
            name: converted[key][0].model_dump(mode="json")
            for name, key in (backends_as or dict(zip(backends, backends, strict=True))).items()
        },
        "operating_point": {
            "threshold": 0.5,
            "review_low": 0.45,
            "review_high": 0.55,
            "name": "chosen by hand",
        },
        "calibration": {"calibration_temperature": 1.5},
        "face_models": {name: entry_of((MODEL_FOLDER / name).read_bytes()) for name in MODEL_SHA256},
        "warnings": ["random weights: for tests only"],
        **changes,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    data["files"] = {name: entry_of(content) for name, content in files.items()}
    (folder / "manifest.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    return folder


def reseal(folder: Path) -> None:
    """Writes the hashes of the files as they are now."""
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    data["files"] = {n: entry_of((folder / n).read_bytes()) for n in names if n != "manifest.json"}
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
