"""One scanner for prepare, predict and visualize: what is a video, what is left out and why."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from dfkit.media import listing
from dfkit.media.container import FORMATS, open_media
from dfkit.media.listing import VIDEO_SUFFIXES, find_named, is_pattern, list_folder

PACKET = b"\x47" + bytes(187)


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(found: listing.Listing) -> list[str]:
    return [path.name for path in found.videos]


def test_every_demuxer_has_its_suffixes() -> None:
    """Files of .ts, .wmv, .flv and more lay in folders and were not seen, though the decoder reads them."""
    assert set(listing.SUFFIXES_BY_FORMAT) == set(FORMATS) - {"m4a", "m4v"}
    assert len(set(VIDEO_SUFFIXES)) == len(VIDEO_SUFFIXES)
    assert not set(VIDEO_SUFFIXES) & set(listing.KIND_OF_SUFFIX)
    asked_for = ".ts .mts .m2ts .wmv .flv .3gp .3g2 .mpg .vob .ogv .mxf .asf .f4v .divx .mp4 .mov .mkv .webm .avi .m4v"
    assert set(asked_for.split()) <= set(VIDEO_SUFFIXES)


def test_other_containers_are_found_and_opened(shared: Path, tmp_path: Path) -> None:
    for suffix in (".ts", ".wmv", ".3gp"):
        shutil.copy(shared / "cases" / f"base{suffix}", tmp_path / f"base{suffix.upper()}")
    found = list_folder(tmp_path)
    assert names(found) == ["base.3GP", "base.TS", "base.WMV"]
    assert not found.notes()
    for path in found.videos:
        with open_media(path) as container:
            assert container.streams.video and container.streams.audio


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_suffixes_in_any_case(tmp_path: Path, suffix: str) -> None:
    path = touch(tmp_path / f"x{suffix.upper()}", 30 * PACKET)
    assert list_folder(tmp_path).videos == [path]


@pytest.mark.parametrize(
    ("content", "is_video"),
    [
        (30 * PACKET, True),
        (b"\x00\x00\x00\x00" + 30 * (PACKET + bytes(4)), True),  # cameras put a time stamp before each packet
        (bytes(100) + 30 * PACKET, True),  # begins within a packet
        (PACKET, True),
        (b"", False),
        (b"export const G = 'GGGG';\n" * 400, False),
        (b'<?xml version="1.0"?><!DOCTYPE TS><TS version="2.1">' + 5000 * b" ", False),
    ],
)
def test_transport_stream_or_source_code(tmp_path: Path, content: bytes, is_video: bool) -> None:
    touch(tmp_path / "x.ts", content)
    found = list_folder(tmp_path)
    assert bool(found.videos) is is_video
    assert found.notes() == ([] if is_video else ["left out: 1 .ts (no MPEG transport stream (TypeScript?))"])


def test_what_is_left_out_is_counted_by_suffix_and_reason(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.WAV", "c.wav", "d.jpg", "e.xyz", ".f.mp4", ".g/h.mp4", "i.rmvb", "j.mp4.part", "k"):
        touch(tmp_path / name)
    found = list_folder(tmp_path)
    assert names(found) == ["a.mp4"]
    (note,) = found.notes()
    assert note.startswith("left out: 2 (hidden), 2 .wav (sound file), ")
    for said in (
        "1 .jpg (picture)",
        "1 .xyz (unknown suffix)",
        "1 .rmvb (video of a kind that is not read)",
        "1 .part (unfinished download)",
        "1 (unknown suffix)",
    ):
        assert said in note


def test_a_hidden_folder_that_is_given_is_read(tmp_path: Path) -> None:
    touch(tmp_path / ".cache/videos/a.mp4")
    assert names(list_folder(tmp_path / ".cache")) == ["a.mp4"]
    assert names(list_folder(tmp_path)) == []


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


@needs_links
def test_loops_of_links_end_and_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "set/real/a.mp4")
    touch(tmp_path / "elsewhere/b.mp4")
    (tmp_path / "set/0up").symlink_to(tmp_path / "set")
    (tmp_path / "set/real/up").symlink_to("..")
    (tmp_path / "set/real/out").symlink_to(tmp_path)
    (tmp_path / "set/0real").symlink_to("real")
    (tmp_path / "set/far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/gone.mp4").symlink_to("nothing.mp4")
    (tmp_path / "set/self.mp4").symlink_to("self.mp4")
    os.mkfifo(tmp_path / "set/pipe.mp4")
    found = list_folder(tmp_path / "set")
    assert [path.relative_to(tmp_path).as_posix() for path in found.videos] == ["set/far/b.mp4", "set/real/a.mp4"]
    (note,) = found.notes()
    assert note == ("left out: 4 (link to a folder read already), 2 .mp4 (broken link), 1 .mp4 (not a regular file)")
    deep = find_named([tmp_path / "set" / "**" / "*.mp4"])
    assert deep.listing.videos == found.videos


def test_folders_that_cannot_be_opened_are_named_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "open/a.mp4")
    touch(tmp_path / "shut/b.mp4")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # The tests' user may be one whom no permission stops.
    monkeypatch.setattr(listing.os, "scandir", refuse)
    found = list_folder(tmp_path)
    assert names(found) == ["a.mp4"]
    assert found.notes() == [f"1 folder that cannot be opened: {tmp_path / 'shut'} (Permission denied)"]


def test_patterns_that_no_shell_expanded(tmp_path: Path) -> None:
    for name in ("v/a.mp4", "v/b.mp4", "v/c.dat", "v/.d.mp4", "v/n.txt", "w/e.mp4", "v/clip [1].mp4"):
        touch(tmp_path / name)

    def found(pattern: str) -> list[str]:
        return sorted(names(find_named([tmp_path / pattern]).listing))

    assert found("v/*.mp4") == ["a.mp4", "b.mp4", "clip [1].mp4"]
    assert found("?/e.mp4") == ["e.mp4"]
    assert found("v/*.dat") == ["c.dat"]
    assert found("v/*") == ["a.mp4", "b.mp4", "clip [1].mp4"]
    assert found("*/clip [1]*") == ["clip [1].mp4"]
    assert found("*") == found("**/*") == found("**") == ["a.mp4", "b.mp4", "clip [1].mp4", "e.mp4"]
    assert found("v/clip [1].mp4") == ["clip [1].mp4"]
    empty = find_named([tmp_path / "v/*.mov"])
    assert empty.empty == [f"no file matches the pattern {tmp_path / 'v/*.mov'}"]
    assert find_named([tmp_path / "v/*.mp4", tmp_path / "v/a.mp4", tmp_path / "v"]).listing.videos == sorted(
        tmp_path / f"v/{name}" for name in ("a.mp4", "b.mp4", "clip [1].mp4")
    )


@needs_links
def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    path = touch(tmp_path / "what?*.mp4")
    touch(tmp_path / "whatever.mp4")
    assert find_named([path]).listing.videos == [path]


@pytest.mark.parametrize(("text", "expected"), [("https://x.org/v.mp4?t=1", False), ("rtsp://x/*", False), ("*", True)])
def test_addresses_are_no_patterns(text: str, expected: bool) -> None:
    assert is_pattern(Path(text)) is expected


def test_a_folder_without_video_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    (said,) = find_named([tmp_path]).empty
    assert said.startswith(f"folder {tmp_path} holds no video (.mov ") and said.endswith(
        "left out: 1 .wav (sound file)"
    )
