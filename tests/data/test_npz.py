"""NPZ folders of the original teacher."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.data.npz import read_npz_sources, video_groups
from dfkit.data.prepare import convert_npz, prepare
from dfkit.data.splits import make_split
from dfkit.data.storage import PreparedData, verify
from dfkit.errors import DataError


def arrays(**changes: Any) -> dict[str, Any]:
    """A small valid file: two frames of noise."""
    generator = np.random.default_rng(0)
    values = {
        "frames": generator.integers(0, 256, (2, 224, 224, 3)).astype(np.float32) / 255,
        "lip": np.zeros((2, 96, 96, 3), np.float32),
        "audio": np.asfortranarray(generator.normal(size=(7, 40)).astype(np.float32)),
        "label": np.int64(0),
        "video_id": np.str_("1_2.mp4"),
    }
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def write_set(folder: Path, files: dict[str, dict[str, Any]], index: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        np.savez_compressed(folder / name, allow_pickle=True, **content)
    (folder / "train_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("video_id", "groups"),
    [
        ("900000_900100_2_0000.mp4", ("900000", "900100")),
        ("900000_132.mp4", ("900000",)),
        ("7_7_1_2", ("7",)),
        ("interview.mp4", ()),
    ],
)
def test_persons_in_video_ids(video_id: str, groups: tuple[str, ...]) -> None:
    assert video_groups(video_id) == groups


def test_sample_set_converts_once(shared: Path, tmp_path: Path) -> None:
    source = shared / "teacher" / "npz-sample"
    out = tmp_path / "out"
    summary = prepare(source, out)
    assert (summary.num_videos, summary.num_clips, summary.groups_known) == (12, 12, True)
    assert prepare(source, out, layout="npz").unchanged
    assert verify(out).num_clips == 12
    data = PreparedData(out)
    for key in (data.clips[0], data.clips[-1]):
        record = data[key.index]
        original = np.load(data.videos[key.video_index].path, allow_pickle=False)
        assert np.array_equal(record.mfcc, original["audio"])
        assert np.array_equal(record.times_s, original["timestamps"].astype(np.float64))
        error = record.face / 255 - original["frames"]
        # 40 dB: a root mean square of 1 % of the range.
        assert np.sqrt(np.mean(error**2)) <= 0.01
        assert record.label == int(original["label"])
        assert record.landmarks.shape == (50, 0, 2)
    split = make_split(data)
    assert [len(part) for part in split.parts().values()] == [8, 2, 2]
    assert {data.videos[i].split for i in split.val} == {"val"}


def test_lips_of_112_and_a_split_that_leaks(shared: Path, tmp_path: Path) -> None:
    """Its val and test index name the same files: splitting by them is refused, and what is left is two groups."""
    summary = convert_npz(shared / "teacher" / "npz-sample-lip112", tmp_path / "out")
    data = PreparedData(tmp_path / "out")
    assert data.spec.picture.lip_px == 112 and data.spec.preset == "uniform50"
    assert data[0].lip.shape == (50, 112, 112, 3)
    assert any("fake/00001.npz in val and test" in note for note in summary.notes)
    with pytest.raises(DataError, match=r"the same file in two parts(.|\n)*00001\.npz stands in val and test"):
        make_split(data)
    with pytest.raises(DataError, match="too few groups for a val part"):
        make_split(data, use_given=False)
    split = make_split(data, use_given=False, test_share=0)
    assert sorted([*split.train, *split.val]) == [0, 1, 2, 3] and not split.test


def test_two_sizes_of_lips_are_refused(tmp_path: Path) -> None:
    files = {"a.npz": arrays(), "b.npz": arrays(lip=np.zeros((2, 112, 112, 3), np.float32))}
    folder = write_set(tmp_path / "set", files, [entry("a.npz"), entry("b.npz")])
    with pytest.raises(DataError, match=r"96 px in 1 files, as set/a\.npz; 112 px in 1 files, as set/b\.npz"):
        convert_npz(folder, tmp_path / "out")


@pytest.mark.parametrize("kind", ["train_index.json", "train_preprocessed_index.json"])
def test_each_kind_of_index_alone(shared: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(shared / "teacher" / "npz-sample", folder, ignore=shutil.ignore_patterns("*_index.json"))
    rows = json.loads((shared / "teacher" / "npz-sample" / kind).read_text(encoding="utf-8"))
    for row in rows:
        name = "npz_path" if "npz_path" in row else "output_path"
        row[name] = row[name].replace("/", "\\")  # as written on Windows
    (folder / kind).write_text(json.dumps(rows), encoding="utf-8")
    label_set = read_npz_sources(folder)
    assert len(label_set.sources) == len(rows) == 8
    assert {source.split for source in label_set.sources} == {"train"}


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_object_arrays_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], dtype=object)
    pickle.dumps(Bomb())
    content = arrays(phoneme_labels=bomb, timestamps=bomb)
    folder = write_set(tmp_path / "set", {"a.npz": content}, [entry("a.npz")])
    convert_npz(folder, tmp_path / "out")
    record = PreparedData(tmp_path / "out")[0]
    assert np.isnan(record.times_s).all()
    assert not Path("exploded").exists()


def entry(path: str, **changes: Any) -> dict[str, Any]:
    return {"npz_path": path, "label": 0, "video_id": "1_2.mp4", **changes}


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    files = {
        "label.npz": arrays(label=np.int64(1)),
        "noaudio.npz": arrays(audio=None),
        "shape.npz": arrays(frames=np.zeros((2, 100, 100, 3), np.float32)),
        "lips.npz": arrays(lip=np.zeros((3, 96, 96, 3), np.float32)),
        "mfcc.npz": arrays(audio=np.zeros((7, 13), np.float32)),
        "type.npz": arrays(frames=np.zeros((2, 224, 224, 3), np.int16)),
        "nan.npz": arrays(audio=np.full((7, 40), np.nan, np.float32)),
    }
    index = [entry(name) for name in files]
    index += [entry("gone.npz"), entry("x.npz", label="maybe"), entry("label.npz", label=1), entry("text.npz")]
    folder = write_set(tmp_path / "set", files, index)
    (folder / "text.npz").write_text("not a zip")
    with pytest.raises(DataError) as caught:
        convert_npz(folder, tmp_path / "out")
    message = str(caught.value)
    for expected in (
        "train_index.json, entry 7: gone.npz is missing",
        "entry 8: needs npz_path or output_path",
        "label.npz: label ['0', '1'] in",
        "noaudio.npz: without audio",
        "shape.npz: frames of shape (2, 100, 100, 3)",
        "lips.npz: lip of shape (3, 96, 96, 3), expected (2, 96, 96, 3)",
        "mfcc.npz: audio of shape (7, 13)",
        "type.npz: frames of type int16",
        "nan.npz: audio holds NaN",
        "text.npz: cannot be read",
    ):
        assert expected in message
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_label_in_the_file_has_to_agree(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", {"a.npz": arrays(label=np.int64(1))}, [entry("a.npz")])
    with pytest.raises(DataError, match=r"label 1 in the file, real in train_index\.json, entry 0"):
        convert_npz(folder, tmp_path / "out")


@pytest.mark.parametrize(("value", "expected"), [(np.nan, "nan"), (255.0, "255.0"), (-1.0, "-1.0")])
def test_pictures_out_of_range(tmp_path: Path, value: float, expected: str) -> None:
    """Only unpacking shows this: the run ends with the list, and nothing counts as finished."""
    content = arrays()
    content["frames"][1, 5, 5, 0] = value
    files = {"bad.npz": content, "good.npz": arrays()}
    folder = write_set(tmp_path / "set", files, [entry("good.npz"), entry("bad.npz")])
    with pytest.raises(DataError, match=rf"bad\.npz: frames holds values .*{expected}"):
        convert_npz(folder, tmp_path / "out")
    with pytest.raises(DataError, match="not finished"):
        PreparedData(tmp_path / "out")


def test_folder_without_index(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no NPZ index"):
        convert_npz(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("text", ["{", '{"a": 1}'])
def test_index_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "val_index.json").write_text(text)
    with pytest.raises(DataError, match=r"val_index\.json: (not JSON|expected a list)"):
        convert_npz(tmp_path, tmp_path / "out")
