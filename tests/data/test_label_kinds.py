"""Labels as people have them: tables of other programs, folders of other names, data sets one level off."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dfkit.data.catalog import DATA_FILE
from dfkit.data.label_words import class_folders, parse_label
from dfkit.data.labels import LabelSet, read_class_folders, read_csv
from dfkit.data.layouts import read_sources
from dfkit.data.prepare import prepare
from dfkit.errors import DataError
from tests.data.makers import make_video
from tests.data.test_layouts import MAKERS, touch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the files that the handed label files name."""
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "b.mp4")
    return tmp_path


def read(folder: Path, content: str | bytes) -> LabelSet:
    path = folder / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path)


def labels_of(label_set: LabelSet) -> dict[str, int | None]:
    return {source.path.name: source.label for source in label_set.sources}


@pytest.mark.parametrize("name", ["semi", "utf16", "floats", "header_upper"])
def test_handed_tables(shared: Path, folder: Path, name: str) -> None:
    shutil.copy(shared / "cases" / f"{name}.csv", folder)
    assert labels_of(read_csv(folder / f"{name}.csv")) == {"a.mp4": 0, "b.mp4": 1}


@pytest.mark.parametrize(
    "content",
    [
        "path\tlabel\na.mp4\treal\nb.mp4\tfake\n",
        " Path , LABEL \n a.mp4 , Real \n b.mp4 , FAKE \n",
        "\ufeffpath;label\r\na.mp4;0,0\r\nb.mp4;1,0\r\n;;\r\n",
        "sep=;\npath;label\na.mp4;real\nb.mp4;fake\n",
        "label|path\nreals|a.mp4\nDeepfake|b.mp4\n",
        "path,is_fake\na.mp4,False\nb.mp4,True\n",
        "path,is_real\na.mp4,1.0\nb.mp4,no\n",
        '"path","label"\n"a.mp4","original"\n"b.mp4","fakes"\n',
        "path,label\r\ra.mp4,real\rb.mp4,fake\r",
        "\n\npath,label,\na.mp4,real,\nb.mp4,fake,\n",
    ],
)
def test_tables_of_other_programs(folder: Path, content: str) -> None:
    found = read(folder, content)
    assert labels_of(found) == {"a.mp4": 0, "b.mp4": 1}
    assert found.notes == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_byte_order_marks(folder: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith(("-le", "-be")) else ""
    content = f"{mark}path,label\na.mp4,real\nb.mp4,fake\n".encode(encoding)
    assert labels_of(read(folder, content)) == {"a.mp4": 0, "b.mp4": 1}


def test_a_path_may_hold_the_other_delimiters(folder: Path) -> None:
    for name in ("x,y.mp4", "x;y.mp4", "x;y,z.mp4"):
        touch(folder / name)
    assert labels_of(read(folder, "path;label\nx,y.mp4;real\n")) == {"x,y.mp4": 0}
    assert labels_of(read(folder, "path,label\nx;y.mp4,real\n")) == {"x;y.mp4": 0}
    assert labels_of(read(folder, 'path;label\n"x;y,z.mp4";real\n')) == {"x;y,z.mp4": 0}
    with pytest.raises(
        DataError, match=r"row 2: 3 cells below a header of 2: a cell that holds a , needs double quotes"
    ):
        read(folder, "path,label\nx,y.mp4,real\n")


def test_decimal_commas_of_intervals(folder: Path) -> None:
    found = read(folder, "path;label;fake_start_s;fake_end_s;Split\nb.mp4;fake;0,5;1,25;Validation\n")
    assert (found.sources[0].intervals, found.sources[0].split) == (((0.5, 1.25),), "val")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,label\na.mp4,True\n", "row 2: label 'True' may mean real or fake: .*call the column is_fake or is_real"),
        ("path,label\na.mp4,2\n", "row 2: label '2' is neither real nor fake"),
        ("path,label\na.mp4,nan\n", "row 2: label 'nan' is neither"),
        ("path,is_fake\na.mp4,fake\n", "row 2: is_fake 'fake' is neither true nor false"),
        ("path,label\na.mp4,\n", "row 2: label '' is neither"),
        ("Label,label,path\n0,1,a.mp4\n", "two columns are named label"),
        ('path,label\n"a.mp4,real\nb.mp4,fake\n', "not a table of commas .*\n  Fix: close every double quote"),
        (b"PK\x03\x04....", r"a spreadsheet \(.xlsx\)"),
    ],
)
def test_tables_that_cannot_be_read(folder: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(folder, content)


@pytest.mark.parametrize(
    ("encoding", "name", "said"),
    [
        ("cp949", "한국.mp4", r"CP949 \(Korean Windows\)"),
        ("cp1252", "Müller é.mp4", r"CP1252 \(Western Windows\)"),
        ("utf-16-le", "a.mp4", "UTF-16-LE text without a byte order mark"),
    ],
)
def test_the_fix_for_another_encoding_works(folder: Path, encoding: str, name: str, said: str) -> None:
    touch(folder / name)
    with pytest.raises(DataError, match=said) as caught:
        read(folder, f"path,label\n{name},real\n".encode(encoding))
    assert caught.value.fix is not None
    command = caught.value.fix.split("or: ")[1].rsplit(" and name ", 1)[0]
    program, *arguments = shlex.split(command)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], check=True)
    assert labels_of(read_csv(folder / "labels-utf8.csv")) == {name: 0}


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        (" Real ", "label", 0),
        ("1.", "label", 1),
        ("1e0", "label", 1),
        ("yes", "label", None),
        ("yes", "is_fake", 1),
        ("F", "is_real", 1),
        ("0", "is_real", 1),
        ("0.5", "is_fake", None),
    ],
)
def test_label_cells(text: str, column: str, expected: int | None) -> None:
    assert parse_label(text, column) == expected


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("original", "deepfake"),
        ("reals", "fakes"),
        ("0", "1"),
        ("Real ", "FAKE"),
        ("real_videos", "Fake Videos"),
        ("originals", "manipulated"),
        ("original", "Face2Face"),
    ],
)
def test_class_folders_of_other_names(tmp_path: Path, real: str, fake: str) -> None:
    touch(tmp_path / real / "a.mp4")
    touch(tmp_path / fake / "deep/b.mp4")
    found = read_sources(tmp_path)
    assert labels_of(found) == {"a.mp4": 0, "b.mp4": 1}
    assert found.sources[1].method == ("Face2Face" if fake == "Face2Face" else None)


