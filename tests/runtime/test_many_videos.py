"""Many videos: nothing that was scored is lost, and no file stops another."""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from dfkit.errors import ConfigError, DfkitError
from dfkit.runtime import one_video
from dfkit.runtime.answers import CSV_COLUMNS, Answer
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.predict import PredictOptions, check_places, predictions
from tests.interrupt import hear_ctrl_c
from tests.runtime.bundles import write_bundle
from tests.runtime.stand_in_detectors import open_detector

LIMIT_S = 120.0


class CountingDetector(Detector):
    """Counts the files that it is given."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.asked: list[str] = []

    def detect(self, path, *, watch=None):  # type: ignore[no-untyped-def]
        self.asked.append(Path(path).name)
        return super().detect(path, watch=watch)


@pytest.fixture
def videos(talk: Path, tmp_path: Path) -> list[Path]:
    """Two that are scored, and one that is text."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mpg", "c.mpg"):
        shutil.copy(talk, folder / name)
    (folder / "b.mp4").write_text("no video")
    return sorted(folder.iterdir())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_command_scores_what_is_missing_or_changed(
    tiny_bundle: Bundle, videos: list[Path], tmp_path: Path, talk: Path
) -> None:
    options = PredictOptions(csv_path=tmp_path / "o.csv", jsonl_path=tmp_path / "o.jsonl")
    detector = CountingDetector(tiny_bundle)
    stopped = predictions(videos, detector, options)
    first = next(stopped)
    assert [row["video"] for row in rows_of(tmp_path / "o.csv")] == [first.video], "there before the second is scored"
    stopped.close()
    # A kill in the middle of a write leaves a part of a line.
    with (tmp_path / "o.csv").open("a") as file:
        file.write(f"{videos[1]},unread")
    answers = list(predictions(videos, detector, options))
    assert detector.asked == ["a.mpg", "b.mp4", "c.mpg"]
    assert [answer.video for answer in answers] == [str(video) for video in videos]
    assert answers[0].result is None and answers[0].to_json() == first.to_json()
    assert "kept from" in answers[0].summary()[0] and f"p_fake {first.content['p_fake']:.3f}" in answers[0].summary()[0]
    lines = (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [answer.to_json() for answer in answers]
    table = rows_of(tmp_path / "o.csv")
    assert tuple(table[0]) == CSV_COLUMNS and [row["video"] for row in table] == [str(video) for video in videos]
    before = (tmp_path / "o.csv").read_bytes()
    list(predictions(videos, detector, options))
    assert len(detector.asked) == 3 and (tmp_path / "o.csv").read_bytes() == before
    shutil.copy(talk, videos[1])
    again = list(predictions(videos, detector, options))
    assert detector.asked[3:] == ["b.mp4"] and [answer.status for answer in again] == ["ok"] * 3


def test_a_row_of_a_table_is_no_whole_answer(tiny_bundle: Bundle, videos: list[Path], tmp_path: Path) -> None:
    """`--json` wants tracks and frames, which a table does not hold, and a figure that is not there is drawn."""
    detector = CountingDetector(tiny_bundle)
    options = PredictOptions(csv_path=tmp_path / "o.csv")
    list(predictions(videos[:1], detector, options))
    whole = PredictOptions(csv_path=tmp_path / "o.csv", whole=True)
    (answer,) = predictions(videos[:1], detector, whole)
    assert answer.result is not None and len(detector.asked) == 2
    plotted = PredictOptions(csv_path=tmp_path / "o.csv", plot_path=tmp_path / "o.png")
    for count in (3, 3):
        list(predictions(videos[:1], detector, plotted))
        assert len(detector.asked) == count and (tmp_path / "o.png").is_file()


def test_another_threshold_is_another_model(tiny_bundle: Bundle, videos: list[Path], tmp_path: Path) -> None:
    options = PredictOptions(csv_path=tmp_path / "o.csv")
    list(predictions(videos[:2], Detector(tiny_bundle), options))
    point = {"threshold": 0.6, "review_low": 0.55, "review_high": 0.65, "name": "chosen by hand"}
    other = Detector(write_bundle(tmp_path / "other", operating_point=point))
    with pytest.raises(ConfigError, match=r"holds rows scored by tiny-\w{16}, and this is tiny-\w{16}"):
        predictions(videos[:2], other, options)
    with pytest.raises(ConfigError, match="scored by"):
        predictions(videos[:2], Detector(tiny_bundle, backend="onnx"), options)
    assert len(rows_of(tmp_path / "o.csv")) == 2


def test_whatever_a_decoder_does_costs_one_file_alone(
    tiny_bundle: Bundle,
    videos: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hangs, crashes, and errors of any type; what another try may better is tried again by the next run."""
    folder = videos[0].parent
    for name in ("crash.mpg", "hang.mpg", "memory.mpg", "odd.mpg"):
        shutil.copy(videos[0], folder / name)
    named = sorted(folder.iterdir())
    options = PredictOptions(csv_path=tmp_path / "o.csv", killable=True)
    # On a busy machine the others may take any time.
    monkeypatch.setattr(one_video, "time_limit_s", lambda path, _: 1.0 if path.stem == "hang" else None)
    reopen = partial(open_detector, tiny_bundle.path)
    with caplog.at_level(logging.WARNING):
        answers = {Path(answer.video).name: answer for answer in predictions(named, reopen(), options, reopen=reopen)}
    assert list(answers) == [path.name for path in named]
    assert {name: answer.status for name, answer in answers.items()} == {
        "a.mpg": "ok", "b.mp4": "unreadable", "c.mpg": "ok", "crash.mpg": "unreadable", "hang.mpg": "unreadable",
        "memory.mpg": "unreadable", "odd.mpg": "unreadable",
    }  # fmt: skip
    expected = {
        "hang.mpg": "given up after 1 s",
        "crash.mpg": "ended the process twice",
        "memory.mpg": "not enough memory",
        "odd.mpg": "OddDecoderError: line one line two",
    }
    for name, reason in expected.items():
        assert reason in answers[name].content["reason"] and "Fix: " in answers[name].content["reason"]
    finished = {Path(row["video"]).name for row in rows_of(tmp_path / "o.csv") if row["scored_by"]}
    assert finished == {"a.mpg", "b.mp4", "c.mpg"}
    assert not multiprocessing.active_children()


def test_an_unforeseen_error_shows_where_it_was_raised_if_asked(
    tiny_bundle: Bundle, videos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Path(shutil.copy(videos[0], videos[0].with_name("odd.mpg")))
    for debug in (False, True):
        (answer,) = predictions([odd], open_detector(tiny_bundle.path), PredictOptions(debug=debug))
        assert answer.status == "unreadable"
        assert ("stand_in_detectors.py" in capsys.readouterr().err) == debug


def test_two_workers_give_what_one_gives(tiny_bundle: Bundle, videos: list[Path], tmp_path: Path) -> None:
    reopen = partial(Detector, tiny_bundle.path)

    def answers(num_workers: int) -> list[Answer]:
        table = tmp_path / f"{num_workers}.csv"
        options = PredictOptions(csv_path=table, num_workers=num_workers)
        return list(predictions(videos, reopen(), options, reopen=reopen))

    one, two = answers(1), answers(2)
    assert [answer.to_json() for answer in one] == [answer.to_json() for answer in two]
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    with pytest.raises(ConfigError, match="cannot be sent to other processes"):
        predictions(videos, reopen(), PredictOptions(num_workers=2))


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a group of processes")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_closes_the_array_and_ends_the_workers(tiny_folder: Path, videos: list[Path], workers: int) -> None:
    # Far more than a busy machine answers before the signal comes: how many that is depends on no one.
    copies = _copies(videos[0], 300)
    command = [sys.executable, "-m", "dfkit", "predict", *map(str, copies)]
    process = subprocess.Popen(
        [*command, "--bundle", str(tiny_folder), "--workers", str(workers), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("  }"):
            os.killpg(process.pid, signal.SIGINT)
            break
    said += process.stdout.read()
    errors = process.stderr.read()
    assert process.wait(LIMIT_S) == 130, errors
    assert 1 <= len(json.loads(said)) < len(copies) and "Traceback" not in errors
    wait_for_end(process.pid)


def wait_for_end(group: int) -> None:
    """Waits until nobody is left in a group of processes; the last is multiprocessing's own tracker."""
    end_s = time.monotonic() + LIMIT_S
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end_s:
            os.killpg(group, 0)
            threading.Event().wait(0.05)


def _copies(video: Path, count: int) -> list[Path]:
    return [Path(shutil.copy(video, video.with_name(f"copy{number}.mpg"))) for number in range(count)]


def test_places_are_checked_before_a_model_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    (tmp_path / "taken.csv").mkdir()
    cases = [
        (PredictOptions(csv_path=tmp_path / "taken.csv"), r"taken.csv cannot be written: it is a folder"),
        (
            PredictOptions(jsonl_path=file / "o.jsonl"),
            r"file is a file, and a folder is needed there(.|\n)*move .*file",
        ),
        (PredictOptions(csv_path=tmp_path / ("x" * 300)), "too long for this disk(.|\n)*shorter name"),
        (PredictOptions(plot_path=tmp_path / "o.bmp"), "is no figure file"),
        (PredictOptions(plot_path=file / "o.png"), "a folder is needed there"),
        (PredictOptions(csv_path=Path(os.devnull)), "a pipe or a device"),
        (PredictOptions(csv_path=tmp_path / "o", jsonl_path=tmp_path / "o"), "one name"),
    ]
    for options, message in cases:
        with pytest.raises(DfkitError, match=message):
            check_places(options)
    check_places(PredictOptions(csv_path=tmp_path / "new" / "deep" / "o.csv", jsonl_path=tmp_path / ("x" * 250)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.csv"]
