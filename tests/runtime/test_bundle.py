from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.errors import BundleError
from dfkit.measures.decision import VideoScores, judge
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from tests.runtime.bundles import reseal


def zip_of(folder: Path, *, top: str = "") -> Path:
    path = folder.with_name(f"{folder.name}-{top or 'flat'}.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{top}/{file.relative_to(folder)}" if top else file.relative_to(folder))
    return path


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_folder_and_zips_hold_the_same_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(tiny_folder, tmp_path / "b"))
    folder, flat, nested = (open_bundle(p) for p in (own, zip_of(own), zip_of(own, top="b")))
    assert folder.manifest == flat.manifest == nested.manifest
    for name in folder.manifest.files:
        assert folder.read(name) == flat.read(name) == nested.read(name) == (own / name).read_bytes()
    assert folder.bundle_bytes == sum(p.stat().st_size for p in own.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", ["model.tflite", "score.onnx", "encode.onnx", "MODEL_CARD.md"])
def test_one_changed_byte_is_refused_by_name(own_folder: Path, name: str) -> None:
    content = bytearray((own_folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own_folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} was changed(.|\n)*Fix: "):
        open_bundle(own_folder)
    with pytest.raises(BundleError, match=name):
        open_bundle(zip_of(own_folder))


def test_a_byte_changed_inside_an_archive_is_refused(own_folder: Path) -> None:
    path = zip_of(own_folder)
    content = bytearray(path.read_bytes())
    place = content.find(b"TFL3")  # inside of the stored model
    content[place + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.tflite"):
        open_bundle(path)


def test_all_problems_are_named_at_once(own_folder: Path) -> None:
    (own_folder / "score.onnx").unlink()
    (own_folder / "model.tflite").write_bytes(b"short")
    (own_folder / "notes.txt").write_text("mine")
    with pytest.raises(BundleError) as caught:
        open_bundle(own_folder)
    message = str(caught.value)
    assert "score.onnx is missing" in message
    assert "model.tflite has 5 bytes" in message
    assert "notes.txt is not listed" in message


def test_litter_of_file_managers_is_let_pass(own_folder: Path) -> None:
    (own_folder / ".DS_Store").write_bytes(b"x")
    assert open_bundle(own_folder).manifest.name == "tiny"


def test_a_newer_schema_is_refused_before_anything_else(own_folder: Path) -> None:
    edit(own_folder, lambda data: data.update(schema_version=5, brand_new_key=1, dfkit_version="9.1"))
    with pytest.raises(BundleError, match=r"schema_version is 5, this dfkit reads up to 4(.|\n)*Fix: install.*9\.1"):
        open_bundle(own_folder)
    edit(own_folder, lambda data: data.update(schema_version=4))
    edit(own_folder, lambda data: data["clip_spec"].update(schema_version=9))
    with pytest.raises(BundleError, match=r"clip_spec.schema_version is 9"):
        open_bundle(own_folder)


def test_a_bundle_of_whole_pictures_is_refused(own_folder: Path) -> None:
    edit(own_folder, lambda data: data.update(schema_version=3, dfkit_version="0.5"))
    with pytest.raises(
        BundleError, match=r"another way of serving (.|\n)*planes(.|\n)*export .* again, or install dfkit 0.5"
    ):
        open_bundle(own_folder)


def test_a_bundle_of_version_1_decides_by_the_mean(own_folder: Path) -> None:
    """It knows no `aggregation`; taking another one would change the verdicts of bundles that are out."""
    edit(own_folder, lambda data: data.update(schema_version=1))
    assert "aggregation" not in json.loads((own_folder / "manifest.json").read_text(encoding="utf-8"))
    manifest = open_bundle(own_folder).manifest
    assert manifest.schema_version == 1 and manifest.decision.aggregation.name == "mean"
    scores = VideoScores(np.array([[0, 3.0], [0, -1.0]]), np.zeros(2, np.int64), np.array([0.0, 1.0]))
    # The mean of 3 and -1 is 1; the fixture's calibration temperature is 1.5.
    assert judge(scores, manifest.decision).p_fake == pytest.approx(1 / (1 + np.exp(-1 / 1.5)))


def test_a_bundle_of_version_2_decides_by_its_aggregation(own_folder: Path) -> None:
    edit(own_folder, lambda data: data.update(schema_version=2, aggregation={"name": "top_k", "k": 1}))
    scores = VideoScores(np.array([[0, 3.0], [0, -1.0]]), np.zeros(2, np.int64), np.array([0.0, 1.0]))
    assert judge(scores, open_bundle(own_folder).manifest.decision).p_fake == pytest.approx(1 / (1 + np.exp(-2)))


BAD_NUMBERS = ("Infinity", "-Infinity", "NaN")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("calibration_temperature", value) for value in (*BAD_NUMBERS, "0", "-1.5")),
        *(("threshold", value) for value in BAD_NUMBERS),
        *(("review_low", value) for value in BAD_NUMBERS),
    ],
)
def test_numbers_that_decide_are_finite(own_folder: Path, key: str, value: str) -> None:
    """An infinite temperature passed: every video had p_fake 0.5."""
    path = own_folder / "manifest.json"
    old = {"calibration_temperature": "1.5", "threshold": "0.5", "review_low": "0.45"}[key]
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'"{key}": {old}', f'"{key}": {value}'), encoding="utf-8")
    with pytest.raises(BundleError, match=rf"manifest\.json(.|\n)*{key}"):
        open_bundle(own_folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["operating_point"].update(threshold=1.5), "operating_point.threshold"),
        (lambda d: d["operating_point"].update(review_low=0.9), "review_low"),
        (lambda d: d["clip_spec"]["audio"].update(hop="640"), "clip_spec.audio.hop"),
        (lambda d: d["backends"]["tflite"]["score"]["inputs"][0].update(name="sound"), "sound"),
        (lambda d: d["backends"]["tflite"]["score"].update(file="other.tflite"), "other.tflite"),
        (lambda d: d.update(backends={}), "backends"),
        (lambda d: d["files"].update({"../secret": {"bytes": 1, "sha256": "0" * 64}}), "leads out"),
        (lambda d: d.pop("face_models"), "face_models"),
    ],
)
def test_a_wrong_manifest_is_refused_by_key(own_folder: Path, change: Callable[..., object], named: str) -> None:
    edit(own_folder, change)
    with pytest.raises(BundleError, match=r"manifest.json|cannot be used") as caught:
        open_bundle(own_folder)
    assert named in str(caught.value)


