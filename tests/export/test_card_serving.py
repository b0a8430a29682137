"""The card says everything that an app's author needs, with the manifest's own numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dfkit.clip import CLIP2S, UNIFORM50, ClipSpec, FaceVariant
from dfkit.export import card_serving
from dfkit.runtime.bundle import face_model_entries, open_bundle
from dfkit.runtime.golden_index import (
    ArrayFile,
    GoldenCase,
    GoldenControl,
    GoldenIndex,
    GoldenSet,
    OutputLimits,
)
from dfkit.runtime.golden_video import GoldenVideo, VideoTolerance
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.serving import leaves, serving_of
from tests.runtime.bundles import write_bundle


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return open_bundle(write_bundle(tmp_path_factory.mktemp("card") / "bundle")).manifest


def card_of(manifest: Manifest, spec: ClipSpec) -> tuple[Manifest, str]:
    serving, faces = serving_of(spec, "int8"), face_model_entries("int8")
    full = manifest.model_copy(update={"serving": serving, "clip_spec": spec, "face_models": faces})
    return full, "\n".join(card_serving.serving_lines(full))


@pytest.mark.parametrize("spec", [CLIP2S, UNIFORM50], ids=["clip2s", "uniform50"])
def test_every_key_stands_in_the_card_with_its_value(manifest: Manifest, spec: ClipSpec) -> None:
    full, text = card_of(manifest, spec)
    assert full.serving is not None
    flat = re.sub(r"\s+", " ", text)
    lacking = [
        key
        for key, value in leaves(full.serving).items()
        if f"{card_serving.show_value(value)} (`{key}`)" not in flat
    ]  # fmt: skip
    assert not lacking
    assert "{{" not in text and "None" not in text


def test_what_an_app_needs_of_this_bundle(manifest: Manifest) -> None:
    full, text = card_of(manifest, CLIP2S)
    for name, entry in full.face_models.items():
        assert f"| {entry.role} | `face_models/{name}` | {entry.bytes} | `{entry.sha256}` |" in text
        assert str(entry.source) in text and str(entry.license) in text
    for backend in full.backends.values():
        for signature in (backend.encode, backend.score):
            assert signature is not None
            for tensor in (*signature.inputs, *signature.outputs):
                assert f"`{tensor.tensor}` | `{tensor.name}` | {tensor.shape} | {tensor.dtype}" in text
    point = full.operating_point
    assert f"threshold {point.threshold!r}, review from {point.review_low!r} to {point.review_high!r}" in text


def test_sections_are_numbered_in_order_and_references_lead_somewhere(manifest: Manifest) -> None:
    for spec in (CLIP2S, UNIFORM50):
        _, text = card_of(manifest, spec)
        numbers = [int(n) for n in re.findall(r"^### (\d+)\. ", text, flags=re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 7
    titles = list(card_serving.read_sections("serving_clip2s.md")[1])
    # The text of `clip2s` refers to these by number.
    places = {2: "Pictures on a grid", 3: "Pictures as shown", 5: "Face detector", 6: "Landmarks"}
    places |= {8: "Gaps and smoothing", 9: "Boxes and crops", 13: "From logits to an answer", 14: "Evidence"}
    places |= {15: "Checking the graphs"}
    assert {n: titles[n - 1] for n in places} == places


def test_a_misspelt_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        card_serving.fill("{{tracker.nothing}}", {})


def test_the_card_goes_with_the_constants(manifest: Manifest) -> None:
    full, text = card_of(manifest, CLIP2S)
    assert full.serving is not None and full.serving.tracker is not None
    tracker = full.serving.tracker.model_copy(update={"smooth_half": 4})
    other = full.model_copy(update={"serving": full.serving.model_copy(update={"tracker": tracker})})
    changed = "\n".join(card_serving.serving_lines(other))
    assert "4 (`tracker.smooth_half`)" in changed and "n - 17 to" in changed and "n - 19 to" in text


def test_templates_are_shipped() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"export/*.md"' in text


@pytest.mark.parametrize("spec", [CLIP2S, UNIFORM50], ids=["clip2s", "uniform50"])
def test_the_card_says_how_the_golden_vectors_are_used(manifest: Manifest, spec: ClipSpec) -> None:
    text = card_of(manifest, spec)[1].split("Checking the graphs\n")[1].split("\n### ")[0]
    models = (GoldenIndex, GoldenSet, OutputLimits, GoldenCase, GoldenControl, ArrayFile)
    lacking = [key for model in models for key in model.model_fields if f"`{key}`" not in text]
    assert lacking == []
    assert "`shipped`" in text and "`stressed`" in text


@pytest.mark.parametrize("variant", ["int8", "float16"])
def test_each_face_model_has_its_role(variant: FaceVariant) -> None:
    roles = {entry.role: name for name, entry in face_model_entries(variant).items()}
    assert set(roles) == {"detector", "landmarks", "full_range_detector"}
    assert "short_range" in roles["detector"] and "landmark" in roles["landmarks"]
    assert "full_range" in roles["full_range_detector"]


def test_the_card_names_every_key_of_the_golden_video() -> None:
    text = card_serving.read_sections("serving_clip2s.md")[1]["Checking a port"]
    keys = {*GoldenVideo.model_fields, *VideoTolerance.model_fields} - {"schema_version", "file", "license"}
    # Times are compared to a millisecond, which needs no word.
    assert [key for key in sorted(keys - {"times_s"}) if f"`{key}`" not in text] == []
