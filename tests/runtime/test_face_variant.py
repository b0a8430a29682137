"""The detector runs the face models that its bundle names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.benchmarks.sizes import measure_sizes
from dfkit.errors import BundleError
from dfkit.export.bundle import face_model_files
from dfkit.media.faces import INT8_SHA256, MODEL_FOLDER, MODEL_SHA256
from dfkit.runtime.bundle import face_model_entries, open_bundle
from dfkit.runtime.detector import Detector

from .bundles import write_bundle


def entries(variant: str) -> dict[str, dict[str, object]]:
    found = face_model_entries(variant)  # type: ignore[arg-type]
    return {name: entry.model_dump(exclude={"file"}) for name, entry in found.items()}


def bundle_with(folder: Path, faces: dict[str, dict[str, object]]) -> Path:
    return write_bundle(folder, backends=("tflite",), face_models=faces)


def test_a_bundle_of_int8_faces(tmp_path: Path, talk: Path) -> None:
    usual = open_bundle(bundle_with(tmp_path / "usual", entries("float16")))
    small = open_bundle(bundle_with(tmp_path / "small", entries("int8")))
    assert measure_sizes(usual).phone_mb["tflite"] - measure_sizes(small).phone_mb["tflite"] > 0.76
    found = [Detector(bundle).detect(talk) for bundle in (usual, small)]
    assert [result.status for result in found] == ["ok", "ok"]
    p_usual, p_small = (result.p_fake for result in found)
    assert p_usual is not None and p_small is not None
    # Other crops by a fraction of a pixel: another number, but nearly the same.
    assert 0 < abs(p_usual - p_small) < 0.05


def test_half_of_each_is_refused(tmp_path: Path) -> None:
    mixed = {**entries("float16"), **entries("int8")}
    mixed.pop("face_landmark.tflite")
    mixed.pop("face_detection_short_range_int8.tflite")
    with pytest.raises(BundleError, match=r"face_models lacks (.|\n)*Fix: export again"):
        open_bundle(bundle_with(tmp_path / "mixed", mixed))
    with pytest.raises(BundleError, match=r"has besides"):
        open_bundle(bundle_with(tmp_path / "both", {**entries("float16"), **entries("int8")}))


def test_what_a_bundle_holds_of_them_with_their_licence() -> None:
    for variant, hashes in (("float16", MODEL_SHA256), ("int8", INT8_SHA256)):
        files = face_model_files(variant)  # type: ignore[arg-type]
        assert set(files) == {f"face_models/{name}" for name in [*hashes, "LICENSE"]}
        assert all(files[f"face_models/{name}"] == (MODEL_FOLDER / name).read_bytes() for name in hashes)
        assert b"Apache License" in files["face_models/LICENSE"]
