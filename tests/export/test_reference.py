"""What only measuring needs, beside a bundle: logits of both networks, the float stages, and times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.data.catalog import write_videos
from dfkit.data.logits_file import write_teacher_logits
from dfkit.data.shards import write_index
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.export import reference, tflite
from dfkit.export.export import parity_clips
from dfkit.export.reference import reference_rows, teacher_logits, write_reference
from dfkit.export.stages import Graph
from dfkit.measures.familiarity import Familiarity, FeatureSpread
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import Checkpoint
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from tests.data.makers import make_prepared, make_row
from tests.runtime.bundles import convert_network
from tests.runtime.fixtures import tiny_bundle, tiny_folder
from tests.training.tiny import CUT, SPEC

__all__ = ["tiny_bundle", "tiny_folder"]


class HandGraphs:
    """Answers whose clip logits are the number of pictures and of samples, times a factor."""

    name, recipe, num_threads = "tflite", "fp32", 1

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"face_features": np.full((len(pictures["face"]), 1), len(pictures["lip"]), np.float32)}

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        value = np.array([inputs["face_features"].sum() / 50, len(inputs["pcm"])], np.float32)
        return np.zeros((50, 2), np.float32), self._factor * value


def stage(factor: float) -> Graph:
    return Graph({}, None, HandGraphs(factor))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Three videos, two clips each; the second is a fake."""
    rows = [make_row(n, n % 2, [f"g{n}"]) for n in range(3)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", rows, clips=2, spec=SPEC))


@pytest.fixture
def student(tmp_path: Path) -> Checkpoint:
    return Checkpoint(MMMSBA(NetworkSpec(**CUT)).eval(), SPEC, "student", tmp_path / "run" / "best.pth")


def keep_teacher(
    student: Checkpoint,
    data: PreparedData,
    logits: list[list[float]],
    *,
    by_video: bool,
    clips: Sequence[int] = range(6),
) -> Path:
    path = student.path.parent / "teacher_logits.npz"
    write_teacher_logits(path, data, np.array(logits), clips, by_video=by_video)
    return path


def test_teacher_logits_by_clip_and_by_video(data: PreparedData, student: Checkpoint) -> None:
    keep_teacher(student, data, [[0, 0.1], [1 / 3, 2 / 3], [2, 0]], by_video=True)
    of = teacher_logits(student, data)
    assert of is not None
    # Clips 2 and 3 are of video 1; six decimals are kept.
    assert of(2) == of(3) == [0.333333, 0.666667]
    assert of(5) == [2.0, 0.0]


def test_a_run_without_a_teacher_has_no_such_logits(data: PreparedData, student: Checkpoint) -> None:
    assert teacher_logits(student, data) is None


@pytest.mark.parametrize("by_video", [False, True])
def test_logits_follow_the_clip_not_its_place(
    data: PreparedData, student: Checkpoint, tmp_path: Path, by_video: bool
) -> None:
    """They were tied to the data by their number alone: of a label file in another order each was another clip's."""
    keep_teacher(student, data, [[0, n] for n in range(3 if by_video else 6)], by_video=by_video)
    again = tmp_path / "again"
    shutil.copytree(data.path, again)
    rows = [data.videos[n] for n in (2, 0, 1)]
    write_videos(again, rows)
    write_index(again, [chunk for row in rows for chunk in row.chunks])
    of = teacher_logits(student, PreparedData(again))
    assert of is not None
    # Clips 0 and 1 are now those of video 2, then 0, then 1.
    expected = [2, 2, 0, 0, 1, 1] if by_video else [4, 5, 0, 1, 2, 3]
    assert [of(clip)[1] for clip in range(6)] == expected


def test_logits_of_other_videos_are_refused(data: PreparedData, student: Checkpoint, tmp_path: Path) -> None:
    """As many clips as before were taken for the same clips."""
    keep_teacher(student, data, [[0, 1]] * 6, by_video=False)
    other = make_prepared(tmp_path / "other", [make_row(n, n % 2, [f"g{n}"]) for n in (0, 1, 3)], clips=2, spec=SPEC)
    with pytest.raises(DataError, match=r"logits of other videos than .*other holds now") as caught:
        teacher_logits(student, PreparedData(other))
    assert "dfkit distill" in str(caught.value)


def test_logits_that_do_not_say_whose_they_are_are_refused(data: PreparedData, student: Checkpoint) -> None:
    path = keep_teacher(student, data, [[0, 1]] * 6, by_video=False)
    np.savez(path, clip_logits=np.zeros((6, 2)), by_video=np.array(False))
    with pytest.raises(DataError, match="does not say which clips"):
        teacher_logits(student, data)


@pytest.mark.parametrize("damage", [lambda whole: b"junk", lambda whole: b"", lambda whole: whole[:-40]])
def test_a_damaged_file_of_logits_is_refused(
    data: PreparedData, student: Checkpoint, damage: Callable[[bytes], bytes]
) -> None:
    """It ended in a traceback of numpy's."""
    path = keep_teacher(student, data, [[0, 1]] * 6, by_video=False)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"teacher_logits\.npz: no logits(.|\n)*Fix: run dfkit distill again, or take"):
        teacher_logits(student, data)


