"""Adapters on miniature trees, laid out as the public data sets are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dfkit.data.catalog import group_names
from dfkit.data.labels import LabelSet, Source
from dfkit.data.layouts import ADAPTERS, LAYOUTS, detect_layout, read_sources
from dfkit.data.prepare import prepare
from dfkit.errors import DataError
from tests.data.makers import make_row, write_csv


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(path), encoding="utf-8")
    return path


def by_name(label_set: LabelSet) -> dict[str, Source]:
    return {source.path.name: source for source in label_set.sources}


def fakeavceleb(root: Path) -> None:
    rows = [
        ["id00076", "-", "-", "real", "A", "RealVideo-RealAudio", "African", "men", "00109.mp4"],
        ["id00076", "id00476", "-", "wav2lip", "D", "FakeVideo-FakeAudio", "African", "men", "00109_10_wavtolip.mp4"],
        ["id00166", "-", "-", "rtvc", "B", "RealVideo-FakeAudio", "African", "men", "00010.mp4"],
        ["id00166", "id00217", "id00391", "faceswap", "C", "FakeVideo-RealAudio", "African", "men", "00010_f.mp4"],
    ]
    table = []
    for row in rows:
        folder = f"{row[5]}/African/men/{row[0]}"
        touch(root / folder / row[8])
        table.append([*row, f"FakeAVCeleb/{folder}"])
    header = ["source", "target1", "target2", "method", "category", "type", "race", "gender", "path", ""]
    write_csv(root / "meta_data.csv", header, table)


def faceforensics(root: Path) -> None:
    for name in ("033", "097", "500"):
        touch(root / f"original_sequences/youtube/c23/videos/{name}.mp4")
    touch(root / "original_sequences/actors/c23/videos/01__walking.mp4")
    touch(root / "manipulated_sequences/Deepfakes/c23/videos/033_097.mp4")
    touch(root / "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__ABC.mp4")
    touch(root / "manipulated_sequences/Deepfakes/c23/masks/033_097.mp4")
    (root / "splits").mkdir()
    for name, pairs in (("train", [["033", "097"]]), ("val", [["500", "501"]]), ("test", [])):
        (root / f"splits/{name}.json").write_text(json.dumps(pairs))


def dfdc(root: Path) -> None:
    part = root / "dfdc_train_part_0"
    for name in ("aaa.mp4", "bbb.mp4"):
        touch(part / name)
    facts = {
        "aaa.mp4": {"label": "REAL", "split": "train"},
        "bbb.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"},
    }
    (part / "metadata.json").write_text(json.dumps(facts))


def kodf(root: Path) -> None:
    tables = root / "라벨링데이터"
    touch(root / "원천데이터/원본/AB12/AB12_003.mp4")
    touch(root / "원천데이터/변조/dfl1/AB12/AB12_CD34_2_0007.mp4")
    write_csv_made(tables / "원본영상_training_메타데이터.csv", ["영상ID", "UUID"], [["AB12_003.mp4", "AB12"]])
    write_csv_made(
        tables / "변조영상_training_메타데이터.csv",
        ["영상ID", "타겟영상", "타겟UUID", "소스UUID", "변조모델"],
        [["AB12_CD34_2_0007.mp4", "AB12_003.mp4", "AB12", "CD34", "dfl"]],
    )


def write_csv_made(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, header, rows)


def celebdf(root: Path) -> None:
    for name in ("Celeb-real/id0_0000.mp4", "Celeb-real/id1_0003.mp4", "YouTube-real/00012.mp4"):
        touch(root / name)
    touch(root / "Celeb-synthesis/id0_id1_0000.mp4")
    (root / "List_of_testing_videos.txt").write_text("1 YouTube-real/00012.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n")


def lavdf(root: Path) -> None:
    entries = [
        {"file": "train/000001.mp4", "original": None, "split": "train", "n_fakes": 0, "fake_periods": []},
        {
            "file": "dev/000002.mp4",
            "original": "dev/000009.mp4",
            "split": "dev",
            "n_fakes": 1,
            "fake_periods": [[1.0, 1.5]],
            "visual_fake_periods": [[1.0, 1.5]],
            "audio_fake_periods": [],
            "modify_video": True,
            "modify_audio": False,
        },
    ]
    for entry in entries:
        touch(root / str(entry["file"]))
    (root / "metadata.json").write_text(json.dumps(entries))


def avdeepfake1m(root: Path) -> None:
    base = "id00012/21Uxsk56VDQ/00001"
    entries = [
        {"file": f"{base}/real.mp4", "original": None, "split": "train", "fake_segments": []},
        {
            "file": f"{base}/fake_video_fake_audio.mp4",
            "original": f"{base}/real.mp4",
            "split": "train",
            "modify_type": "both_modified",
            "fake_segments": [[3.2, 3.5]],
            "visual_fake_segments": [[3.28, 3.46]],
            "audio_fake_segments": [[3.2, 3.5]],
        },
    ]
    for entry in entries:
        touch(root / "train" / str(entry["file"]))
    (root / "train_metadata.json").write_text(json.dumps(entries))


MAKERS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker for maker in (fakeavceleb, faceforensics, dfdc, kodf, celebdf, lavdf, avdeepfake1m)
}


@pytest.fixture(params=sorted(MAKERS))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    root = tmp_path / "set"
    root.mkdir()
    MAKERS[request.param](root)
    return request.param, root


def test_every_adapter_has_a_tree() -> None:
    assert {layout.name for layout in ADAPTERS} == set(MAKERS)
    assert set(MAKERS) | {"auto", "npz", "folders", "csv"} == set(LAYOUTS)


def test_layout_is_found_by_itself_and_alone(tree: tuple[str, Path]) -> None:
    name, root = tree
    assert [layout.name for layout in ADAPTERS if layout.detect(root)] == [name]
    found = read_sources(root)
    assert found == read_sources(root, layout=name)
    assert found.notes[0] == f"layout {name}"
    unnamed = {"dfdc": 2, "lavdf": 2, "celebdf": 1}.get(name, 0)
    assert found.groups_known is not bool(unnamed)
    said = [note for note in found.notes if note.startswith(f"{unnamed} of {len(found.sources)} files do not say who")]
    assert bool(said) is bool(unnamed)
    assert {source.label for source in found.sources} == {0, 1}


def test_another_layouts_name_is_refused_with_what_was_found(tree: tuple[str, Path]) -> None:
    name, root = tree
    for other in {layout.name for layout in ADAPTERS} - {name}:
        with pytest.raises(DataError) as caught:
            read_sources(root, layout=other)
        message = str(caught.value)
        assert ("expected" in message and "found" in message) or "missing" in message
        assert "Fix:" in message


def test_fakeavceleb(tmp_path: Path) -> None:
    fakeavceleb(tmp_path)
    found = by_name(read_sources(tmp_path))
    assert found["00109.mp4"].label == 0
    assert found["00109.mp4"].method is None
    assert found["00109_10_wavtolip.mp4"].groups == ("id00076", "id00476")
    assert found["00109_10_wavtolip.mp4"].method == "wav2lip"
    assert found["00010.mp4"].label == 1  # real pictures, fake sound
    assert found["00010_f.mp4"].groups == ("id00166", "id00217", "id00391")


def test_fakeavceleb_without_its_table(tmp_path: Path) -> None:
    touch(tmp_path / "FakeAVCeleb/RealVideo-RealAudio/African/men/id00076/00109.mp4")
    touch(tmp_path / "FakeAVCeleb/FakeVideo-FakeAudio/African/men/id00076/00109_10_id00476_wavtolip.mp4")
    touch(tmp_path / "FakeAVCeleb/FakeVideo-RealAudio/African/men/id00076/1_id00476_fsgan.mp4")
    found = by_name(read_sources(tmp_path))
    assert found["00109_10_id00476_wavtolip.mp4"].groups == ("id00076", "id00476")
    assert found["00109_10_id00476_wavtolip.mp4"].method == "wav2lip"
    assert found["1_id00476_fsgan.mp4"].method == "fsgan"


def test_faceforensics(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    label_set = read_sources(tmp_path)
    found = by_name(label_set)
    assert len(found) == 6
    assert found["033_097.mp4"].groups == ("youtube:033", "youtube:097")
    assert (found["033_097.mp4"].method, found["033_097.mp4"].split) == ("Deepfakes", "train")
    assert found["500.mp4"].split == "val"
    assert found["01_02__walking__ABC.mp4"].groups == ("actor:01", "actor:02")
    assert any("no sound" in note for note in label_set.notes)


def test_dfdc(tmp_path: Path) -> None:
    """Its groups counted as known, though its actors recur and nothing names them."""
    dfdc(tmp_path)
    assert not read_sources(tmp_path).groups_known
    found = by_name(read_sources(tmp_path))
    assert (found["bbb.mp4"].label, found["bbb.mp4"].groups) == (1, ("aaa.mp4",))
    assert found["aaa.mp4"].groups == ("aaa.mp4",)
    rows = [make_row(n, source.label, source.groups) for n, source in enumerate(found.values())]
    assert len(set(group_names(rows))) == 1, "an original and its fakes stay together in every split"
    one_part = read_sources(tmp_path / "dfdc_train_part_0")
    assert len(one_part.sources) == 2


def test_kodf(tmp_path: Path) -> None:
    kodf(tmp_path)
    label_set = read_sources(tmp_path)
    found = by_name(label_set)
    assert found["AB12_003.mp4"].groups == ("AB12_003", "AB12")
    fake = found["AB12_CD34_2_0007.mp4"]
    assert (fake.label, fake.method, fake.split) == (1, "dfl", "train")
    assert fake.groups == ("AB12_003", "AB12")
    assert any("length gives the label away" in note for note in label_set.notes)


def test_kodf_in_korean_windows_text(tmp_path: Path) -> None:
    kodf(tmp_path)
    for path in tmp_path.rglob("*.csv"):
        path.write_bytes(path.read_text(encoding="utf-8").encode("cp949"))
    assert len(read_sources(tmp_path).sources) == 2


def test_kodf_with_another_header(tmp_path: Path) -> None:
    kodf(tmp_path)
    (path,) = tmp_path.rglob("변조*.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("변조모델", "모델"), encoding="utf-8")
    with pytest.raises(DataError, match=r"expected the columns 영상ID, 타겟영상, 변조모델; found 영상ID, .*모델"):
        read_sources(tmp_path)


def test_celebdf(tmp_path: Path) -> None:
    celebdf(tmp_path)
    found = by_name(read_sources(tmp_path))
    assert found["id0_id1_0000.mp4"].groups == ("id0", "id1")
    assert (found["id0_id1_0000.mp4"].split, found["id0_0000.mp4"].split) == ("test", "train")
    assert found["00012.mp4"].groups == ("YouTube-real:00012",)


def test_celebdf_list_that_contradicts_the_folders(tmp_path: Path) -> None:
    celebdf(tmp_path)
    path = tmp_path / "List_of_testing_videos.txt"
    path.write_text(path.read_text().replace("0 Celeb-synthesis", "1 Celeb-synthesis"))
    with pytest.raises(DataError, match=r"line 2: .*expected 1 for real, 0 for fake"):
        read_sources(tmp_path)


def test_lavdf(tmp_path: Path) -> None:
    lavdf(tmp_path)
    found = by_name(read_sources(tmp_path))
    fake = found["000002.mp4"]
    assert (fake.label, fake.split, fake.method) == (1, "val", "visual")
    assert fake.intervals == ((1.0, 1.5),)
    assert fake.groups == ("dev/000009.mp4",)
    assert found["000001.mp4"].intervals == ()


def test_lavdf_with_other_field_names(tmp_path: Path) -> None:
    lavdf(tmp_path)
    path = tmp_path / "metadata.json"
    path.write_text(path.read_text().replace("fake_periods", "forged_spans"))
    with pytest.raises(DataError, match="entry 0: none of fake_periods, fake_segments in file, original"):
        read_sources(tmp_path)


def test_lavdf_periods_that_are_none(tmp_path: Path) -> None:
    lavdf(tmp_path)
    path = tmp_path / "metadata.json"
    path.write_text(path.read_text().replace("[[1.0, 1.5]]", "[[1.5, 1.0]]"))
    with pytest.raises(DataError, match="entry 1: fake periods are not pairs of seconds"):
        read_sources(tmp_path)


def test_avdeepfake1m(tmp_path: Path) -> None:
    avdeepfake1m(tmp_path)
    found = by_name(read_sources(tmp_path))
    fake = found["fake_video_fake_audio.mp4"]
    assert fake.groups == ("id00012/21Uxsk56VDQ/00001/real.mp4", "id00012")
    assert (fake.method, fake.split) == ("both", "train")
    assert fake.intervals == ((3.2, 3.5), (3.28, 3.46))


def test_missing_files_are_counted_and_named(tree: tuple[str, Path]) -> None:
    """One missing file of a hundred thousand was fatal."""
    name, root = tree
    victim = next(source.path for source in read_sources(root).sources if source.label == 1)
    num_named = len(read_sources(root).sources)
    victim.unlink()
    # Sets whose labels are their folders do not miss a file.
    if name in ("faceforensics",):
        assert victim not in {source.path for source in read_sources(root).sources}
        return
    found = read_sources(root, layout=name)
    (missing,) = found.missing
    assert victim.name in missing
    assert len(found.sources) == num_named - 1
    assert found.notes[-1] == f"1 of {num_named} files that {root} names are missing: {missing}"
    with pytest.raises(DataError, match=r"missing: .*at least 99% are wanted.*\n  Fix: .*--min-coverage"):
        read_sources(root, layout=name, min_coverage=0.99)


def test_own_kinds_of_sources(tmp_path: Path) -> None:
    touch(tmp_path / "v/real/a.mp4")
    touch(tmp_path / "v/fake/b.mp4")
    assert read_sources(tmp_path / "v").count(1) == 1
    assert read_sources(tmp_path / "v", layout="folders").count(0) == 1
    assert read_sources(tmp_path / "v/real", unlabelled=True).count(None) == 1
    assert read_sources([tmp_path / "v/real/a.mp4", tmp_path / "v/fake"], unlabelled=True).count(None) == 2
    with pytest.raises(DataError, match=r"1 video without label; .* is named as a class.*\n .*--unlabelled"):
        read_sources(tmp_path / "v/real")
    table = write_csv(tmp_path / "l.csv", ["path", "label"], [["v/real/a.mp4", "real"], ["v/fake/b.mp4", "fake"]])
    assert read_sources(table).count(0) == 1
    assert read_sources(tmp_path / "v", labels=table).count(1) == 1
    inner = write_csv(tmp_path / "m.csv", ["path", "label"], [["real/a.mp4", "real"], ["fake/b.mp4", "fake"]])
    assert read_sources(tmp_path / "v", labels=inner).count(1) == 1
    assert detect_layout(tmp_path / "v") is None
    with pytest.raises(DataError, match=r"expected the folders real/ and fake/; found a\.mp4"):
        read_sources(tmp_path / "v/real", layout="folders")
    with pytest.raises(DataError, match="layout 'ucf101' is none of auto, fakeavceleb"):
        read_sources(tmp_path / "v", layout="ucf101")


def test_a_set_goes_through_prepare(shared: Path, tmp_path: Path) -> None:
    """LAV-DF's tree with real videos: intervals come out as labels of frames."""
    root = tmp_path / "set"
    lavdf(root_made(root))
    shutil.copy(shared / "clips" / "lipnet-bbaf2n.mpg", root / "train/000001.mp4")
    shutil.copy(shared / "clips" / "lipnet-brbk7n.mpg", root / "dev/000002.mp4")
    summary = prepare(root, tmp_path / "out")
    assert summary.statuses == {"ok": 2}
    from dfkit.data.storage import PreparedData

    data = PreparedData(tmp_path / "out")
    index = next(i for i, row in enumerate(data.videos) if row.label == 1)
    record = data[data.clip_indices([index])[0]]
    marked = record.times_s[record.frame_labels == 1]
    assert marked.min() >= 1.0
    assert marked.max() < 1.5
    assert len(marked) == pytest.approx(12.5, abs=1)


def root_made(root: Path) -> Path:
    root.mkdir()
    return root


def test_a_folder_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "v/a.mp4")

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests' user may be one whom no permission stops.
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"v: cannot be opened \(Permission denied\)\n  Fix: "):
        read_sources(tmp_path / "v")
