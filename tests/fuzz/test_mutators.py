"""Mutators change what they say, keep the rest, and do it the same way for a seed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tools.fuzz import archives, boxes, documents, elements, packets
from tools.fuzz.damage import damage
from tools.fuzz.material import Material

CHANGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "fast.mp4": boxes.change_boxes,
    "plain.ts": packets.change_packets,
    "plain.mkv": elements.change_elements,
    "plain.avi": damage,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_seed_decides_and_most_seeds_change_something(material: Material, name: str) -> None:
    content = (material.folder / "videos" / name).read_bytes()
    made = [[CHANGES[name](content, np.random.default_rng(seed)) for seed in range(40)] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(each != content for each in made[0]) > 30
    assert len(set(made[0])) > 30


def test_structures_are_read_as_they_are(material: Material) -> None:
    videos = material.folder / "videos"
    mp4 = (videos / "fast.mp4").read_bytes()
    tree = boxes.parse(mp4)
    assert b"".join(box.to_bytes() for box in tree) == mp4
    assert {b"stsz", b"stts", b"tkhd", b"mdhd"} <= {box.kind for _, box in boxes.walk(tree)}
    mkv = elements.parse((videos / "plain.mkv").read_bytes())
    again = elements.parse(b"".join(element.to_bytes() for element in mkv))
    assert again == mkv and elements.SEGMENT in {element.kind for element in mkv}


def test_clocks_of_a_transport_stream_are_shifted(material: Material, tmp_path: Path) -> None:
    from dfkit.media.survey import survey_file

    content = (material.folder / "videos" / "plain.ts").read_bytes()
    size = packets.PACKET_BYTES
    parts = [content[i : i + size] for i in range(0, len(content), size)]
    path = tmp_path / "late.ts"
    path.write_bytes(b"".join(packets.shift_times(part, 45_000) for part in parts))
    early, late = survey_file(material.folder / "videos" / "plain.ts"), survey_file(path)
    assert late.segments[0].start_s - early.segments[0].start_s == pytest.approx(0.5)
    assert len(late.picture_times_s) == len(early.picture_times_s) == 56


def test_documents_and_archives_are_varied(material: Material, tmp_path: Path) -> None:
    manifest = json.loads((material.bundle / "manifest.json").read_bytes())
    changed = [documents.change_json(manifest, np.random.default_rng(seed)) for seed in range(30)]
    assert sum(str(each) != str(manifest) for each in changed) > 25
    for make in (documents.make_yaml, documents.make_csv):
        assert len({make(np.random.default_rng(seed)) for seed in range(30)}) > 25
    own = (material.folder / "weights" / "own.pth").read_bytes()
    spoilt = [archives.spoil_checkpoint(own, np.random.default_rng(seed)) for seed in range(30)]
    assert len(set(spoilt)) > 25
    kinds = set()
    for seed in range(20):
        folder = archives.copy_bundle(material.bundle, tmp_path / str(seed) / "bundle")
        path = archives.spoil_bundle(folder, np.random.default_rng(seed))
        kinds.add("zip" if path.suffix == ".zip" else "folder")
        if path.suffix == ".zip" and zipfile.is_zipfile(path):
            kinds.add("readable zip")
    assert kinds == {"zip", "readable zip", "folder"}