def test_real_beside_Real(tmp_path: Path) -> None:  # noqa: N802
    for n, name in enumerate(("real", "Real", "REAL ", "fake")):
        touch(tmp_path / name / f"{n}.mp4")
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this disk knows no case")
    found = read_class_folders(tmp_path)
    assert labels_of(found) == {"0.mp4": 0, "1.mp4": 0, "2.mp4": 0, "3.mp4": 1}
    assert found.notes == ("real: REAL /, Real/, real/; fake: fake/",)


@pytest.mark.parametrize("names", [["0", "1", "2"], ["1"], ["original", "other"], ["a", "b"]])
def test_folders_that_are_no_classes(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        touch(tmp_path / name / "a.mp4")
    assert class_folders(tmp_path) == {}


@pytest.mark.parametrize("pattern", ["{split}/{label}", "{label}/{split}"])
def test_splits_are_taken_from_folders(tmp_path: Path, pattern: str) -> None:
    for n, split in enumerate(("train", "valid", "Test")):
        for label in ("real", "fake"):
            touch(tmp_path / pattern.format(split=split, label=label) / f"{label}{n}.mp4")
    found = read_sources(tmp_path)
    assert len(found.sources) == 6 and found.labelled
    assert {source.path.name[-5]: source.split for source in found.sources} == {"0": "train", "1": "val", "2": "test"}


@pytest.mark.parametrize("above", ["data", "data/FaceForensics++"])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_folders_above_a_known_data_set(tmp_path: Path, name: str, above: str) -> None:
    inner = tmp_path / above
    inner.mkdir(parents=True)
    MAKERS[name](inner)
    expected = read_sources(inner)
    for found in (read_sources(tmp_path), read_sources(tmp_path, layout=name)):
        assert found.sources == expected.sources
        assert f"layout {name}" in found.notes


def test_two_data_sets_below_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        touch(tmp_path / name / "real/a.mp4")
        touch(tmp_path / name / "fake/b.mp4")
    with pytest.raises(DataError, match=r"holds 2 data sets: .*one, .*two\n  Fix: prepare each by itself"):
        read_sources(tmp_path)


@pytest.mark.parametrize(
    ("name", "lacking", "said"),
    [
        ("dfdc", "dfdc_train_part_0/metadata.json", "this looks like DFDC, but metadata.json .* is missing"),
        ("faceforensics", "original_sequences", "looks like FaceForensics.., but original_sequences/ is missing"),
        ("celebdf", "Celeb-real", "this looks like Celeb-DF, but Celeb-real/ is missing"),
        ("kodf", "라벨링데이터", "this looks like KoDF, but the tables .* are missing"),
        ("avdeepfake1m", "train_metadata.json", "this looks like AV-Deepfake1M, but train_metadata.json .* is missing"),
        ("lavdf", "metadata.json", "this looks like LAV-DF, but metadata.json is missing"),
    ],
)
def test_nearly_a_known_data_set_is_named_as_such(tmp_path: Path, name: str, lacking: str, said: str) -> None:
    MAKERS[name](tmp_path)
    victim = tmp_path / lacking
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    with pytest.raises(DataError, match=f"videos without label.*{said}.*\n  Fix: "):
        read_sources(tmp_path)
    assert any(re.search(said, note) for note in read_sources(tmp_path, unlabelled=True).notes)


@pytest.fixture
def handed_layouts(shared: Path, tmp_path: Path) -> Path:
    with tarfile.open(shared / "cases/layouts/avdf_dfdc.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_one_json_per_video(handed_layouts: Path) -> None:
    found = read_sources(handed_layouts / "avdf_per_video")
    assert labels_of(found) == {"real.mp4": 0, "real_video_fake_audio.mp4": 1, "fake_video_fake_audio.mp4": 1}
    fake = next(source for source in found.sources if source.path.name == "real_video_fake_audio.mp4")
    assert (fake.method, fake.intervals, fake.split) == ("audio", ((0.5, 1.2),), "train")
    assert fake.groups == ("id00012/21Uxsk56VDQ/00001/real.mp4", "id00012")
    assert found.groups_known and found.notes[0] == "layout avdeepfake1m"


def test_a_missing_file_is_counted_and_named_everywhere(handed_layouts: Path, tmp_path: Path) -> None:
    summary = prepare(handed_layouts / "dfdc", tmp_path / "out", progress=False)
    assert (summary.num_videos, summary.labels) == (3, {"real": 2, "fake": 1})
    said = f"1 of 4 files that {handed_layouts / 'dfdc'} names are missing: {Path('dfdc_train_part_0/ccc.mp4')}"
    assert said in summary.notes
    info = json.loads((tmp_path / "out" / DATA_FILE).read_text(encoding="utf-8"))
    assert info["missing"] == [str(Path("dfdc_train_part_0/ccc.mp4"))] and said in info["notes"]
    with pytest.raises(DataError, match=r"75% of the files are there, at least 80% are wanted") as caught:
        prepare(handed_layouts / "dfdc", tmp_path / "out", min_coverage=0.8)
    assert caught.value.exit_code == 2


def test_coverage_of_a_table(folder: Path) -> None:
    rows = "path,label\na.mp4,real\ngone1.mp4,fake\ngone1.mp4,fake\ngone2.mp4,fake\n"
    table = folder / "labels.csv"
    table.write_text(rows)
    with pytest.raises(
        DataError, match=r"2 of 3 files .* are missing: gone1.mp4, gone2.mp4; 33% .*\n .*--min-coverage 0.33 goes"
    ):
        read_sources(table)
    assert read_sources(table, min_coverage=0.33).missing == ("gone1.mp4", "gone2.mp4")
    table.write_text("path,label\ngone1.mp4,fake\n")
    with pytest.raises(DataError, match="1 of 1 files"):
        read_sources(table, min_coverage=0)
    with pytest.raises(DataError, match="a coverage of 50 is no share"):
        read_sources(table, min_coverage=50)


def test_a_file_that_comes_later_is_taken(tmp_path: Path) -> None:
    """The catalog says what is missing now, not what was when the data were first prepared."""
    make_video(tmp_path / "a.mp4")
    make_video(tmp_path / "later.mp4", seed=1)
    (tmp_path / "l.csv").write_text("path,label\na.mp4,real\nb.mp4,fake\n")
    from dfkit.clip import UNIFORM50

    def missing() -> list[str]:
        prepare(tmp_path / "l.csv", tmp_path / "out", spec=UNIFORM50, progress=False)
        found = json.loads((tmp_path / "out" / DATA_FILE).read_text(encoding="utf-8"))["missing"]
        assert isinstance(found, list)
        return found

    assert missing() == ["b.mp4"]
    (tmp_path / "later.mp4").rename(tmp_path / "b.mp4")
    assert missing() == []


def test_blank_labels_by_option(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text("path,label\na.mp4,real\nb.mp4,\n")
    assert labels_of(read_sources(table, unlabelled=True)) == {"a.mp4": 0, "b.mp4": None}


def test_names_that_an_archive_changed(folder: Path) -> None:
    """macOS takes letters apart; a table in composed letters names the same file."""
    import unicodedata

    touch(folder / unicodedata.normalize("NFD", "가나.mp4"))
    assert len(read(folder, f"path,label\n{unicodedata.normalize('NFC', '가나.mp4')},real\n").sources) == 1


def test_a_label_file_that_was_overlooked_is_named(folder: Path) -> None:
    (folder / "mine.csv").write_text("Path;Label\na.mp4;real\nb.mp4;fake\n")
    (folder / "other.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"mine\.csv in it holds labels: --labels .*mine\.csv\n  Fix:"):
        read_sources(folder)


def test_fakeavceleb_without_its_videos_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "meta_data.csv")
    touch(tmp_path / "videos/00109.mp4")
    with pytest.raises(
        DataError, match=r"looks like FakeAVCeleb, but none of the folders RealVideo-RealAudio, .* is there"
    ):
        read_sources(tmp_path)


def test_parts_of_dfdc_by_any_name(tmp_path: Path) -> None:
    """Its public sample is called train_sample_videos."""
    MAKERS["dfdc"](tmp_path)
    (tmp_path / "dfdc_train_part_0").rename(tmp_path / "train_sample_videos")
    assert labels_of(read_sources(tmp_path)) == {"aaa.mp4": 0, "bbb.mp4": 1}
    assert len(read_sources(tmp_path / "train_sample_videos").sources) == 2
