"""How the work of a forging run is shared out and put together again; the files are text, nothing is forged."""

from __future__ import annotations

import csv
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from dfkit.errors import DataError
from dfkit.forge import ForgeConfig, ForgeSource, forge
from dfkit.forge.job import ForgeRecord, JobResult, SourceFile
from dfkit.forge.plan import Job

VICTIM = "victim.mp4"
NUM_SOURCES = 300
MODULE = sys.modules[forge.__module__]  # as an attribute of its package the name is the function's


class CountedName(str):
    """A path's text that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedName.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def die_on_victim(job: Job, files: tuple[SourceFile, ...], **_: Any) -> JobResult:
    """In place of `run_job`: ends its process, as the system does where memory is short."""
    if files[job.source].path.name == VICTIM:
        os.kill(os.getpid(), signal.SIGKILL)
    return JobResult(str(files[job.source].path))


def answer(job: Job, files: tuple[SourceFile, ...], **_: Any) -> JobResult:
    """In place of `run_job`: a record of a file that is not made."""
    source = files[job.source]
    record = ForgeRecord(
        path=f"videos/{source.path.name}",
        label="fake",
        group=job.cell,
        groups=(job.cell, *source.ids),
        method="audio_shift",
        fake_start_s=None,
        fake_end_s=None,
        start_frame=0,
        end_frame=50,
        num_frames=50,
        source=str(source.path),
        donor=None,
        person=source.person,
        face_of=source.person,
        sound=source.person,
        parameters={},
        seed=0,
        bytes_before_filling=0,
        size_bytes=0,
    )
    return JobResult(CountedName(source.path), (record,))


def write_sources(folder: Path, names: list[str]) -> list[ForgeSource]:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    return [ForgeSource(folder / name, name, 0) for name in names]


def test_a_worker_that_dies_is_a_message_with_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the traceback of a broken process pool, which names no video."""
    monkeypatch.setattr(MODULE, "run_job", die_on_victim)
    sources = write_sources(tmp_path / "in", [VICTIM])
    with pytest.raises(DataError, match=rf"worker process was ended .* {VICTIM}\n  Fix: .* fewer --workers") as caught:
        forge(sources, tmp_path / "out", num_workers=2)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out" / "labels.csv").exists()


def test_results_stand_in_the_order_of_the_sources_and_are_not_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each result was looked up in a list of all sources: 45,000 comparisons for these 300."""
    monkeypatch.setattr(MODULE, "run_job", answer)
    names = [f"{number:03d}.mp4" for number in range(NUM_SOURCES)]
    sources = write_sources(tmp_path / "in", names)
    CountedName.comparisons = 0
    forge(sources[::-1], tmp_path / "out", ForgeConfig(seed=3))
    # A dictionary compares a key that is there once; equal hashes in another place are as good as none.
    assert CountedName.comparisons <= 2 * NUM_SOURCES
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8") as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == names
