from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfkit.demo import grid
from dfkit.errors import DataError
from dfkit.files import CACHE_VARIABLE


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No clips beside the checkout, an empty cache."""
    monkeypatch.setenv(grid.SHARED_VARIABLE, "none")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "grid"


@pytest.fixture
def server(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The public repository, on this machine."""
    root = tmp_path / "www"
    for clip in grid.grid_clips():
        target = root / clip.source_path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shared / "clips" / clip.name, target)
        target.chmod(0o644)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(grid, "BASE_URL", f"http://127.0.0.1:{running.server_port}/")
        yield root
        running.shutdown()


def test_real_clips_are_read_in_place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(grid.SHARED_VARIABLE, str(shared))
    videos = grid.demo_videos("auto", tmp_path / "out")
    assert videos.source == "real"
    assert [path.parent for path in videos.paths] == [shared / "clips"] * 8
    with videos.labels_csv.open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["group"] for row in rows}) == 8
    assert all(Path(row["path"]).is_file() for row in rows)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.csv"], "no clip is copied"


def test_what_is_missing_is_downloaded_once_into_the_cache(nowhere: Path, server: Path) -> None:
    files, _ = grid.find_grid()
    assert files is not None
    assert {path.parent for path in files} == {nowhere}
    shutil.rmtree(server)
    again, note = grid.find_grid()
    assert again == files
    assert str(nowhere) in note


def test_a_file_with_other_content_is_refused(nowhere: Path, server: Path) -> None:
    (server / grid.grid_clips()[3].source_path).write_bytes(b"something else")
    files, reason = grid.find_grid()
    assert files is None
    assert "SHA-256" in reason
    assert not (nowhere / grid.grid_clips()[3].name).exists()


@pytest.mark.timeout(120)  # against hanging only
def test_a_server_that_does_not_answer_costs_the_time_limit_and_no_more(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(grid, "BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        monkeypatch.setattr(grid, "DOWNLOAD_LIMIT_S", 0.5)
        files, reason = grid.find_grid()
        silent.settimeout(0)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
    assert files is None
    assert re.fullmatch(r"download took longer than 0\.5 s|download failed: .*timed out.*", reason)
    # The limit is for all eight files: once it is over, no further one is asked for.
    assert asked == 1


def test_real_without_clips_is_an_error_with_a_way_out(nowhere: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="DFKIT_SHARED"):
        grid.demo_videos("real", tmp_path, download=False)


def test_auto_without_clips_makes_heads_and_says_why(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "make_heads", lambda out, **_: [out / f"p{n}-0.mp4" for n in range(8)])
    videos = grid.demo_videos("auto", tmp_path, download=False)
    assert videos.source == "synthetic"
    assert "not at hand" in videos.note
    with videos.labels_csv.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == [f"p{n}" for n in range(8)]
    assert [row["split"] for row in rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2


def test_the_table_of_clips_and_the_examples_agree() -> None:
    with (Path(__file__).parents[2] / "examples" / "clips.csv").open() as file:
        listed = {row["path"]: row["sha256"] for row in csv.DictReader(file)}
    assert listed == {clip.name: clip.sha256 for clip in grid.grid_clips()}
