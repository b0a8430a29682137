"""Families of forgeries: by name in the settings, and in the labels what of a video is fake."""

from __future__ import annotations

import csv

from dfkit.config.forge import DEFAULT_METHODS, FAMILIES, METHODS, PICTURE_METHODS, fake_part_of, family_of
from dfkit.forge import ForgeConfig
from tests.forge.conftest import Forged


def test_every_method_is_of_one_family() -> None:
    assert sorted(method for methods in FAMILIES.values() for method in methods) == sorted(METHODS)


def test_a_family_stands_for_its_methods() -> None:
    assert ForgeConfig(methods=("voice",)).methods == ("audio_swap", "voice_resynth")  # type: ignore[arg-type]
    named = ForgeConfig.model_validate({"methods": ["voice", "tts_voice"]})
    assert named.methods == FAMILIES["voice"], "what needs a package is named on its own"
    both = ForgeConfig.model_validate({"methods": ["self_blend", "sync", "self_blend"]})
    assert both.methods == ("self_blend", "audio_shift", "audio_retime")


def test_labels_say_that_only_the_sound_is_fake(forged: Forged) -> None:
    with (forged.out_dir / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert (rows[""]["label"], rows[""]["family"], rows[""]["fake_part"]) == ("real", "", "")
    for method in ("audio_swap", "voice_resynth"):
        assert (rows[method]["family"], rows[method]["fake_part"]) == ("voice", "sound")
    assert rows["audio_shift"]["fake_part"] == "sync"
    assert {rows[method]["fake_part"] for method in PICTURE_METHODS} == {"picture"}
    assert all(rows[method]["family"] == family_of(method) for method in DEFAULT_METHODS)
    assert fake_part_of("") == family_of("") == ""
