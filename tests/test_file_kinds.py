"""What a file is instead of what it was given for; every video, checkpoint and YAML at hand passes."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfkit.file_kinds import Wanted, foreign_kind

ROOT = Path(__file__).parents[1]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"\xef\xbb\xbf\n<!-- saved -->\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def picture(suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))
    assert done
    return data.tobytes()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 100)
    return buffer.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zipped("a.mp4"))
    data[6] |= 1
    return bytes(data)


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.mp4"))
    return buffer.getvalue()


def box(name: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2")
ENCV = box(b"moov", box(b"stsd", bytes(4) + (1).to_bytes(4, "big") + box(b"encv", bytes(70))))
CASES = {
    "empty": (b"", "empty", "0 bytes"),
    "zeros": (bytes(5000), "zeros", "all its 5000 bytes are zeros"),
    "zeros first": (bytes(2_000_000) + b"x", "zeros", "its first 2000000 of 2000001 bytes"),
    "lfs": (LFS, "lfs_pointer", "Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s1--ab.mp4\n", "lfs_pointer", "git-annex"),
    "page": (PAGE, "web_page", "web page"),
    "utf-16 page": ("<html><body>Log in".encode("utf-16"), "web_page", "web page"),
    "json error": (b'{"error": {"code": 404, "message": "gone"}}', "server_error", "404"),
    "xml error": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "server_error", "AccessDenied"),
    "json": (b'{"videos": []}', "json", "JSON"),
    "png": (picture(".png"), "picture", "PNG"),
    "jpeg": (picture(".jpg"), "picture", "JPEG"),
    "webp": (picture(".webp"), "picture", "WebP"),
    "bmp": (picture(".bmp"), "picture", "BMP"),
    "gif": (b"GIF89a" + bytes(20), "picture", "GIF"),
    "heic": (box(b"ftyp", b"heic\0\0\0\0mif1heic"), "picture", "HEIC"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "picture", "SVG"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "document", "PDF"),
    "text pdf": (b"%PDF-1.4\n1 0 obj", "document", "PDF"),
    "docx": (zipped("[Content_Types].xml", "word/document.xml"), "document", "Office"),
    "zip": (zipped("a.mp4", "b.mp4"), "archive", "zip archive of 2 files"),
    "encrypted zip": (encrypted_zip(), "encrypted", "encrypted zip"),
    "gzip": (gzip.compress(b"x"), "archive", "gzip"),
    "tar": (tarred(), "archive", "tar"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "archive", "7z"),
    "rar": (b"Rar!\x1a\x07\x01\0", "archive", "RAR"),
    "bundle": (zipped("default/manifest.json", "default/model.tflite"), "bundle", "bundle"),
    "npz": (zipped("a.npy"), "npz", "NumPy"),
    "openssl": (b"Salted__" + bytes(range(200)), "encrypted", "OpenSSL"),
    "pgp": (b"-----BEGIN PGP MESSAGE-----\n\nhQEM\n", "encrypted", "PGP"),
    "age": (b"age-encryption.org/v1\n-> X25519 abc\n\xff\xfe\x80\0", "encrypted", "age"),
    "drm": (FTYP + ENCV + box(b"mdat", bytes(50)), "encrypted", "`encv`"),
    "no index": (FTYP + box(b"mdat", bytes(5000)), "incomplete", "without its index"),
    "cut before the index": (FTYP + (10**6).to_bytes(4, "big") + b"mdat" + b"x" * 5000, "incomplete", "moov"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt ", "sound", "WAV"),
    "mp3": (b"ID3\4\0\0\0\0\0\0", "sound", "MP3"),
    "m4a": (box(b"ftyp", b"M4A \0\0\0\0"), "sound", "M4A"),
    "m3u8": (b"#EXTM3U\n#EXT-X-VERSION:3\n", "playlist", "playlist"),
    "url file": (b"[InternetShortcut]\r\nURL=https://example.com/v\r\n", "playlist", "link"),
    "srt": (b"1\r\n00:00:01,000 --> 00:00:02,000\r\nHi\r\n", "subtitle", "subtitles"),
    "vtt": (b"WEBVTT\n\n", "subtitle", "subtitles"),
    "text": (b"not a video at all\n", "text", "begins with 'not a video at all'"),
    "korean text": ("\ud55c\uad6d\uc5b4 ".encode() * 900, "text", "text file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "model", "HDF5"),
}


@pytest.mark.parametrize("case", CASES)
def test_foreign_files_are_named(tmp_path: Path, case: str) -> None:
    content, name, found = CASES[case]
    path = tmp_path / "given.mp4"
    path.write_bytes(content)
    kind = foreign_kind(path, "video")
    assert kind is not None
    assert kind.name == name
    assert found in kind.found
    assert kind.fix


def test_fixes_fit_the_cause(tmp_path: Path) -> None:
    fixes = {}
    for case in ("lfs", "page", "zip", "openssl", "no index", "png"):
        path = tmp_path / "given.mp4"
        path.write_bytes(CASES[case][0])
        kind = foreign_kind(path, "checkpoint")
        assert kind is not None
        fixes[case] = kind.fix
    for case, part in {
        "lfs": "git lfs pull",
        "page": "in a browser",
        "zip": "unpack it",
        "openssl": "decrypt it",
        "no index": "again",
        "png": "give a checkpoint",
    }.items():
        assert part in fixes[case]


def test_names_of_unfinished_downloads(tmp_path: Path) -> None:
    for name in ("clip.mp4.part", "clip.crdownload"):
        (tmp_path / name).write_bytes(FTYP + box(b"moov"))
        kind = foreign_kind(tmp_path / name, "video")
        assert kind is not None
        assert kind.name == "incomplete"
    (tmp_path / "page.part").write_bytes(PAGE)  # what it holds says more
    assert (kind := foreign_kind(tmp_path / "page.part", "video")) is not None
    assert kind.name == "web_page"


def test_a_model_and_a_checkpoint_are_no_video(original_checkpoint: Path) -> None:
    model = next((ROOT / "dfkit" / "media" / "face_models").glob("*.tflite"))
    for path, name in ((model, "model"), (original_checkpoint, "checkpoint")):
        kind = foreign_kind(path, "video")
        assert kind is not None
        assert kind.name == name
    assert foreign_kind(original_checkpoint, "checkpoint") is None


def test_a_cut_checkpoint_is_incomplete(tmp_path: Path, original_checkpoint: Path) -> None:
    path = tmp_path / "fold.pth"
    path.write_bytes(original_checkpoint.read_bytes()[:100_000])
    kind = foreign_kind(path, "checkpoint")
    assert kind is not None
    assert (kind.name, kind.found) == ("incomplete", "a checkpoint of PyTorch of which the end is missing")


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [("video", "dfkit/export/*.mp4"), ("configuration", "configs/*.yaml"), ("configuration", "dfkit/**/*.json")],
)
def test_what_is_wanted_passes(wanted: Wanted, pattern: str) -> None:
    paths = list(ROOT.glob(pattern))
    assert paths
    assert [path for path in paths if foreign_kind(path, wanted) is not None] == []


def test_real_videos_pass(shared: Path) -> None:
    """But for the upload that broke off and the pointer, the cases are videos, damaged ones among them."""
    folders = [shared / "clips", shared / "clips2", shared / "cases"]
    suffixes = {".mp4", ".mkv", ".ts", ".wmv", ".3gp", ".webm", ".mov", ".avi", ".mpg"}
    paths = [p for folder in folders for p in folder.rglob("*") if p.suffix in suffixes]
    assert len(paths) > 100
    named = {path.name: kind.name for path in paths if (kind := foreign_kind(path, "video")) is not None}
    assert named == {"nomoov.mp4": "incomplete", "lfs.mp4": "lfs_pointer"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are made on POSIX systems only")
def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert foreign_kind(tmp_path / "pipe.mp4", "video") is None
    assert foreign_kind(tmp_path, "video") is None


def test_a_runs_json_is_a_configuration_and_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"message": 1, "train": {}}), encoding="utf-8")
    assert (kind := foreign_kind(path, "checkpoint")) is not None
    assert kind.name == "server_error"
