"""`prepare` on a real local Ray cluster of two workers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dfkit.clip import CLIP2S
from dfkit.data.executors import run_ray
from dfkit.data.jobs import VideoJob
from dfkit.data.labels import Source
from dfkit.data.prepare import prepare
from dfkit.data.storage import PreparedData, verify
from tests.data.makers import prepare_and_die_once

NAMES = ("lipnet-bbaf2n.mpg", "lipnet-brbk7n.mpg", "lipnet-lbax4n.mpg")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def videos(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(shared / "clips" / name, folder / name)
    return folder


def test_same_shards_as_on_this_machine(cluster: None, videos: Path, tmp_path: Path) -> None:
    summary = prepare(videos, tmp_path / "ray", executor="ray", num_workers=2, unlabelled=True)
    assert summary.statuses == {"ok": 3}
    prepare(videos, tmp_path / "here", unlabelled=True)
    chunks = [PreparedData(tmp_path / name).chunks() for name in ("ray", "here")]
    assert chunks[0] == chunks[1]
    assert prepare(videos, tmp_path / "ray", unlabelled=True).unchanged


@pytest.mark.long
def test_a_killed_worker_costs_nothing(cluster: None, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    jobs = [VideoJob(Source(path, None), CLIP2S, out) for path in sorted(videos.iterdir())]
    rows = list(run_ray(jobs, 2, prepare_and_die_once))
    assert (out / ".died").exists()
    assert sorted(row.name for row in rows) == sorted(NAMES)
    assert {row.status for row in rows} == {"ok"}
    shutil.rmtree(out)
    prepare(videos, out, unlabelled=True)
    assert verify(out).num_chunks == 3
    assert {c.sha256 for row in rows for c in row.chunks} == {c.sha256 for c in PreparedData(out).chunks()}