def test_other_face_models_are_refused(own_folder: Path) -> None:
    edit(own_folder, lambda d: d["face_models"]["face_landmark.tflite"].update(sha256="0" * 64))
    with pytest.raises(BundleError, match=r"face_landmark.tflite(.|\n)*Fix: install dfkit"):
        open_bundle(own_folder)
    edit(own_folder, lambda d: d["face_models"].pop("face_landmark.tflite"))
    with pytest.raises(BundleError, match=r"lacks face_landmark\.tflite"):
        open_bundle(own_folder)


def packed(folder: Path, *, method: int = zipfile.ZIP_DEFLATED, **changes: bytes) -> Path:
    """A .zip of a bundle, with other contents under some of its names."""
    path = folder.with_name("packed.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.writestr(file.name, changes.get(file.stem, file.read_bytes()))
    return path


ZEROS = bytes(60_000_000)


def state_size(path: Path, name: str, size: int) -> None:
    """Changes the unpacked size that an archive states, in its directory and before the file itself."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        directory = archive.start_dir
    content = bytearray(path.read_bytes())
    content[info.header_offset + 22 : info.header_offset + 26] = size.to_bytes(4, "little")
    entry = content.index(b"PK\x01\x02", directory)
    while content[entry + 46 : entry + 46 + len(name)] != name.encode():
        entry = content.index(b"PK\x01\x02", entry + 4)
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("stated", ["true", "that of the manifest"])
@pytest.mark.parametrize("name", ["model.tflite", "manifest.json"])
def test_a_zip_is_not_unpacked_past_the_size_that_is_expected(own_folder: Path, name: str, stated: str) -> None:
    """0.3 MB became 617 MB in memory before the size was looked at."""
    plain = (own_folder / name).stat().st_size
    path = packed(own_folder, **{name.split(".", maxsplit=1)[0]: ZEROS})
    if stated != "true":
        state_size(path, name, plain)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=rf"{name}(.|\n)*Fix: "):
            open_bundle(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_a_bundle_that_states_more_than_any_has_is_refused_unread(own_folder: Path) -> None:
    """Whatever the manifest stated was read and hashed, one file after the other."""
    edit(own_folder, lambda d: d["files"]["score.onnx"].update(bytes=600_000_000))
    with pytest.raises(BundleError, match=r"500000000 at most; the largest is score\.onnx"):
        open_bundle(own_folder)


def test_a_zip_of_a_packing_that_unpacks_all_at_once_is_refused(own_folder: Path) -> None:
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md|encode\.onnx|manifest\.json") as caught:
        open_bundle(packed(own_folder, method=zipfile.ZIP_LZMA))
    assert "packed by method 14" in str(caught.value)
    assert open_bundle(packed(own_folder)).manifest.name == "tiny"


@pytest.mark.parametrize(
    ("record", "damage"),
    [
        pytest.param(b"PK\x01\x02", {6: 99}, id="version"),
        pytest.param(b"PK\x01\x02", {9: 8, 46: 255}, id="a name that is no UTF-8"),
        pytest.param(b"PK\x05\x06", {18: 255}, id="offset"),
    ],
)
def test_a_damaged_directory_of_a_zip_is_said(own_folder: Path, record: bytes, damage: dict[int, int]) -> None:
    """A version that does not exist and a place before the file's beginning ended in tracebacks."""
    path = packed(own_folder)
    content = bytearray(path.read_bytes())
    start = content.rindex(record)
    for place, value in damage.items():
        content[start + place] = value
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"packed\.zip(.|\n)*Fix: "):
        open_bundle(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_a_foreign_file_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"b\.zip"):
        open_bundle(path)


def test_a_missing_bundle_and_an_empty_folder_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="dfkit export"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(tmp_path)


def test_manifest_that_is_no_json_is_refused(own_folder: Path) -> None:
    for content in ("{", "[]", "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")):
        (own_folder / "manifest.json").write_text(content, encoding="utf-8")
        with pytest.raises(BundleError, match=r"manifest\.json"):
            open_bundle(own_folder)


def test_what_is_loaded_is_hashed_again(own_folder: Path) -> None:
    bundle: Bundle = open_bundle(own_folder)
    content = bytearray((own_folder / "model.tflite").read_bytes())
    content[5000] ^= 1
    (own_folder / "model.tflite").write_bytes(content)
    with pytest.raises(BundleError, match="changed"):
        open_backend(bundle, "tflite")


def test_resealed_bundle_opens(own_folder: Path) -> None:
    (own_folder / "MODEL_CARD.md").write_text("another card")
    reseal(own_folder)
    assert open_bundle(own_folder).read("MODEL_CARD.md") == b"another card"
