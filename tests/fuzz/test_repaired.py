"""What the fuzzer found, as small recipes of its kind."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dfkit.clip import CLIP2S, ClipSpec, TrackSpec
from dfkit.errors import BundleError, CheckpointError, ConfigError, MediaError, ShapeError
from dfkit.experiment import read_config
from dfkit.media.container import MAX_STREAMS
from dfkit.media.coverage import read_notes
from dfkit.media.picture import picture_of_planes
from dfkit.media.survey import MAX_HOLE_S, Segment, Survey, survey_file
from dfkit.media.video import PictureDecoder
from dfkit.models.mmms_ba import NetworkSpec
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.detector import Detector
from tests.media.media_files import numbered, tone, write_media
from tools.fuzz import archives, boxes, packets
from tools.fuzz.material import Material


def survey_of(segments: list[Segment]) -> Survey:
    return Survey(Path("x.ts"), 0, 0.04, tuple(segments), 0, (), 0.0, 1.0, 0.0, (), {}, False, None)


def test_placing_agrees_with_looking_at_every_segment() -> None:
    rng = np.random.default_rng(1)
    segments = []
    for epoch in range(6):
        starts = np.sort(rng.uniform(-50, 400, int(rng.integers(0, 5))))
        starts[len(starts) // 2 :] -= float(rng.choice([0, 30]))  # a decoder's order is not always that of showing
        segments += [Segment(epoch, float(s), float(s) + 5, float(rng.uniform(-9, 9))) for s in starts]
    survey = survey_of(segments)
    for _ in range(500):
        epoch, time_s = int(rng.integers(8)), float(rng.uniform(-60, 450))
        own = [n for n, segment in enumerate(segments) if segment.epoch == epoch] or [len(segments) - 1]
        begun = [n for n in own if segments[n].start_s <= time_s + 0.5]
        expected = begun[-1] if begun else own[0]
        assert survey.place(epoch, time_s) == (expected, time_s + segments[expected].offset_s)


def test_thousands_of_recordings_are_counted_not_listed() -> None:
    survey = survey_of([Segment(n, 0.0, 1.0, float(n)) for n in range(5000)])
    (note,) = read_notes(survey, None)
    assert note.startswith("5000 recordings joined at 1.0 s, 2.0 s") and note.endswith("and 4991 more")
    assert survey.place(4321, 0.5) == (4321, 4321.5)


def test_a_stream_that_begins_in_the_middle_ends_no_reading(material: Material, tmp_path: Path) -> None:
    """Two recordings whose streams have other numbers: PyAV looks for the later ones in vain."""
    videos = material.folder / "videos"
    content = (videos / "plain.ts").read_bytes()
    size = packets.PACKET_BYTES
    moved = []
    for start in range(0, len(content), size):
        packet = bytearray(content[start : start + size])
        number = (packet[1] & 0x1F) << 8 | packet[2]
        if 0x100 <= number < 0x1FF0:
            packet[2] += 0x40
        moved.append(bytes(packet))
    path = tmp_path / "later.ts"
    path.write_bytes(content + b"".join(moved))
    survey = survey_file(path)
    assert survey.num_pictures >= 56
    assert sum(1 for _ in PictureDecoder(survey, num_threads=1)) >= 50


def test_without_a_stream_that_is_read_nothing_is(tmp_path: Path) -> None:
    """PyAV, asked for the packets of no stream, reads those of all."""
    path = write_media(tmp_path / "a.ts", numbered(10), codec="ffv1")  # there it is private data
    with pytest.raises(MediaError) as told:
        list(PictureDecoder(survey_file(path)))
    assert told.value.status == "unreadable"


def test_an_edit_list_that_repeats_a_file_for_hours_is_refused(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", numbered(50, size=(192, 192)), sound=tone(2.0))
    tree = boxes.parse(path.read_bytes())
    entries = b"".join((1000).to_bytes(4, "big") + bytes(4) + b"\0\1\0\0" for _ in range(5000))
    elst = boxes.Box(b"elst", bytes(4) + (5000).to_bytes(4, "big") + entries)
    for _, box in boxes.walk(tree):
        if box.kind == b"edts":
            box.children = [elst]
    path.write_bytes(b"".join(box.to_bytes() for box in tree))
    with pytest.raises(MediaError, match="gives the file's bytes more than 10 times") as told:
        survey_file(path)
    assert told.value.status == "unreadable" and told.value.fix


def test_tracks_without_end_take_no_memory(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", numbered(5), sound=tone(0.2))
    tree = boxes.parse(path.read_bytes())
    holder, track = next((holder, box) for holder, box in boxes.walk(tree) if box.kind == b"trak")
    for num_tracks, is_read in ((MAX_STREAMS, True), (MAX_STREAMS + 1, False)):
        holder[:] = [box for box in holder if box.kind != b"trak"] + [track] * num_tracks
        path.write_bytes(b"".join(box.to_bytes() for box in tree))
        if is_read:
            assert survey_file(path).video_index is not None
        else:
            with pytest.raises(MediaError, match=f"more than {MAX_STREAMS} tracks") as told:
                survey_file(path)
            assert told.value.status == "unreadable" and told.value.fix


def test_pictures_far_apart_are_shown_for_no_longer_than_any(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", numbered(4), fps=Fraction(25, 1001))
    survey = survey_file(path)
    assert survey.step_s <= MAX_HOLE_S
    assert survey.end_s <= 4 * MAX_HOLE_S + 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": ' + "1" * 5000 + "}", "\u00e9".encode("latin-1")])
def test_text_that_python_refuses_is_no_manifest(material: Material, tmp_path: Path, text: str | bytes) -> None:
    folder = archives.copy_bundle(material.bundle, tmp_path / "bundle")
    (folder / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BundleError, match="is not JSON"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("picture", "lip_scale", float("inf")), ("picture", "face_px", 10**9), ("audio", "n_fft", 2 * 10**9),
     ("track", "look_ahead_s", float("nan")), ("audio", "hop_length", 10)],
)  # fmt: skip
def test_a_clip_contract_that_cannot_be_served_opens_no_bundle(
    material: Material, tmp_path: Path, section: str, key: str, value: float
) -> None:
    folder = archives.copy_bundle(material.bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["clip_spec"][section][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=key if key != "hop_length" else "the clip contract gives") as told:
        open_bundle(folder)
    assert told.value.fix


def test_bounds_of_contract_and_network() -> None:
    with pytest.raises(ValueError, match="less than a picture"):
        ClipSpec(hop_s=0.01)
    with pytest.raises(ValueError, match="less than or equal"):
        NetworkSpec(gru_hidden=10**6)
    assert ClipSpec(track=TrackSpec(max_faces=8)).hop_frames == CLIP2S.hop_frames == 25


def test_wrong_entries_come_with_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {epoch: 3}\n")
    with pytest.raises(ConfigError, match="unknown key") as told:
        read_config(path)
    assert told.value.fix == "correct these entries or leave them out: see configs/default.yaml"
    (tmp_path / "a.json").write_text('{"seed": ' + "1" * 5000 + "}")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "a.json")


def test_pushed_pictures_have_pixels_and_planes_that_fit(material: Material) -> None:
    stream = Detector(material.bundle, backend="onnx").open_stream()
    y, small, none = (np.zeros(shape, np.uint8) for shape in ((18, 34), (9, 17), (0, 0)))
    fits = [picture_of_planes((y, c, c), shares=(0.299, 0.114), full=False) for c in (small, y, y[:, ::2], y[::2, ::4])]
    for number, picture in enumerate([*fits, np.zeros((1, 1, 3), np.uint8)]):
        stream.push_picture(number / 25, picture)
    for planes in ((y, none, none), (none, none, none), (y, y[:7, :3], y[:7, :3]), (y, small, y[:16])):
        with pytest.raises(ShapeError) as told:
            stream.push_picture(1.0, picture_of_planes(planes, shares=(0.299, 0.114), full=False))
        assert told.value.fix
    for shape in ((0, 5, 3), (5, 0, 3), (1, 70_000, 3), (5, 5), (5, 5, 4)):
        with pytest.raises(ShapeError) as told:
            stream.push_picture(1.0, np.zeros(shape, np.uint8))
        assert told.value.fix
    for sound in (np.zeros(5), np.zeros((5, 0), np.float32)):
        with pytest.raises(ShapeError) as told:
            stream.push_sound(sound, 0.0)
        assert told.value.fix


@pytest.mark.parametrize("duration_s", [float("nan"), float("inf"), 1e9, -1.0])
def test_a_last_picture_is_not_shown_for_ever(material: Material, duration_s: float) -> None:
    stream = Detector(material.bundle, backend="onnx").open_stream()
    for number in range(60):
        stream.push_picture(number / 25, material.heads[number % 56])
    stream.push_sound(np.full(40_000, 0.1, np.float32), 0.0)
    with pytest.raises(ConfigError, match="last picture"):
        stream.finish(duration_s)
    assert stream.finish()


def test_a_network_without_end_is_refused_before_it_is_built(tmp_path: Path) -> None:
    import torch

    from dfkit.models.checkpoint import load_checkpoint

    weights = {"classifier.0.weight": torch.zeros(2, 900)}
    spec = CLIP2S.model_dump(mode="json")
    content = {"schema_version": 1, "kind": "student", "clip_spec": spec, "network": {"gru_hidden": 10**9}}
    content["model_state_dict"] = weights
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="gru_hidden") as told:
        load_checkpoint(tmp_path / "a.pth")
    assert told.value.fix


def test_a_picture_whose_time_lies_holds_no_other_for_days(material: Material, tmp_path: Path) -> None:
    """One block of a Matroska file says 32 s too late, as its decoding order does not."""
    from tools.fuzz import elements

    found = elements.parse((material.folder / "videos" / "reordered.mkv").read_bytes())
    segment = next(element for element in found if element.kind == elements.SEGMENT)
    cluster = next(element for element in segment.children if element.kind == elements.CLUSTER)
    blocks = [b for b in cluster.children if b.kind in elements.BLOCKS and b.payload[0] & 0x7F == 1]
    blocks[10].payload = blocks[10].payload[:1] + (32_000).to_bytes(2, "big") + blocks[10].payload[3:]
    path = tmp_path / "lies.mkv"
    path.write_bytes(b"".join(element.to_bytes() for element in found))
    survey = survey_file(path)
    times_s = [picture.start_s for picture in PictureDecoder(survey, num_threads=1)]
    assert survey.end_s < 15
    assert len(times_s) >= 45
    assert max(np.diff(times_s)) <= MAX_HOLE_S
