"""Labels from folders and CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.data.catalog import group_names
from dfkit.data.groups import components
from dfkit.data.labels import interval_faults, read_class_folders, read_csv, read_unlabelled
from dfkit.data.splits import Split, check_leaks
from dfkit.errors import DataError
from dfkit.media.listing import list_videos
from tests.data.makers import make_row, make_video, write_csv


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or str(path), encoding="utf-8")
    return path


def test_class_folders_at_any_depth_and_with_korean_names(tmp_path: Path) -> None:
    touch(tmp_path / "real/원본 영상.MP4")
    touch(tmp_path / "Fake/a/b/c.mkv")
    touch(tmp_path / "Fake/notes.txt")
    touch(tmp_path / "real/.hidden/x.mp4")
    touch(tmp_path / "other/y.webm")
    label_set = read_class_folders(tmp_path)
    assert [(s.path.name, s.label) for s in label_set.sources] == [("원본 영상.MP4", 0), ("c.mkv", 1)]
    assert not label_set.groups_known
    assert label_set.notes == (
        "1 videos outside of real/ and fake/ are left out",
        "left out: 1 (hidden), 1 .txt (unknown suffix)",
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".avi", ".m4v"])
def test_all_suffixes_are_videos(tmp_path: Path, suffix: str) -> None:
    assert list_videos(tmp_path) == []
    path = touch(tmp_path / f"x{suffix.upper()}")
    assert list_videos(tmp_path) == [path]


def test_one_content_under_two_labels_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "real/a.mp4", "same content")
    touch(tmp_path / "fake/b.mp4", "same content")
    with pytest.raises(DataError, match=r"one content under two labels: .*a\.mp4 \(real\), .*b\.mp4 \(fake\)"):
        read_class_folders(tmp_path)


def test_csv_merges_rows_and_names_what_it_ignores(tmp_path: Path) -> None:
    for name in ("a.mp4", "b c.mp4", "sub/d.mp4"):
        touch(tmp_path / name)
    path = write_csv(
        tmp_path / "labels.csv",
        ["path", "label", "group", "method", "fake_start_s", "fake_end_s", "split", "colour"],
        [
            ["a.mp4", "real", "p1", "", "", "", "train", "red"],
            ["b c.mp4", "1", "p1;p2", "swap", "3", "4.5", "train", ""],
            ["b c.mp4", "FAKE", "p3", "swap", "0.5", "1", "train", ""],
            ["sub\\d.mp4", "0", "p9", "", "", "", "test", ""],
        ],
    )
    label_set = read_csv(path)
    real, fake, other = label_set.sources
    assert (fake.label, fake.groups, fake.method) == (1, ("p1", "p2", "p3"), "swap")
    assert fake.intervals == ((0.5, 1.0), (3.0, 4.5))
    assert (real.split, other.split) == ("train", "test")
    assert other.path == tmp_path / "sub/d.mp4"
    assert label_set.groups_known
    assert label_set.notes == ("further columns kept: colour",)


def test_csv_reports_every_fault_with_its_row(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", "A")
    touch(tmp_path / "b.mp4", "B")
    path = write_csv(
        tmp_path / "labels.csv",
        ["path", "label", "fake_start_s", "fake_end_s", "split"],
        [
            ["gone.mp4", "real", "", "", ""],
            ["a.mp4", "maybe", "", "", ""],
            ["a.mp4", "fake", "2", "1", ""],
            ["a.mp4", "fake", "nan", "1", ""],
            ["a.mp4", "fake", "one", "2", ""],
            ["a.mp4", "real", "0", "1", ""],
            ["a.mp4", "real", "", "", "holdout"],
            ["", "real", "", "", ""],
            ["b.mp4", "real", "", "", ""],
            ["b.mp4", "fake", "", "", ""],
        ],
    )
    with pytest.raises(DataError) as caught:
        read_csv(path)
    message = str(caught.value)
    for expected in (
        "row 3: label 'maybe' is neither real nor fake",
        "row 4: interval 2 to 1 s",
        "row 5: interval nan to 1 s",
        "row 6: interval 'one' to '2' is not two numbers",
        "row 7: a real video with a fake interval",
        "row 8: split 'holdout' is none of train, val, test",
        "row 9: path is empty",
        "rows 10 and 11: b.mp4 is under two labels",
        "Fix:",
    ):
        assert expected in message
    assert "8 faults" in message


def test_csv_of_equal_contents_under_two_labels(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", "same")
    touch(tmp_path / "b.mp4", "same")
    path = write_csv(tmp_path / "l.csv", ["path", "label"], [["a.mp4", "real"], ["b.mp4", "fake"]])
    with pytest.raises(DataError, match=r"row 2.*row 3"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"file,label\na.mp4,real\n", "the header lacks path; it has file, label"),
        (b"file\n", r"make the first line: path,label\[,group,.*,split,groups_known\]"),
        (b"", "the header lacks path and label; it has nothing"),
        (b"path,label\n", "no rows below the header"),
        (b"path,label\n\xff\xfe,real\n", "not UTF-8"),
    ],
)
def test_csv_that_is_none(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected):
        read_csv(path)


def test_a_blank_group_is_its_own_and_the_others_hold(tmp_path: Path) -> None:
    """One blank cell switched all groups off: alice stood in training and in test."""
    for name in "abcd":
        touch(tmp_path / f"{name}.mp4")
    groups = {"a": "alice", "b": "alice", "c": "bob", "d": ""}
    rows = [[f"{name}.mp4", n % 2, group] for n, (name, group) in enumerate(groups.items())]
    label_set = read_csv(write_csv(tmp_path / "l.csv", ["path", "label", "group"], rows))
    assert not label_set.groups_known, "the persons of one file may leak, so every metric says so"
    assert label_set.notes == (
        "1 of 4 files have no group (rows 5): each is its own, and their persons may leak; all other groups hold",
    )
    rows = [make_row(n, source.label, source.groups) for n, source in enumerate(label_set.sources)]
    names = group_names(rows)
    assert names[:3] == ["alice", "alice", "bob"]
    assert names[3] not in names[:3]
    leaking = Split(train=(0, 2), val=(3,), test=(1,), groups_known=False, seed=0)
    with pytest.raises(DataError, match="group alice stands in"):
        check_leaks(leaking, rows)


def test_groups_that_do_not_name_every_person(tmp_path: Path) -> None:
    """A label file could not say it: groups made by a tool counted as known whatever they were made of."""
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "b.mp4")
    header = ["path", "label", "group", "groups_known"]
    path = write_csv(tmp_path / "l.csv", header, [["a.mp4", "real", "p", "no"], ["b.mp4", "real", "q", "yes"]])
    label_set = read_csv(path)
    assert not label_set.groups_known
    assert [source.groups for source in label_set.sources] == [("p",), ("q",)]
    assert label_set.notes == ("the groups of 1 rows do not name every person (column groups_known)",)
    path.write_text(path.read_text().replace(",no", ",perhaps"))
    with pytest.raises(DataError, match="row 2: groups_known 'perhaps' is neither yes nor no"):
        read_csv(path)


def test_byte_order_mark_of_a_spreadsheet(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    path = tmp_path / "l.csv"
    path.write_text("\ufeffpath,label\na.mp4,real\n", encoding="utf-8")
    assert read_csv(path).sources[0].label == 0


def test_unlabelled_files_and_folders(tmp_path: Path) -> None:
    one = touch(tmp_path / "one.mp4")
    touch(tmp_path / "folder/two.mov")
    label_set = read_unlabelled([one, tmp_path / "folder", one])
    assert [source.label for source in label_set.sources] == [None, None]
    assert not label_set.labelled
    with pytest.raises(DataError, match="no such file"):
        read_unlabelled([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video found"):
        read_unlabelled([tmp_path / "empty"])


def test_interval_outside_of_the_video(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", num_frames=75)
    path = write_csv(
        tmp_path / "l.csv",
        ["path", "label", "fake_start_s", "fake_end_s"],
        [["a.mp4", "fake", 1, 2], ["a.mp4", "fake", 5, 9]],
    )
    (fault,) = interval_faults(read_csv(path).sources)
    assert fault.startswith("row 2: a.mp4: interval ends at 9 s, the video at 3.0")


def test_components_join_what_shares_an_id() -> None:
    files = [["a"], ["b", "c"], ["d"], ["c", "a"], ["e", "d"]]
    assert components(files) == ["a", "a", "d", "a", "d"]


def test_components_of_a_long_chain() -> None:
    chain = [[f"{i:05d}", f"{i + 1:05d}"] for i in range(5000)]
    assert set(components(chain[::-1])) == {"00000"}
