"""Runs that are cut off: killed at any point, Ctrl-C, a full disk. Each is a real process."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dfkit.data import catalog
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData, verify
from dfkit.errors import DataError

NAMES = ("lipnet-bbaf2n.mpg", "lipnet-brbk7n.mpg", "lipnet-lbax4n.mpg")
LIMIT_S = 120

# The child prepares, and kills itself by `signal` when `target` is called for the `count`-th time.
CHILD = """
import importlib, os, signal, sys

def stop_at(target, count, name):
    module_name, _, attribute = target.partition(":")
    owner = importlib.import_module(module_name)
    *path, last = attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, last)
    calls = []
    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            {before}
        return original(*args, **kwargs)
    setattr(owner, last, wrapped)

# A shell that starts tests in the background lets its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    from dfkit.data.prepare import prepare
    from dfkit.errors import DfkitError
    source, out, workers, target, count, name = sys.argv[1:]
    if target:
        stop_at(target, int(count), name)
    try:
        prepare(source, out, num_workers=int(workers))
    except KeyboardInterrupt:
        sys.exit(130)
    except DfkitError as error:
        print(error)
        sys.exit(error.exit_code)
"""
KILL = "os.kill(os.getpid(), getattr(signal, name))"
GROUP = "os.killpg(0, getattr(signal, name))"


@pytest.fixture
def videos(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos" / "real"
    folder.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(shared / "clips" / name, folder / name)
    return folder.parent


def run_child(tmp_path: Path, *arguments: object, before: str = KILL, limit: str = "") -> subprocess.Popen[str]:
    script = tmp_path / "child.py"
    script.write_text(limit + textwrap.dedent(CHILD).replace("{before}", before))
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = child.communicate(timeout=LIMIT_S)
    return child.returncode, output


def test_killed_at_any_point_it_goes_on(videos: Path, tmp_path: Path) -> None:
    """One chain: each run is killed a little later than the one before; finished videos are never lost."""
    out = tmp_path / "out"
    points = [
        ("dfkit.data.shards:ChunkWriter.add", 2, 0),  # within the first video
        ("dfkit.data.shards:ChunkWriter._publish", 2, 1),  # the second video's chunk written, not yet renamed
        ("dfkit.data.catalog:dump_line", 2, 2),  # its chunk renamed at last, but the third's row not written
        ("dfkit.data.prepare_run:write_index", 1, 3),
        ("dfkit.data.catalog:write_videos", 1, 3),
    ]
    for target, count, finished in points:
        code, output = finish(run_child(tmp_path, videos, out, 1, target, count, "SIGKILL"))
        assert code == -signal.SIGKILL, output
        assert len(catalog.read_journal(out / catalog.JOURNAL_FILE)) == finished, target
        with pytest.raises(DataError, match="not finished"):
            PreparedData(out)
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("chunk-*")}
    summary = prepare(videos, out)
    assert (summary.num_prepared, summary.num_videos) == (0, 3)
    assert kept == {path.name: path.stat().st_mtime_ns for path in out.glob("chunk-*")}
    assert verify(out).num_clips == 6
    assert not list(out.glob(".tmp-*"))
    assert not (out / catalog.JOURNAL_FILE).exists()
    assert len(PreparedData(out)[5].face) == 50


def test_half_a_line_in_the_journal_is_no_row(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(run_child(tmp_path, videos, out, 1, "dfkit.data.prepare_run:write_index", 1, "SIGKILL"))
    journal = out / catalog.JOURNAL_FILE
    journal.write_text(journal.read_text(encoding="utf-8")[:-100], encoding="utf-8")
    summary = prepare(videos, out)
    assert summary.num_prepared == 1
    assert verify(out).num_clips == 6


def test_workers_do_not_outlive_a_killed_parent(videos: Path, tmp_path: Path) -> None:
    before = "print(*[p.pid for p in __import__('multiprocessing').active_children()], flush=True); " + KILL
    child = run_child(
        tmp_path, videos, tmp_path / "out", 2, "dfkit.data.catalog:dump_line", 1, "SIGKILL", before=before
    )
    assert child.stdout is not None
    pids = []
    while not pids:
        line = child.stdout.readline()
        assert line, "the child ended without its workers' numbers"
        pids = [int(part) for part in line.split() if part.isdigit()]
    assert len(pids) == 2
    for pid in pids:
        wait_for_end(pid)
    finish(child)
    assert prepare(videos, tmp_path / "out").statuses == {"ok": 3}


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([descriptor], [], [], LIMIT_S)
    os.close(descriptor)
    assert ready, f"worker {pid} lives on"


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_nothing_half_written(videos: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    # Ctrl-C goes to all processes of the terminal at once.
    target = "dfkit.data.shards:ChunkWriter._publish" if workers == 1 else "dfkit.data.catalog:dump_line"
    code, output = finish(run_child(tmp_path, videos, out, workers, target, 2, "SIGINT", before=GROUP))
    assert code == 130, output
    assert "Traceback" not in output
    assert not list(out.glob(".tmp-*"))
    with pytest.raises(DataError, match="not finished"):
        PreparedData(out)
    summary = prepare(videos, out)
    assert 0 < summary.num_prepared < 3
    assert verify(out).num_clips == 6
    assert not list(out.glob(".tmp-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk(videos: Path, tmp_path: Path, workers: int) -> None:
    """A limit on file sizes stands in for a full disk: the same call fails in the same place."""
    pytest.importorskip("resource", reason="file size limits are POSIX only")
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
    out = tmp_path / "out"
    code, output = finish(run_child(tmp_path, videos, out, workers, "", 0, "", limit=limit))
    assert code == 2, output
    assert "no space left" in output
    assert "Fix: free space" in output
    assert not list(out.glob("chunk-*"))
    assert not list(out.glob(".tmp-*"))
    assert prepare(videos, out).statuses == {"ok": 3}
    assert verify(out).num_clips == 6
    assert not list(out.glob(".tmp-*"))
