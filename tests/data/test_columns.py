"""Further columns of a label file: kept with each video, and taken over again without preparing anything."""

from __future__ import annotations

import json
from pathlib import Path

from dfkit.clip import UNIFORM50
from dfkit.data.catalog import dump_line, parse_videos
from dfkit.data.labels import read_csv
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData
from tests.data.makers import make_row, make_video, write_csv


def write_labels(folder: Path, header: str, *cells: str) -> Path:
    rows = [[f"{n}.mp4", ["real", "fake"][n], cell] for n, cell in enumerate(cells)]
    return write_csv(folder / "labels.csv", ["path", "label", header], rows)


def columns_of(folder: Path) -> list[dict[str, str] | None]:
    return [row.columns for row in PreparedData(folder).videos]


def test_cells_reach_the_prepared_data_and_change_without_preparing_again(tmp_path: Path) -> None:
    for n in range(2):
        make_video(tmp_path / f"{n}.mp4", num_frames=50, seed=n)
    labels, out = write_labels(tmp_path, "Language ", "ko", " "), tmp_path / "out"
    first = prepare(tmp_path, out, spec=UNIFORM50, labels=labels)
    assert first.num_prepared == 2 and "further columns kept: language" in first.notes
    assert columns_of(out) == [{"language": "ko"}, {}]
    chunks = {path: path.stat().st_mtime_ns for path in out.glob("chunk-*")}
    write_labels(tmp_path, "language", "ko", "en")
    again = prepare(tmp_path, out, spec=UNIFORM50, labels=labels)
    assert again.num_prepared == 0
    assert columns_of(out) == [{"language": "ko"}, {"language": "en"}]
    assert {path: path.stat().st_mtime_ns for path in out.glob("chunk-*")} == chunks
    # A file that was copied over itself is read again, and found to be the same.
    (tmp_path / "0.mp4").touch()
    write_labels(tmp_path, "language", "de", "en")
    prepare(tmp_path, out, spec=UNIFORM50, labels=labels)
    assert columns_of(out)[0] == {"language": "de"}


def test_rows_of_one_file_join_their_cells(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    rows = [["a.mp4", "fake", 0, 1, "ko", "x"], ["a.mp4", "fake", 2, 3, "en", "x"], ["a.mp4", "fake", 4, 5, "ko", ""]]
    header = ["path", "label", "fake_start_s", "fake_end_s", "language", "site"]
    (source,) = read_csv(write_csv(tmp_path / "labels.csv", header, rows)).sources
    assert source.columns == {"language": "ko;en", "site": "x"}


def test_rows_of_before_have_no_columns() -> None:
    value = make_row(0, 1).to_json()
    del value["columns"]
    (row,) = parse_videos(json.dumps(value) + "\n", "here")
    assert row.columns is None and parse_videos(dump_line(row), "here") == [row]
