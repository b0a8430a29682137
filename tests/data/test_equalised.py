"""`prepare --equalise`: what the catalog says, what a second call does, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.data.catalog import VideoRow, parse_info
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError
from dfkit.files import TEMPORARY_PREFIX
from dfkit.media.equalise_spec import EqualiseSpec
from dfkit.synthetic.heads import make_heads
from dfkit.workspace import Workspace
from tests.data.makers import make_video, write_csv

SPEC = EqualiseSpec()


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads, one of them called fake within an interval, and a video without a face."""
    folder = tmp_path_factory.mktemp("videos")
    heads = make_heads(folder, num_speakers=2, seconds=2.4, seed=6)
    faceless = make_video(folder / "faceless.mp4")
    rows = [
        [head.name, label, f"g{number}", "", ""] for number, (head, label) in enumerate(zip(heads, "01", strict=True))
    ]
    rows[1][3:] = ["0.0", "1.0"]
    rows.append([faceless.name, "0", "g9", "", ""])
    return write_csv(folder / "own.csv", ["path", "label", "group", "fake_start_s", "fake_end_s"], rows)


@pytest.fixture(scope="module")
def prepared(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("workspace") / "data" / "own-equalised"
    prepare(labels.parent, out, labels=labels, equalise=SPEC, keep=True, progress=False)
    return out


def test_the_catalog_says_so(prepared: Path, labels: Path) -> None:
    data = PreparedData(prepared)
    assert data.info.equalised == SPEC
    assert data.info.form.startswith("equalised (version 1): faces 96 px wide")
    assert parse_info(json.dumps(data.info.to_json()), "here") == data.info
    usable = [row for row in data.videos if row.status == "ok"]
    assert len(usable) == 2
    for row in usable:
        assert row.path == str(labels.parent / row.name) == row.facts["path"]
        assert (row.facts["width"], row.facts["audio_sample_rate"]) == (SPEC.side_px, SPEC.sample_rate)
        assert row.equalised is not None and (prepared / row.equalised["file"]).is_file()
        assert row.read is not None and row.read["missing"] is None
    assert [row.status for row in data.videos if row.name == "faceless.mp4"] == ["no_face"]
    assert not any(path.name.startswith(TEMPORARY_PREFIX) for path in prepared.rglob("*"))


def test_nothing_is_done_twice_and_lost_files_are_made_again(prepared: Path, labels: Path) -> None:
    again = prepare(labels.parent, prepared, labels=labels, equalise=SPEC, keep=True, progress=False)
    assert again.unchanged
    lost = next((prepared / "equalised").iterdir())
    content = lost.read_bytes()
    lost.unlink()
    prepare(labels.parent, prepared, labels=labels, equalise=SPEC, keep=True, progress=False)
    assert lost.read_bytes() == content


def test_without_keep_nothing_is_left(labels: Path, tmp_path: Path) -> None:
    (head, *_) = sorted(labels.parent.glob("*.mp4"))
    prepare([head], tmp_path / "out", equalise=SPEC, unlabelled=True, progress=False)
    assert not list((tmp_path / "out").rglob("*.mp4"))
    assert [row.equalised["file"] for row in PreparedData(tmp_path / "out").videos if row.equalised] == [None]


def test_raw_and_equalised_do_not_share_a_folder(prepared: Path, labels: Path) -> None:
    with pytest.raises(DataError, match="holds equalised data, and raw data is asked for"):
        prepare(labels.parent, prepared, labels=labels, progress=False)


def test_it_is_taken_only_by_name(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared data in data/\n.*or name the equalised data: .*own-equalised"):
        Workspace(prepared.parent.parent).newest_data()


def test_intervals_follow_the_cut(prepared: Path) -> None:
    row = next(row for row in PreparedData(prepared).videos if row.intervals)
    cut = {**row.to_json(), "equalised": {**(row.equalised or {}), "cut_s": 0.4}}
    assert row.intervals == ((0.0, 1.0),)
    assert VideoRow.from_json(cut).shown_intervals == ((0.0, pytest.approx(0.6)),)


def test_stored_frames_follow_the_cut(prepared: Path) -> None:
    data = PreparedData(prepared)
    position, row = next((number, row) for number, row in enumerate(data.videos) if row.intervals)
    assert row.equalised is not None
    fake_frames = sum(data[index].frame_labels.sum() for index in data.clip_indices([position])[:1])
    assert fake_frames == round((1.0 - row.equalised["cut_s"]) * 25)


def test_keep_needs_equalise(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--keep keeps equalised videos"):
        pipeline.prepare([labels.parent], Workspace(tmp_path), keep=True)
