"""The program over a forge's folder, as a user calls it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from dfkit.config.forge import DEFAULT_METHODS
from tests.forge.conftest import Forged
from tools.forge.fairness import SignTest
from tools.forge_check import main, report_fairness


def test_a_folder_is_counted_drawn_and_tested(
    forged: Forged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, videos = tmp_path / "sheet.png", tmp_path / "videos"
    options = ["--method", "face_swap", "--sheet", str(sheet), "--rows", "1", "--side-by-side", str(videos)]
    assert main([str(forged.out_dir), *options, "--fairness"]) == 0
    printed = capsys.readouterr().out
    assert f"{2 * len(DEFAULT_METHODS)} forgeries" in printed and "face_swap 2" in printed and "loudness_db" in printed
    assert cv2.imread(str(sheet)).shape[0] == 22 + 600 + 6, "one block"
    assert len(list(videos.glob("*-face_swap.mp4"))) == 2


def test_reposts_get_folders_of_their_own(forged: Forged, tmp_path: Path) -> None:
    for name in ("labels.csv", "forged.jsonl", "videos"):
        source = forged.out_dir / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(lines[:2]) + "\n")
    assert main([str(tmp_path), "--repost", "crf35"]) == 0
    assert [path.name for path in (tmp_path / "reposts").iterdir()] == ["crf35"]
    assert len(list((tmp_path / "reposts" / "crf35" / "videos").iterdir())) == 1


def test_files_that_differ_end_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_fairness([SignTest("fps", 0, 0, 9, 1.0), SignTest("size_bytes", 9, 0, 0, 2 / 512)]) == 1
    assert report_fairness([SignTest("fps", 0, 0, 9, float("nan"))]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_folder_without_forgeries_ends_with_two(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.forge_check", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 2
    assert "Fix: run: dfkit forge" in done.stderr and "Traceback" not in done.stderr
