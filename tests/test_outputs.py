"""What cannot be written is a message with a fix, whichever command meets it; what cannot be read is told from that."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dfkit.console import guarded
from dfkit.errors import DfkitError
from dfkit.files import check_output_folder, explain_os_error, whole_file
from tests.runtime.fixtures import tiny_folder

__all__ = ["tiny_folder"]
DROP_CAPABILITY, OVERRIDE_PERMISSIONS, READ_ANYTHING = 24, 1, 2
"""Of Linux: prctl's PR_CAPBSET_DROP, and the capabilities by which root passes over permission bits."""


BOUND_BY_PERMISSIONS = f"""
import ctypes, os, sys
if sys.platform == "linux" and os.geteuid() == 0:
    for capability in ({OVERRIDE_PERMISSIONS}, {READ_ANYTHING}):
        ctypes.CDLL(None).prctl({DROP_CAPABILITY}, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "dfkit", *sys.argv[1:]])
"""
"""Runs dfkit such that permissions hold for it, though root starts it."""


def run(*args: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BOUND_BY_PERMISSIONS, *map(str, args)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing can be written to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield folder
    folder.chmod(stat.S_IRWXU)


@pytest.mark.skipif(sys.platform == "win32", reason="folders there have no such permission")
def test_a_read_only_place_is_a_message(read_only: Path, tiny_folder: Path, talk_text: Path, tmp_path: Path) -> None:
    for args in (
        ("predict", talk_text, "--bundle", tiny_folder, "--csv", read_only / "o.csv"),
        ("visualize", talk_text, "--bundle", tiny_folder, "--out", read_only / "pictures"),
        ("prepare", talk_text, "-w", read_only),
        ("bench", tiny_folder, "-w", read_only),
    ):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 2, (args, done.stderr)
        assert f"cannot be written: you may not write in {read_only}" in done.stderr, args
        assert "Fix: name a place that you may write to" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def talk_text(tmp_path: Path) -> Path:
    """Named as a video: what is refused before it is opened need not be one."""
    path = tmp_path / "talk.mp4"
    path.write_text("no video", encoding="utf-8")
    return path


def failing(action: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as caught:
        action()
    return caught.value


def test_each_cause_has_its_fix(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    cases = [
        (lambda: (file / "a" / "b").mkdir(parents=True), rf"{file} is a file, and a folder is needed", f"move {file}"),
        (lambda: file.mkdir(exist_ok=True), rf"{file} is a file, and a folder is needed", f"move {file}"),
        (lambda: tmp_path.write_text("x"), "is a folder, and a file is needed", "name a file"),
        (lambda: (tmp_path / ("x" * 300)).write_text("x"), "name is too long", "shorter"),
        ((tmp_path / "gone.pth").read_bytes, f"no such file or folder: {tmp_path / 'gone.pth'}", "path"),
    ]
    for action, found, fix in cases:
        explained = explain_os_error(failing(action))
        assert explained is not None and found.replace("\\", "") in explained.found and fix in str(explained.fix)
    for code, found in ((errno.EROFS, "read-only"), (errno.ENOSPC, "no space left"), (errno.EIO, "Input/output")):
        explained = explain_os_error(OSError(code, os.strerror(code), str(tmp_path / "a")))
        assert explained is not None and found in explained.found


def test_errors_of_our_own_keep_their_traceback() -> None:
    """A file of the package that is missing, a program that is not there, an error that names no file."""
    ours = Path(__file__).parents[1] / "dfkit" / "media" / "gone.bin"
    actions: list[Callable[[], object]] = [ours.read_bytes, lambda: subprocess.run(["no-such-program"], check=False)]
    for action in actions:
        assert explain_os_error(failing(action)) is None

        def command(act: Callable[[], object] = action) -> None:
            act()

        with pytest.raises(FileNotFoundError):
            guarded(command)
    assert explain_os_error(OSError(errno.EACCES, "no")) is None


def test_any_command_ends_with_the_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with whole_file(tmp_path / "file" / "a.txt") as temporary:
            temporary.write_text("x")

    (tmp_path / "file").write_text("x")
    assert guarded(command) == 2
    assert f"{tmp_path / 'file'} is a file, and a folder is needed there\n  Fix: " in capsys.readouterr().err


def test_a_name_of_the_greatest_length_is_written(tmp_path: Path) -> None:
    """The temporary name was longer than the name, and too long where that just fits."""
    path = tmp_path / ("x" * 251 + ".txt")
    with whole_file(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("x")
    assert path.read_text() == "x"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where no folder can be made")
def test_a_folder_that_takes_no_folders(tmp_path: Path) -> None:
    with pytest.raises(DfkitError, match="/proc takes no new folders"):
        check_output_folder("/proc/dfkit/runs")
    done = run("prepare", tmp_path, "-w", "/proc/dfkit", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "/proc" in done.stderr
    with contextlib.suppress(DfkitError):
        check_output_folder(tmp_path / "new")
    assert not list(tmp_path.iterdir()), "nothing is made or left by looking"