def test_a_clip_that_the_teacher_did_not_answer_is_named(data: PreparedData, student: Checkpoint) -> None:
    """A clip of no split had the logits 0, 0, as if the teacher could not tell."""
    keep_teacher(student, data, [[0, n] for n in range(6)], by_video=False, clips=[0, 1, 4])
    of = teacher_logits(student, data)
    assert of is not None and of(4) == [0.0, 4.0]
    with pytest.raises(DataError, match=r"no logits of /videos/1\.mp4 at 1\.00 s"):
        of(3)


def test_a_row_for_every_held_out_clip(data: PreparedData, student: Checkpoint) -> None:
    keep_teacher(student, data, [[n, -n] for n in range(6)], by_video=False)
    indices = {"train": [0, 1], "val": [3], "test": [4, 5]}
    rows = reference_rows(data, indices, {"tflite fp32": stage(1.0), "tflite int8": stage(0.5)}, student)
    assert [(row["split"], row["teacher"]) for row in rows] == [("val", [3, -3]), ("test", [4, -4]), ("test", [5, -5])]
    # 50 pictures with lips, and 33,408 samples of sound.
    assert rows[0] == {
        "video": "/videos/1.mp4",
        "group": "g1",
        "label": 1,
        "method": "swap",
        "clip_label": 1,
        "clip_start_s": 1.0,
        "track_id": 0,
        "split": "val",
        "teacher": [3.0, -3.0],
        "student_fp32": [50.0, 33408.0],
        "student_int8": [25.0, 16704.0],
    }
    (row,) = reference_rows(data, {"val": [], "test": [0]}, {"onnx fp32": stage(1.0)}, student)
    assert "student_int8" not in row and row["method"] == ""


def test_where_nothing_is_held_out_training_clips_show_what_int8_changes(
    data: PreparedData, student: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_teacher(student, data, [[n, -n] for n in range(6)], by_video=False)
    monkeypatch.setattr("dfkit.export.reference.MAX_TRAINING_ROWS", 3)
    indices = {"train": list(range(6)), "val": [], "test": []}
    rows = reference_rows(data, indices, {"tflite fp32": stage(1.0), "tflite int8": stage(0.5)}, student)
    assert [(row["split"], row["teacher"][0]) for row in rows] == [("train", 0), ("train", 2), ("train", 5)]
    held_out = [clip for clip in parity_clips(data, indices, 2) if clip.kind == "real"]
    assert [clip.name for clip in held_out] == ["0.mp4", "2.mp4"]


def test_the_folder_holds_float_graphs_logits_and_times(
    tiny_bundle: Bundle, student: Checkpoint, tmp_path: Path
) -> None:
    backend, files = convert_network()["tflite_fp32"]
    mixed, mixed_files = convert_network()["tflite"]
    stages = {
        "tflite fp32": Graph(files, backend, open_backend(tiny_bundle), 3.14159),
        "tflite int8": Graph(mixed_files, mixed, open_backend(tiny_bundle), 2.0),
    }
    rows: list[dict[str, Any]] = [{"video": "영상.mp4", "student_fp32": [0.5, -0.5]}]
    folder = tmp_path / "tiny.reference"
    write_reference(folder, student, rows, stages, tiny_bundle.manifest, straight=False)
    assert sorted(path.name for path in folder.iterdir()) == ["export.json", "fp32", "fp32.zip", "logits.jsonl"]
    assert [json.loads(line) for line in (folder / "logits.jsonl").read_text("utf-8").splitlines()] == rows
    assert json.loads((folder / "export.json").read_text())["conversion_s"] == {"tflite fp32": 3.142, "tflite int8": 2}
    twin = open_bundle(folder / "fp32")
    assert (twin.manifest.name, list(twin.manifest.backends)) == ("tiny-fp32", ["tflite"])
    assert twin.manifest.backends["tflite"].recipe == "fp32"
    assert (folder / "fp32" / "model.tflite").read_bytes() == files["model.tflite"]


def test_the_straight_conversion_has_no_features_to_be_far_from(
    tiny_bundle: Bundle, student: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CNNs are wider than those whose features the student's bundle knows: it could not be opened."""
    wide = MMMSBA(NetworkSpec(face_channels=(8, 8, 24), lip_channels=(8, 8, 16), gru_hidden=8, dense_dim=8)).eval()
    monkeypatch.setattr(reference, "straight_network", lambda _: wide)
    monkeypatch.setattr(reference, "straight_model", tflite.convert)
    rng = np.random.default_rng(0)
    spreads = {
        entry.name: FeatureSpread.of(rng.standard_normal((30, entry.shape[-1])))
        for entry in tiny_bundle.manifest.backends["tflite"].encode.outputs  # type: ignore[union-attr]
    }
    known = Familiarity(spreads=spreads, max_distance=3.0, fitted_on="by hand")
    manifest = tiny_bundle.manifest.model_copy(update={"familiarity": known})
    own = Checkpoint(student.network, tiny_bundle.manifest.clip_spec, "student", student.path)
    write_reference(tmp_path / "r", own, [], {}, manifest, straight=True)
    straight = open_bundle(tmp_path / "r" / "straight").manifest
    assert straight.familiarity is None and straight.network["face_channels"] == [8, 8, 24]
