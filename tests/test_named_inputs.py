"""What is no video, bundle or checkpoint is named for what it is; what would hang is never opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dfkit.clip import CLIP2S
from dfkit.data.jobs import VideoJob, prepare_video
from dfkit.data.labels import Source
from dfkit.errors import BundleError, CheckpointError, DataError
from dfkit.named_inputs import require_bundle, require_checkpoint, require_videos, video_fault
from dfkit.runtime.bundle import open_bundle
from tests.cli.stand_ins import run
from tests.runtime.fixtures import tiny_folder

__all__ = ["tiny_folder"]
URLS = [
    ("https://example.org/a/talk.mp4?x=1", "curl -L -o 'talk.mp4' 'https://example.org/a/talk.mp4?x=1'"),
    ("http://example.org/watch", "curl -L -o 'video.mp4' 'http://example.org/watch'"),
    ("rtsp://camera/1", "ffmpeg -i 'rtsp://camera/1' -t 60 recording.mp4"),
    ("file:///home/a.mp4", "without file://"),
    ("s3://bucket/a.mp4", "copy it to this machine"),
]


@pytest.mark.parametrize(("url", "fix"), URLS)
def test_an_address_comes_with_the_way_to_a_file(url: str, fix: str) -> None:
    fault = video_fault(Path(url))
    assert fault is not None and "is an address, not a file" in fault.found and fix in fault.fix
    if not url.startswith("file"):
        assert url in fault.found, "as it was typed: a path has one slash less"


@pytest.mark.parametrize("name", ["c:/videos/a.mp4", "gone.mp4", "a:b.mp4", "talk [1080p", "ünï.mp4"])
def test_a_file_that_is_not_there_is_none_of_these(name: str) -> None:
    fault = video_fault(Path(name))
    assert fault is None or ("pattern" in fault.found and "[" in name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path, tiny_folder: Path) -> None:
    """Reading one waits for ever; `prepare` hashed it."""
    pipe, place = tmp_path / "talk.mp4", tmp_path / "s.mp4"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        kinds = [(pipe, "a pipe"), (place, "a socket"), (Path(os.devnull), "a device")]
        for path, kind in kinds:
            fault = video_fault(path)
            assert fault is not None and f"{path} is {kind}" in fault.found and "into a file" in fault.fix
    with pytest.raises(BundleError, match="a pipe"):
        open_bundle(pipe)
    with pytest.raises(CheckpointError, match="a pipe"):
        require_checkpoint(pipe)
    row = prepare_video(VideoJob(Source(pipe, 0), CLIP2S, tmp_path))
    assert row.status == "unreadable" and "is a pipe" in (row.reason or "")
    done = run("predict", pipe, "--bundle", tiny_folder)
    assert done.exit_code == 2 and "unreadable: " in done.stdout and "is a pipe, not a file" in done.stdout


def test_patterns_archives_and_standard_input(tmp_path: Path) -> None:
    archive = tmp_path / "videos.zip"
    archive.write_bytes(b"PK")
    expected = {
        tmp_path / "*.mp4": ("is a pattern", "quotes"),
        archive: ("is an archive", "unpack it"),
        archive / "a" / "b.mp4": (f"{archive} is an archive, not a folder", f"unpack {archive}"),
        Path("-"): ("standard input", "into a file"),
    }
    for path, (found, fix) in expected.items():
        fault = video_fault(path)
        assert fault is not None and found in fault.found and fix in fault.fix
    named = tmp_path / "a[1].mp4"
    named.write_bytes(b"x")
    assert video_fault(named) is None
    with pytest.raises(DataError, match=r"is a pattern(.|\n)*standard input(.|\n)*Fix: leave the quotes"):
        require_videos([tmp_path / "*.mp4", named, Path("-")])


def test_models_in_the_wrong_place(tiny_folder: Path, tmp_path: Path) -> None:
    graph, lone, weights = tiny_folder / "model.tflite", tmp_path / "m.tflite", tmp_path / "fold4.pth"
    for path in (lone, weights):
        path.write_bytes(b"x")
    cases = [
        (require_bundle, graph, f"name the bundle that it belongs to: {tiny_folder}"),
        (require_bundle, lone, f"dfkit inspect {lone}"),
        (require_bundle, weights, f"--checkpoint {weights}"),
        (require_bundle, tiny_folder / "manifest.json", f"name its folder: {tiny_folder}"),
        (require_checkpoint, tiny_folder, f"--bundle {tiny_folder}"),
        (require_checkpoint, graph, f"--bundle {tiny_folder}"),
        (require_checkpoint, tmp_path, str(tmp_path / "NAME.pth")),
    ]
    for check, path, fix in cases:
        with pytest.raises((BundleError, CheckpointError)) as caught:
            check(path)
        assert fix in (caught.value.fix or ""), path
    for path, option in ((graph, f"--bundle {tiny_folder}"), (weights, "--checkpoint"), (tiny_folder, "--bundle")):
        fault = video_fault(path)
        assert fault is not None and option in fault.fix
    require_bundle(tiny_folder)
    require_checkpoint(weights)


def test_commands_say_it(tiny_folder: Path, tmp_path: Path) -> None:
    for args in (
        ("verify", tiny_folder / "model.tflite"),
        ("predict", "a.mp4", "--bundle", tiny_folder / "model.tflite"),
    ):
        done = run(*args)
        assert done.exit_code == 2 and f"Fix: name the bundle that it belongs to: {tiny_folder}" in done.stderr
    done = run("predict", "a.mp4", "--checkpoint", tiny_folder)
    assert done.exit_code == 2 and f"Fix: --bundle {tiny_folder}" in done.stderr
    for args in (("prepare", "https://example.org/a.mp4", "-w", tmp_path), ("predict", "https://example.org/a.mp4")):
        done = run(*args, *(["--bundle", tiny_folder] if args[0] == "predict" else []))
        assert done.exit_code == 2 and "curl -L -o 'a.mp4' 'https://example.org/a.mp4'" in done.stderr + done.stdout
