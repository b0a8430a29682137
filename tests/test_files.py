"""Whole files and folders, or none; two writers at once; a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dfkit.errors import DfkitError
from dfkit.files import copy_file, whole_file, whole_folder, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_content_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "made" / "a.txt", "old\n")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old\n"
        raise RuntimeError
    assert path.read_bytes() == b"old\n" and names(path.parent) == ["a.txt"]
    copy_file(path, tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == b"old\n"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert names(tmp_path) == ["a.txt"] and path.read_text(encoding="utf-8") == "first"


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(FileExistsError), whole_folder(target) as mine:
        (mine / "a").touch()
        with whole_folder(target) as other:
            (other / "b").touch()
    assert names(tmp_path) == ["bundle"] and names(target) == ["b"]


def test_a_full_disk_keeps_its_errno_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a.txt", "x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    assert not names(tmp_path)


def test_a_folder_of_that_name_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DfkitError, match=r"a\.txt cannot be written"):
        write_atomically(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]
