"""The manifest's section `serving` is what the code does: its numbers are the code's own constants."""

from __future__ import annotations

import ast
import importlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.errors import BundleError
from dfkit.media import faces
from dfkit.media.faces import FaceDetector
from dfkit.runtime import serving
from dfkit.runtime.bundle import face_model_entries, open_bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.serving import leaves, serving_of

from .bundles import write_bundle

TREE = ast.parse(Path(serving.__file__).read_text(encoding="utf-8"))
BUILDERS = [node for node in TREE.body if isinstance(node, ast.FunctionDef) and node.name.startswith("_")]
MODULES = {name for name, value in vars(serving).items() if getattr(value, "__name__", "").startswith("dfkit.")}
CONSTANTS = sorted(
    {
        (node.value.id, node.attr)
        for builder in BUILDERS
        for node in ast.walk(builder)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES
    }
)


def another(value: Any) -> Any:
    """A value of the same type that differs."""
    if isinstance(value, FaceDetector):
        # Each of its constants has to reach the section: one that does not leaves its key as it was.
        return replace(value, **{f.name: another(getattr(value, f.name)) for f in fields(value) if f.name != "name"})
    if isinstance(value, dict):
        return dict(list(value.items())[1:])
    if isinstance(value, tuple):
        return (another(value[0]), *value[1:])
    return value + "x" if isinstance(value, str) else value + 1


def both() -> list[dict[str, object]]:
    return [leaves(serving_of(spec, "float16")) for spec in (CLIP2S, UNIFORM50)]


def test_no_number_is_typed_in_the_section() -> None:
    typed = [
        f"line {node.lineno}: {node.value!r}"
        for builder in BUILDERS
        for node in ast.walk(builder)
        if isinstance(node, ast.Constant)
    ]
    assert not typed
    # Every value is one constant, but for the two eyes of the detectors; a detector holds four and shares four.
    count = len(CONSTANTS) + 2 * (len(fields(FaceDetector)) - 1) + 4
    assert count >= len({**both()[0], **both()[1]})


def test_each_constant_of_a_detector_stands_in_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, section in (("SHORT_RANGE", "detector"), ("FULL_RANGE", "full_range_detector")):
        before = both()[0]
        monkeypatch.setattr(faces, name, another(getattr(faces, name)))
        changed = {key for key, value in both()[0].items() if value != before[key]}
        own = {f"{section}.{field.name}" for field in fields(FaceDetector) if field.name != "name"}
        assert changed == own


def test_a_bundle_of_before_the_second_stage_is_served_without_it(tmp_path: Path) -> None:
    """Its section has neither the detector nor the cadence, and no model of that role; half of that is refused."""
    entries = {name: entry.model_dump(exclude={"file"}) for name, entry in face_model_entries("float16").items()}
    older = {name: entry for name, entry in entries.items() if entry["role"] != "full_range_detector"}
    section = serving_of(CLIP2S, "float16", second_stage=False).model_dump(mode="json")
    assert section.pop("full_range_detector") is None and section["tracker"].pop("full_range_every") is None
    detector = Detector(write_bundle(tmp_path / "old", backends=("tflite",), serving=section, face_models=older))
    assert detector._face_models.second_stage is False
    path = write_bundle(tmp_path / "half", backends=("tflite",), serving=section, face_models=entries)
    with pytest.raises(BundleError, match=r"full_range_detector\.input_px is None, this dfkit serves with 192"):
        Detector(path)


@pytest.mark.parametrize(("module", "name"), CONSTANTS, ids=lambda value: value)
def test_another_constant_gives_another_manifest(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = both()
    owner = getattr(serving, module)
    value = getattr(owner, name)
    changed = {"float16": value["float16"] + 1} if name == "VALUES_PER_LANDMARK" else another(value)
    monkeypatch.setattr(owner, name, changed)
    assert both() != before


def test_the_code_holds_the_constants_as_it_runs() -> None:
    """Each named constant is read somewhere beside its definition and the section: it is not a copy for show."""
    package = Path(importlib.import_module("dfkit").__file__ or "").parent
    texts = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for room in ("media", "runtime", "measures")
        for path in (package / room).glob("*.py")
        if path.name not in ("serving.py", "contract.py")
    }
    read = {
        node.id
        for tree in texts.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    # The order of statuses follows from the order of the steps; `test_detector.py` holds it.
    assert {name for _, name in CONSTANTS} - read == {"STATUS_ORDER"}


def test_a_bundle_of_other_constants_is_refused(tmp_path: Path) -> None:
    own = serving_of(CLIP2S, "float16").model_dump(mode="json")
    other = {
        **own,
        "tracker": {**own["tracker"], "detect_every": 9},
        "pictures": {**own["pictures"], "average_from": 3},
    }
    for name, section in (("own", own), ("none", None)):
        Detector(write_bundle(tmp_path / name, backends=("tflite",), serving=section))
    path = write_bundle(tmp_path / "other", backends=("tflite",), serving=other)
    with pytest.raises(BundleError, match=r"average_from is 3, this dfkit serves with 2(.|\n)*detect_every is 9"):
        Detector(path)


def test_face_models_that_are_not_where_the_manifest_says(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "named", backends=("tflite",))
    text = (path / "manifest.json").read_text(encoding="utf-8")
    named = text.replace('"face_landmark.tflite": {', '"face_landmark.tflite": {"file": "MODEL_CARD.md",')
    assert named != text
    (path / "manifest.json").write_text(named, encoding="utf-8")
    with pytest.raises(BundleError, match=r"face_models\.face_landmark\.tflite\.file: 'MODEL_CARD\.md' is not among"):
        open_bundle(path)
