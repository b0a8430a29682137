from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dfkit.errors import BundleError, ConfigError, DfkitError, MissingExtraError
from dfkit.files import write_atomically
from dfkit.runtime.answers import CSV_COLUMNS, Answer
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.predict import exit_code, find_videos, plot_target, predict_videos
from tests.runtime.fixtures import SpoiltGraphs


@pytest.fixture
def folder(talk: Path, tmp_path: Path) -> Path:
    """Good and bad files, Korean names and spaces, a subfolder, something that is no video."""
    inside = tmp_path / "videos"
    (inside / "더 깊이").mkdir(parents=True)
    shutil.copy(talk, inside / "더 깊이" / "말하는 얼굴.MPG")
    shutil.copy(talk, inside / "b c.mpg")
    (inside / "a.mp4").write_text("no video")
    (inside / "notes.txt").write_text("left alone")
    return inside


def test_bad_files_never_stop_the_rest(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    seen: list[Answer] = []
    table = tmp_path / "out" / "결과.csv"
    results = predict_videos([folder, tmp_path / "missing.mp4"], tiny_bundle, csv_path=table, watch=seen.append)
    assert results == seen
    assert [r.status for r in results] == ["unreadable", "ok", "ok", "unreadable"]
    assert [Path(r.video).name for r in results] == ["a.mp4", "b c.mpg", "말하는 얼굴.MPG", "missing.mp4"]
    assert results[1].content["p_fake"] == results[2].content["p_fake"]
    assert exit_code(r.status for r in results) == 0
    json.dumps([r.to_json() for r in results], allow_nan=False)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["status"] for row in rows] == ["unreadable", "ok", "ok", "unreadable"]
    assert rows[0]["p_fake"] == "" and "a.mp4" in rows[0]["reason"]
    assert Path(rows[2]["video"]).name == "말하는 얼굴.MPG"
    assert float(rows[2]["p_fake"]) == results[2].content["p_fake"]
    assert (rows[2]["num_tracks"], rows[2]["num_clips"]) == ("1", "2")
    assert results[2].result is not None
    worst = results[2].result.worst_clip
    assert worst is not None and rows[2]["worst_track"] == "0"
    assert float(rows[2]["worst_clip_start_s"]) == worst.start_s
    assert float(rows[2]["worst_clip_p_fake"]) == pytest.approx(worst.p_fake, abs=1e-6)
    assert [rows[0][name] for name in CSV_COLUMNS if name.startswith("worst_")] == ["", "", ""]
    assert [len(line) > 0 for r in results for line in r.summary()] == [True] * 4


def test_only_unreadable_files_are_exit_code_2(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("no video")
    assert exit_code(r.status for r in predict_videos([tmp_path / "x.mp4"], tiny_bundle)) == 2


def test_a_video_that_the_model_fails_on_gets_its_own_status_and_the_rest_is_scored(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, talk: Path
) -> None:
    """One NaN ended `predict` for all files: no result, no table, and the rest was never looked at."""
    # Each copy of the talk has two clips; the answer to the first one of the second copy is spoilt.
    graphs = SpoiltGraphs(open_backend(tiny_bundle), spoilt=range(2, 3))
    detector = Detector(tiny_bundle, graphs=graphs)
    table, plots = tmp_path / "out.csv", tmp_path / "p.png"
    results = predict_videos([folder, talk], detector, csv_path=table, plot_path=plots)
    assert [r.status for r in results] == ["unreadable", "ok", "model_error", "ok"]
    failed = results[2].result
    assert failed is not None
    assert (failed.verdict, failed.p_fake, failed.tracks) == (None, None, ())
    assert failed.reason is not None and str(tiny_bundle.path) in failed.reason and "dfkit verify" in failed.reason
    assert results[1].content["p_fake"] == results[3].content["p_fake"]
    assert exit_code(r.status for r in results) == 2 and exit_code(results[n].status for n in (0, 1, 3)) == 0
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[2]["status"] == "model_error" and "NaN" in rows[2]["reason"] and len(rows) == 4
    assert len(list(tmp_path.glob("p_*.png"))) == 4
    json.dumps([r.to_json() for r in results], allow_nan=False)


def test_find_videos(folder: Path, tmp_path: Path) -> None:
    named = folder / "notes.txt"
    found = find_videos([named, folder, folder / "b c.mpg"])
    assert [p.name for p in found] == ["notes.txt", "a.mp4", "b c.mpg", "말하는 얼굴.MPG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty holds no video"):
        find_videos([tmp_path / "empty"])
    with pytest.raises(ConfigError, match="no video was named"):
        find_videos([])


def test_a_broken_bundle_stops_before_any_video(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        predict_videos([folder], tmp_path / "nowhere")


def test_plots_of_good_and_bad_files(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    import cv2

    predict_videos([folder], tiny_bundle, plot_path=tmp_path / "plots" / "p.png")
    made = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert made == ["p_1_a.png", "p_2_b c.png", "p_3_말하는 얼굴.png"]
    picture = cv2.imdecode(np.frombuffer((tmp_path / "plots" / made[1]).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 1000 and picture.std() > 20
    predict_videos([folder / "b c.mpg"], tiny_bundle, plot_path=tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_plot_target_tells_files_apart(tmp_path: Path) -> None:
    assert plot_target("a/o.png", Path("v/x.mp4"), number=1, total=1) == Path("a/o.png")
    twins = [plot_target("o.png", Path(f"{f}/x.mp4"), number=n, total=2) for n, f in ((1, "a"), (2, "b"))]
    assert twins == [Path("o_1_x.png"), Path("o_2_x.png")]


def test_plotting_is_checked_before_any_video(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no figure file"):
        predict_videos([folder], tiny_bundle, plot_path=tmp_path / "p.docx")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"dfkit\[plot\]"):
        predict_videos([folder], tiny_bundle, plot_path=tmp_path / "p.png")


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "결과.txt"
    write_atomically(target, "하나")
    assert target.read_text(encoding="utf-8") == "하나"
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(DfkitError, match=r"cannot be written(.|\n)*Fix: "):
        write_atomically(blocked / "out.csv", "")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(DfkitError, match="cannot be written"):
        write_atomically(tmp_path / "taken.csv", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "sub", "taken.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    plain = Path.write_bytes

    def to_full_disk(self: Path, data: bytes) -> int:
        plain(self, data[: len(data) // 2])
        return plain(Path("/dev/full"), data)

    monkeypatch.setattr(Path, "write_bytes", to_full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_other_containers_in_a_folder_are_scored(
    tiny_bundle: Bundle, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only eight suffixes were looked for; the rest was passed over without a word."""
    for suffix in (".ts", ".wmv", ".3gp"):
        shutil.copy(shared / "cases" / f"base{suffix}", tmp_path)
    (tmp_path / "app.ts").write_text("export {}\n")
    (tmp_path / ".hidden.mp4").write_text("not looked at")
    results = predict_videos([tmp_path], tiny_bundle)
    assert [(Path(result.video).name, result.status) for result in results] == [
        ("base.3gp", "ok"),
        ("base.ts", "ok"),
        ("base.wmv", "ok"),
    ]
    said = "left out: 1 (hidden), 1 .ts (no MPEG transport stream (TypeScript?))"
    assert said in capsys.readouterr().err
    assert find_videos([tmp_path / "*.ts"]) == [tmp_path / "app.ts", tmp_path / "base.ts"]
    with pytest.raises(ConfigError, match=r"no file matches the pattern .*\*\.mov\n  Fix:"):
        find_videos([tmp_path / "*.mov"])
